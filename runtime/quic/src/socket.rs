//! Endpoints on UDP sockets: kernel buffers that survive a storm of connects, and no more memory than a read can fill.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;

/// At the kernel's default of 212 KB, many clients connecting at once stall for seconds.
const BUFFER_BYTES: usize = 4 << 20;

/// A UDP socket bound to `address`, with 4 MiB buffers where the system allows it.
///
/// # Errors
/// Whatever the system says, for instance that the address is in use.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel caps these silently; a smaller buffer is slower, not wrong.
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// An endpoint on `socket`; must be called within a tokio runtime.
///
/// # Errors
/// When the system does not let the socket be used asynchronously.
pub fn endpoint(
    config: EndpointConfig,
    server: Option<ServerConfig>,
    socket: UdpSocket,
) -> io::Result<Endpoint> {
    let segments = UDP_BYTES_MAX / usize::try_from(config.get_max_udp_payload_size()).unwrap_or(1_200) + 1;
    let state = UdpSocketState::new((&socket).into())?;
    let socket = Socket { io: tokio::net::UdpSocket::from_std(socket)?, state, segments };
    Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), Arc::new(TokioRuntime))
}

/// What the kernel hands over at once, also of several datagrams together.
const UDP_BYTES_MAX: usize = 64 << 10;

/// As quinn's own, but for two things.
///
/// quinn reserves the largest datagram for each of 64 that a read may bring together: 13 MB where they cannot exceed
/// 64 KiB, and they are written to if the allocator gives memory that was used before.
///
/// A send may fail with what the network said of another peer ([`Unreachable`](crate::Unreachable)): it is done again then.
#[derive(Debug)]
struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    segments: usize,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || match self.state.try_send((&self.io).into(), transmit) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                // What fails twice is logged, and lost: the peer is sent it again.
                self.state.send((&self.io).into(), transmit)
            }
            sent => sent,
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            // What the network said of a peer is no failure of the socket, and is told once.
            if let Ok(received) =
                self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta))
            {
                return Poll::Ready(Ok(received));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments().min(self.segments)
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits for a socket to take more; each connection has its own. What is kept is only a wait that did not end at once.
struct Writable {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = &mut *self;
        if waiting.is_none()
            && let Poll::Ready(done) = std::pin::pin!(socket.io.writable()).poll(cx)
        {
            return Poll::Ready(done);
        }
        let future = waiting.get_or_insert_with(|| {
            let socket = Arc::clone(socket);
            Box::pin(async move { socket.io.writable().await })
        });
        let done = ready!(future.as_mut().poll(cx));
        *waiting = None;
        Poll::Ready(done)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

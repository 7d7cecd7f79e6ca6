//! Endpoints on UDP sockets: kernel buffers that survive a storm of connects, and no more memory than a read can fill.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Endpoint, EndpointConfig, Runtime as _, ServerConfig, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use socket2::{Domain, Protocol, Socket, Type};

/// At the kernel's default of 212 KB, many clients connecting at once stall for seconds.
const BUFFER_BYTES: usize = 4 << 20;

/// A UDP socket bound to `address`, with 4 MiB buffers where the system allows it.
///
/// # Errors
/// Whatever the system says, for instance that the address is in use.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
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
    let socket = Bounded { inner: TokioRuntime.wrap_udp_socket(socket)?, segments };
    Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), Arc::new(TokioRuntime))
}

/// What the kernel hands over at once, also of several datagrams together.
const UDP_BYTES_MAX: usize = 64 << 10;

/// quinn reserves the largest datagram for each of 64 that a read may bring together: 13 MB where they cannot exceed
/// 64 KiB, and they are written to if the allocator gives memory that was used before.
#[derive(Debug)]
struct Bounded {
    inner: Arc<dyn AsyncUdpSocket>,
    segments: usize,
}

impl AsyncUdpSocket for Bounded {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments().min(self.segments)
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

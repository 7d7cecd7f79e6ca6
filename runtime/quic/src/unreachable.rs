//! Peers of which the network says that nobody listens at their address any more: a process that died, on a machine that
//! lives, has its datagrams answered by ICMP "port unreachable". Linux tells it on the error queue of a socket that asks
//! for it; elsewhere nothing is told. Anyone can forge such an answer: it is a reason to ask the peer, and no more.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

/// Where it is told.
#[derive(Debug)]
pub struct Unreachable {
    #[cfg(target_os = "linux")]
    queue: linux::Queue,
}

impl Unreachable {
    /// Has it told of what is sent over `socket`. Must be called within a tokio runtime.
    ///
    /// A send or read of the socket may then fail once with what the network said; quinn's socket tries again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn watch(socket: &UdpSocket) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        return Ok(Self { queue: linux::Queue::of(socket)? });
        #[cfg(not(target_os = "linux"))]
        {
            let _ = socket;
            Ok(Self {})
        }
    }

    /// Waits until something is told, and gives the addresses, each once for each time. Cancel-safe.
    ///
    /// # Errors
    /// When the system does not let the socket be asked.
    pub async fn next(&mut self) -> io::Result<Vec<SocketAddr>> {
        #[cfg(target_os = "linux")]
        return self.queue.next().await;
        #[cfg(not(target_os = "linux"))]
        std::future::pending().await
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        io::{self, IoSliceMut},
        net::{SocketAddr, UdpSocket},
        os::fd::AsRawFd as _,
    };

    use nix::{
        cmsg_space,
        errno::Errno,
        libc::{self, sock_extended_err, sockaddr_in6},
        sys::socket::{
            AddressFamily, ControlMessageOwned, MsgFlags, SockaddrLike as _, SockaddrStorage, recvmsg,
            setsockopt, sockopt,
        },
    };
    use tokio::io::{Interest, unix::AsyncFd};

    /// Reports that are read before others have their turn.
    const REPORTS_MAX: usize = 256;

    #[derive(Debug)]
    pub(super) struct Queue {
        socket: AsyncFd<UdpSocket>,
    }

    impl Queue {
        pub(super) fn of(socket: &UdpSocket) -> io::Result<Self> {
            if socket.local_addr()?.is_ipv6() {
                setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
            }
            // Also of a socket that takes both, for peers of IPv4.
            setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
            // Errors wake in any case; anything else must not, and nothing of a UDP socket has priority.
            #[expect(
                deprecated,
                reason = "what follows it is unsafe; a UdpSocket keeps its descriptor, as both ask"
            )]
            let socket = AsyncFd::with_interest(socket.try_clone()?, Interest::PRIORITY)?;
            Ok(Self { socket })
        }

        pub(super) async fn next(&mut self) -> io::Result<Vec<SocketAddr>> {
            loop {
                let mut guard = self.socket.ready(Interest::ERROR).await?;
                let mut found = Vec::new();
                for _ in 0..REPORTS_MAX {
                    match read(guard.get_inner()) {
                        Ok(address) => found.extend(address),
                        Err(Errno::EINTR) => {}
                        Err(Errno::EAGAIN) => {
                            guard.clear_ready();
                            break;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                if !found.is_empty() {
                    return Ok(found);
                }
                // A queue of nothing but other errors must not keep the thread.
                tokio::task::yield_now().await;
            }
        }
    }

    /// The next error of the queue: the peer that is unreachable, if that is what it says.
    fn read(socket: &UdpSocket) -> Result<Option<SocketAddr>, Errno> {
        // The datagram that could not be delivered comes along, and what quinn asks of each that comes; none of it is needed.
        let (mut datagram, mut control) = ([0; 1], cmsg_space!(sock_extended_err, sockaddr_in6, [u8; 512]));
        let mut parts = [IoSliceMut::new(&mut datagram)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let Ok(mut told) = message.cmsgs() else { return Ok(None) };
        let unreachable = told.any(|told| match told {
            ControlMessageOwned::Ipv4RecvErr(error, _) => refused(&error, libc::SO_EE_ORIGIN_ICMP),
            ControlMessageOwned::Ipv6RecvErr(error, _) => {
                refused(&error, libc::SO_EE_ORIGIN_ICMP6) || refused(&error, libc::SO_EE_ORIGIN_ICMP)
            }
            _ => false,
        });
        // Where it was sent to.
        let address = message.address.filter(|_| unreachable);
        Ok(address.as_ref().and_then(address_of))
    }

    fn refused(error: &sock_extended_err, origin: u8) -> bool {
        error.ee_origin == origin && i32::try_from(error.ee_errno) == Ok(libc::ECONNREFUSED)
    }

    fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
        match address.family()? {
            AddressFamily::Inet => address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into())),
            AddressFamily::Inet6 => address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())),
            _ => None,
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A socket, and an address where nobody listens any more.
    fn sockets(ip: &str) -> (UdpSocket, SocketAddr) {
        let gone = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, gone)
    }

    #[tokio::test]
    async fn who_is_gone_is_told_and_who_listens_is_not() {
        for ip in ["127.0.0.1", "::1"] {
            let (socket, gone) = sockets(ip);
            let mut unreachable = Unreachable::watch(&socket).unwrap();
            // As it is used: an endpoint asks for more than the error.
            let out = socket.try_clone().unwrap();
            let _endpoint = crate::endpoint(crate::endpoint_config(), None, socket).unwrap();
            let there = UdpSocket::bind((ip, 0)).unwrap();
            for _ in 0..3 {
                out.send_to(b"?", there.local_addr().unwrap()).unwrap();
                out.send_to(b"?", gone).unwrap();
                let told = tokio::time::timeout(Duration::from_secs(30), unreachable.next()).await;
                assert_eq!(told.unwrap().unwrap(), [gone]);
            }
            // What is read is read, and nothing more wakes.
            let more = tokio::time::timeout(Duration::from_millis(100), unreachable.next()).await;
            assert!(more.is_err(), "{more:?}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_is_told_lives() {
        let (socket, gone) = sockets("127.0.0.1");
        let address = socket.local_addr().unwrap();
        // Nobody reads the queue: each error stays until a send or read of the endpoint meets it.
        let _unreachable = Unreachable::watch(&socket).unwrap();
        let out = socket.try_clone().unwrap();
        let endpoint = crate::endpoint(crate::endpoint_config(), None, socket).unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..20 {
            // May meet the error of the one before.
            let _ = out.send_to(b"?", gone);
            from.send_to(b"no QUIC", address).unwrap();
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        // It still sends: a connection attempt is answered by nobody, and not by "endpoint stopping".
        let crypto = rustls::ClientConfig::builder_with_provider(crate::crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
        let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
        let connecting = endpoint.connect_with(config, from.local_addr().unwrap(), "localhost").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), connecting).await.is_err());
        let mut initial = [0; 2_000];
        from.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert!(from.recv(&mut initial).unwrap() >= 1_200);
    }
}

//! UDP sockets with buffers that survive a storm of connects.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
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

//! Application codes with which connections are closed and streams are reset. The only list of them.

/// Why a connection was closed or a stream reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// Done; nothing is wrong.
    Done = 0,
    /// The peer broke the protocol; the reason text says how.
    Protocol = 1,
    /// The peer speaks another protocol version.
    Version = 2,
    /// A frame was above its limit.
    TooLarge = 3,
    /// No `Hello` came in time.
    HelloTimeout = 4,
    /// Too many connections or streams.
    Busy = 5,
    /// The broker is shutting down: reconnect later.
    ShuttingDown = 6,
    /// The broker's store is in doubt and the process stops.
    StoreUnsure = 7,
    /// The network says that nobody listens at the peer's address any more, and the peer did not answer.
    Vanished = 8,
}

impl CloseCode {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }
}

//! What both ends of a connection share: quinn's settings as measured, UDP sockets, and streams of frames.
//! Knows nothing of topics, subscriptions or certificates' meaning.

mod settings;
mod socket;
mod stream;
mod unreachable;

pub use settings::{
    TransportSettings, crypto_provider, endpoint_config, probe, server_endpoint_config, transport,
    transport_with,
};
pub use socket::{bind_udp, endpoint};
pub use stream::{FrameReader, FrameWriter, ReadError, WriteError};
pub use unreachable::Unreachable;

//! The protocol `millstream/1` between client and broker, without I/O: frames, messages, error codes.
//!
//! TLS 1.3 with the ALPN [`ALPN`]. Every bidirectional stream starts with one [`Open`] frame from the client:
//!
//! - the first stream of a connection carries [`Hello`] and is answered by [`Welcome`];
//! - a request stream carries one [`Request`] and one [`Answer`], then both sides finish;
//! - a publisher stream is answered by [`PublishReady`], then carries [`PublishHead`] frames with a record batch
//!   as body up, and [`Receipts`] frames down, in the order of the batches;
//! - a consumer stream is answered by [`Subscribed`], then carries [`Delivery`] frames down and [`Control`] frames up;
//! - a worker stream is answered by [`Joined`], then carries [`Assignment`] frames down and [`WorkControl`] frames up;
//! - a stream of module lines is answered by an empty `Ok`, then carries [`ModuleLogLine`] frames down.
//!
//! Messages are MessagePack maps: fields that one side does not know are ignored, requests it does not know refused.

mod close;
mod consume;
mod control;
mod error;
mod frame;
mod info;
mod publish;
mod work;

pub use close::CloseCode;
pub use consume::{Control, Delivery, PartitionSpan, Subscribe, Subscribed};
pub use control::{Answer, AtomicPart, Hello, Open, Request, Response, Welcome};
pub use error::{ErrorCode, WireError};
pub use frame::{Decoder, FRAME_HEADER_BYTES, Frame, FrameError, FrameLimits, decode_head, encode_frame};
pub use info::ServerInfo;
pub use millstream_types::{
    Binding, Counters, DeadLetters, DeliveryConfig, DeliveryMode, Durability, IngestInfo, ModuleInfo,
    ModuleLogFilter, ModuleLogLine, OnFault, PartitionInfo, PositionInfo, PublishLimit, PublishRate,
    Rebinding, Retention, SlowDown, StartAt, SubscriptionInfo, SubscriptionState, TopicChange, TopicConfig,
    TopicInfo, Unstored, UnstoredRecords,
};
pub use publish::{Pace, PublishHead, PublishReady, Receipt, Receipts};
pub use work::{Assignment, Joined, SettleAs, Settlement, Work, WorkControl};

/// Application protocol name in the TLS handshake.
pub const ALPN: &[u8] = b"millstream/1";
/// Protocol version in [`Hello`].
pub const PROTOCOL_VERSION: u32 = 1;
/// Default port of a broker.
pub const DEFAULT_PORT: u16 = 7433;

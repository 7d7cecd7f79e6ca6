//! What every part of Millstream shares: names, offsets, records, the record batch and the verdict buffer.
//! No I/O and no async; builds for wasm32. Nothing here panics or over-allocates on hostile bytes.

mod batch;
mod bytes_io;
mod crc;
mod ids;
pub mod limits;
mod names;
mod partition;
mod record;
mod verdict;

pub use batch::{
    BatchBuilder, BatchError, BatchView, Check, Compression, HeadersIn, HeadersView, RecordBatch,
    RecordParts, RecordView,
};
pub use ids::{Offset, PartitionId, ProducerStamp, Timestamp};
pub use names::{ModuleName, NameError, SubscriptionName, TopicName, TopicPattern};
pub use partition::partition_for_key;
pub use record::{Header, Record};
pub use verdict::{
    Field, Output, OutputView, OutputsView, Verdict, VerdictError, VerdictWriter, VerdictsView,
};

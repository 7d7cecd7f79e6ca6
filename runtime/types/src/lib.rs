//! What every part of Millstream shares: names, offsets, records, the record batch and the verdict buffer.
//! No I/O and no async; builds for wasm32. Nothing here panics or over-allocates on hostile bytes.

mod batch;
mod binding;
mod bytes_io;
mod crc;
mod delivery;
mod ids;
mod ingest;
pub mod limits;
mod module;
mod module_log;
mod module_metrics;
mod names;
mod partition;
mod processor;
mod record;
mod slow_down;
mod subscription;
mod topic;
mod verdict;

pub use batch::{
    BatchBuilder, BatchError, BatchView, Check, Compression, HeadersIn, HeadersView, RawRecord, RecordBatch,
    RecordParts, RecordView,
};
pub use binding::{Binding, OnFault, Rebinding, Revision, ShadowInfo, VerdictChange, VerdictSample};
pub use bytes_io::same_bytes;
pub use delivery::{DeadLetters, DeliveryConfig, DeliveryError, DeliveryMode};
pub use ids::{Offset, PartitionId, ProducerId, ProducerStamp, Timestamp};
pub use ingest::{IngestInfo, Unstored, UnstoredRecords};
pub use module::{ModuleInfo, ModuleSigner, ModuleUsage};
pub use module_log::{ModuleLogFilter, ModuleLogLevel, ModuleLogLine};
pub use module_metrics::ModuleMetrics;
pub use names::{ModuleName, NameError, ProducerName, SubscriptionName, TopicName, TopicPattern};
pub use partition::partition_for_key;
pub use processor::{ProcessorChange, ProcessorConfig, ProcessorInfo};
pub use record::{Header, Record};
pub use slow_down::{PublishLimit, PublishRate, RateError, SlowDown};
pub use subscription::{
    Counters, PositionInfo, StartAt, SubscriptionInfo, SubscriptionState, TopicPartition,
};
pub use topic::{Compaction, Durability, PartitionInfo, Retention, TopicChange, TopicConfig, TopicInfo};
pub use verdict::{
    Field, Output, OutputView, OutputsView, Verdict, VerdictError, VerdictWriter, VerdictsView,
};

//! Publishing: records into batches, batches up one stream, receipts down, and all of it again after a reconnect.

mod atomic;
mod outcome;
mod publisher;
mod queue;
mod task;

pub use outcome::{Pending, PendingBatch, RecordReceipt};
pub use publisher::{PublishOptions, Publisher};
pub use queue::PublishCounts;

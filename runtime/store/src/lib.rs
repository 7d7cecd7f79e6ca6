//! Durable state of Millstream, on fjall: record batches by partition and offset, rows of metadata, modules.
//!
//! One database, few keyspaces, one atomic batch a commit. The store knows nothing of what topics, subscriptions and
//! modules mean: their rows are opaque to it. It knows partitions, since it keeps their ends in the same atomic batch as
//! their records, and says at open exactly what is missing should the disk have lost something ([`DataLoss`]).
//!
//! Everything is synchronous. One thread (the committer) commits, syncs and calls [`Store::maintain`]; any number read.

mod batch;
mod cleanup;
mod database;
mod error;
mod flush;
mod journal;
mod keys;
mod layout;
mod manifest;
mod options;
mod progress;
mod read;
mod reclaim;
mod recovery;
mod stats;
mod store;

pub use batch::{Batch, Compacted, Rewrite};
pub use cleanup::{Cleanup, CleanupError};
pub use error::{DataLoss, DatabaseError, OpenError, ReadError, WriteError};
pub use keys::{
    Counter, Cursor, CursorsOf, IdentifiedBatch, Key, Module, ModuleBlob, NamedProducer, PartitionRow,
    Prefix, Producer, ProducersOf, Receipt, RemovedPartition, RemovedState, SettledRun, SettledRunsOf,
    StateEntriesOf, StateEntry, StateSize, Subscription, Topic, Tried, TriedOf, VersionsOf,
};
pub use millstream_types::{Offset, PartitionId};
pub use options::Options;
pub use read::{Keys, Scan, Sizes, StoredBatch};
pub use reclaim::ReclaimError;
pub use recovery::{MissingRange, Recovery, Torn};
pub use stats::Stats;
pub use store::{Persist, Store};

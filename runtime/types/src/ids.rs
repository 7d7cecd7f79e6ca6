//! Small numeric identities: partitions, offsets, timestamps, producers.

use serde::{Deserialize, Serialize};

/// Position of a record in its partition, from 0.
pub type Offset = u64;

/// Milliseconds since the Unix epoch.
pub type Timestamp = i64;

/// Identity of a partition within one store; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

impl std::fmt::Display for PartitionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of an idempotent producer, given by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerId {
    /// Never 0.
    pub id: u64,
    /// Rises each time a producer of that name starts anew; older ones are refused then.
    pub epoch: u32,
}

/// Who produced a batch and which one it is, for idempotent publishing. All zero: not idempotent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Identity given by the broker; 0 when the producer is not idempotent.
    pub id: u64,
    /// Rises each time the producer starts anew.
    pub epoch: u32,
    /// Number of the batch's first record: a producer counts its records in each partition from 0, modulo 2^32.
    pub sequence: u32,
}

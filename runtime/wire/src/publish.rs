//! Messages of a publisher stream.

use millstream_types::{Offset, ProducerId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Answer;

/// What a publisher needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReady {
    /// Number of partitions of the topic.
    pub partitions: u32,
    /// Largest record batch, bytes.
    pub batch_bytes_max: u64,
    /// Most batches without a receipt; the broker reads no further beyond it.
    pub in_flight_max: u32,
    /// With what batches are marked, so that one that comes again is not appended again.
    pub producer: ProducerId,
}

/// Head of a frame whose body is one record batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishHead {
    /// Partition, from 0 within the topic.
    #[serde(rename = "p")]
    pub partition: u32,
}

/// Answers to batches, oldest first: one for each batch, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipts {
    /// At least one.
    #[serde(rename = "r")]
    pub receipts: Vec<Answer<Receipt>>,
}

/// Where a batch stands. It is durable as its topic asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Partition within the topic.
    #[serde(rename = "p")]
    pub partition: u32,
    /// Offset of the batch's first record.
    #[serde(rename = "o")]
    pub base_offset: Offset,
    /// Number of records.
    #[serde(rename = "n")]
    pub records: u32,
    /// When it was appended, ms since the Unix epoch.
    #[serde(rename = "t")]
    pub timestamp: Timestamp,
}

//! Messages of a publisher stream.

use std::sync::Arc;

use millstream_types::{Offset, ProducerId, SlowDown, Timestamp, UnstoredRecords};
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

/// Answers to batches, oldest first: one for each batch, in order. And whether the broker reads on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipts {
    /// None where only the pace changes.
    #[serde(rename = "r")]
    pub receipts: Vec<Answer<Receipt>>,
    /// There when it changes.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
}

/// Whether the broker reads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// For now it reads no further: nothing is lost, and nothing need be sent again.
    SlowDown(SlowDown),
    /// It reads on.
    GoOn,
}

/// Where a batch stands. It is durable as its topic asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Partition within the topic.
    #[serde(rename = "p")]
    pub partition: u32,
    /// Offset of the batch's first record.
    #[serde(rename = "o")]
    pub base_offset: Offset,
    /// Number of records, those included that are not stored.
    #[serde(rename = "n")]
    pub records: u32,
    /// When it was appended, ms since the Unix epoch.
    #[serde(rename = "t")]
    pub timestamp: Timestamp,
    /// Where each record stands, if some were appended before by their message ids, or modules made several of one; else empty,
    /// and those that are stored follow each other.
    #[serde(rename = "i", default, with = "offsets", skip_serializing_if = "is_empty")]
    pub offsets: Arc<[Offset]>,
    /// Records that are not stored since the modules on the topic's ingest dropped, rejected or failed on them.
    #[serde(rename = "x", default, skip_serializing_if = "UnstoredRecords::is_empty")]
    pub unstored: UnstoredRecords,
}

impl Receipt {
    /// Where the record at `position` of the batch stands; of one that is not stored, where the next one does.
    pub fn offset_of(&self, position: u32) -> Offset {
        let following = || {
            let stored_before = position - self.unstored.before(position).min(position);
            self.base_offset.saturating_add(u64::from(stored_before))
        };
        self.offsets.get(position as usize).copied().unwrap_or_else(following)
    }
}

fn is_empty(offsets: &Arc<[Offset]>) -> bool {
    offsets.is_empty()
}

/// Shared by those who wait for the receipt; on the wire a list.
mod offsets {
    use super::{Arc, Deserialize, Offset, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        offsets: &Arc<[Offset]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        offsets.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<[Offset]>, D::Error> {
        Vec::deserialize(deserializer).map(Arc::from)
    }
}

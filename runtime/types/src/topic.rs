//! Topics: their settings, and how they stand.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::{IngestInfo, Offset, PublishRate, Timestamp, TopicName};

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Once it is fsynced; nothing is delivered before.
    #[default]
    Sync,
    /// Once the operating system has it; fsynced at an interval.
    Interval,
}

/// Settings of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    /// Number of partitions, 1 to 1,024.
    pub partitions: u32,
    /// When an append is acknowledged.
    #[serde(default)]
    pub durability: Durability,
    /// How long at least a record with a message id is not appended again, ms; 0: message ids mean nothing here.
    #[serde(default = "dedup_window_ms")]
    pub dedup_window_ms: u32,
    /// What is deleted of it in time.
    #[serde(default)]
    pub retention: Retention,
    /// Whether only the newest record of each key is kept of it.
    #[serde(default)]
    pub compaction: Compaction,
    /// How fast may be published to it.
    #[serde(default)]
    pub rate: PublishRate,
}

/// 2 minutes.
fn dedup_window_ms() -> u32 {
    120_000
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            durability: Durability::Sync,
            dedup_window_ms: dedup_window_ms(),
            retention: Retention::default(),
            compaction: Compaction::default(),
            rate: PublishRate::default(),
        }
    }
}

/// How much of a topic is kept: of each of its partitions by itself. By default everything is.
///
/// The oldest batches of a partition go as soon as one of the limits lets them, always whole; the newest one stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Records appended at most so many ms ago are kept.
    #[serde(default)]
    pub age_ms: Option<NonZeroU64>,
    /// The newest records of a partition of at least so many bytes, as they are stored, are kept.
    #[serde(default)]
    pub bytes: Option<NonZeroU64>,
    /// At least so many of the newest records of a partition are kept.
    #[serde(default)]
    pub records: Option<NonZeroU64>,
}

impl Retention {
    /// Whether everything is kept.
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether older records of a key are deleted once there is a newer one in their partition, in time. By default none are.
///
/// Records without a key stay, and so does the newest batch of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// Whether they are.
    pub enabled: bool,
    /// How long after it was appended a tombstone stays at least, ms: who reads no further behind than that misses no deletion.
    pub tombstones_ms: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { enabled: false, tombstones_ms: 24 * 60 * 60 * 1_000 }
    }
}

/// A setting of a topic that can be changed while it is in use, and what it becomes; `None` lifts a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicChange {
    /// [`Retention::age_ms`].
    RetentionAgeMs(Option<NonZeroU64>),
    /// [`Retention::bytes`].
    RetentionBytes(Option<NonZeroU64>),
    /// [`Retention::records`].
    RetentionRecords(Option<NonZeroU64>),
    /// [`Compaction::enabled`].
    Compact(bool),
    /// [`Compaction::tombstones_ms`].
    TombstonesMs(u64),
    /// [`PublishRate::bytes_per_s`].
    RateBytesPerS(Option<NonZeroU64>),
    /// [`PublishRate::records_per_s`].
    RateRecordsPerS(Option<NonZeroU64>),
}

impl TopicConfig {
    /// Makes the change.
    pub fn apply(&mut self, change: TopicChange) {
        match change {
            TopicChange::RetentionAgeMs(age_ms) => self.retention.age_ms = age_ms,
            TopicChange::RetentionBytes(bytes) => self.retention.bytes = bytes,
            TopicChange::RetentionRecords(records) => self.retention.records = records,
            TopicChange::Compact(enabled) => self.compaction.enabled = enabled,
            TopicChange::TombstonesMs(tombstones_ms) => self.compaction.tombstones_ms = tombstones_ms,
            TopicChange::RateBytesPerS(bytes) => self.rate.bytes_per_s = bytes,
            TopicChange::RateRecordsPerS(records) => self.rate.records_per_s = records,
        }
    }
}

/// A topic as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: TopicName,
    /// Its settings.
    #[serde(flatten)]
    pub config: TopicConfig,
    /// When it was created, ms since the Unix epoch.
    pub created_ms: Timestamp,
    /// Records kept in all partitions.
    pub records: u64,
    /// Bytes of their batches as they are stored.
    #[serde(default)]
    pub bytes: u64,
    /// The modules that records go through before they are stored, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<Box<IngestInfo>>,
    /// One for each partition, in order. Left out of lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<PartitionInfo>,
}

/// A partition as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// Position in the topic.
    pub partition: u32,
    /// Oldest offset kept.
    pub earliest: Offset,
    /// One past the newest readable offset.
    pub latest: Offset,
    /// Records kept: less than there are offsets between where compaction deleted some.
    #[serde(default)]
    pub records: u64,
    /// Bytes of the batches kept, as they are stored.
    #[serde(default)]
    pub bytes: u64,
}

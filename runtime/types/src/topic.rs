//! Topics: their settings, and how they stand.

use serde::{Deserialize, Serialize};

use crate::{Offset, Timestamp, TopicName};

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
}

/// 2 minutes.
fn dedup_window_ms() -> u32 {
    120_000
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self { partitions: 1, durability: Durability::Sync, dedup_window_ms: dedup_window_ms() }
    }
}

/// A topic as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: TopicName,
    /// Its settings.
    #[serde(flatten)]
    pub config: TopicConfig,
    /// When it was created, ms since the Unix epoch.
    pub created_ms: Timestamp,
    /// Records in all partitions.
    pub records: u64,
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
}

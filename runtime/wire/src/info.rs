//! What the broker tells of its topics, subscriptions and modules. Also the shape of `--json` output.

use millstream_types::{Offset, SubscriptionName, Timestamp, TopicName};
use serde::{Deserialize, Serialize};

use crate::{Binding, OnFault};

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
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self { partitions: 1, durability: Durability::Sync }
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

/// A module of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// `NAME@VERSION`, or `sha256:HEX` for a private one.
    pub name: String,
    /// SHA-256 of the component, hexadecimal.
    pub sha256: String,
    /// Size of the component, bytes.
    pub bytes: u64,
    /// When it was stored, ms since the Unix epoch; 0 for a stock module.
    pub stored_ms: Timestamp,
    /// Its manifest, a JSON text, where it has one.
    #[serde(default)]
    pub manifest: Option<String>,
}

/// Whether a subscription is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// No consumer.
    Idle,
    /// A consumer is connected.
    Active,
    /// A module failed; the backlog is kept until a consumer tries again.
    Faulted,
}

/// A subscription as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionInfo {
    /// Its name.
    pub name: SubscriptionName,
    /// What it reads.
    pub topic: TopicName,
    /// Whether it survives its consumer's connection.
    pub durable: bool,
    /// What judges its records.
    pub pipeline: Vec<Binding>,
    /// What happens when a module fails.
    #[serde(default)]
    pub on_fault: OnFault,
    /// Whether it is being read.
    pub state: SubscriptionState,
    /// Why it is faulted.
    #[serde(default)]
    pub fault: Option<String>,
    /// One for each partition, in order.
    pub positions: Vec<PositionInfo>,
    /// Since the broker started.
    pub counters: Counters,
}

/// How far a subscription is in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionInfo {
    /// Position in the topic.
    pub partition: u32,
    /// Everything below is settled.
    pub settled: Offset,
    /// Everything below has been scanned.
    pub scanned: Offset,
    /// One past the newest readable offset.
    pub latest: Offset,
}

/// What a subscription has done since the broker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Records scanned.
    pub records_in: u64,
    /// Records delivered.
    pub records_out: u64,
    /// Records that modules dropped.
    pub dropped: u64,
    /// Records that modules emitted to other topics.
    pub routed: u64,
    /// Records that modules rejected.
    pub rejected: u64,
    /// Records that a module failed on.
    pub faulted: u64,
    /// Bytes of the batches scanned.
    pub bytes_in: u64,
    /// Bytes of the batches delivered.
    pub bytes_out: u64,
    /// Time inside modules, ns.
    pub module_ns: u64,
    /// Calls into modules.
    pub module_calls: u64,
}

/// The broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Identity of its data directory.
    pub node: String,
    /// Its version.
    pub version: String,
    /// When it started, ms since the Unix epoch.
    pub started_ms: Timestamp,
    /// Topics there are.
    pub topics: u64,
    /// Subscriptions there are, ephemeral ones included.
    pub subscriptions: u64,
    /// Connections now.
    pub connections: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

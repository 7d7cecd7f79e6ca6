//! Subscriptions: their settings, and how they stand.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::{
    Binding, DeliveryConfig, DeliveryMode, ModuleUsage, Offset, OnFault, ProcessorInfo, Revision, ShadowInfo,
    SubscriptionName, Timestamp, TopicName, TopicPattern,
};

/// Where a new subscription starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// The oldest record kept.
    #[default]
    Earliest,
    /// Behind the newest record.
    Latest,
    /// This offset, in every partition.
    Offset(Offset),
    /// One offset for each partition, in order: how a reader without a durable position goes on after a reconnect.
    Offsets(Vec<Offset>),
    /// The first batch appended at or after this time, ms since the Unix epoch.
    Time(Timestamp),
    /// Of several topics, by the broker's number of each partition: how a reader without a durable position goes on after a
    /// reconnect. Partitions that are not named were made since, and start at their first record.
    Places(Vec<(u32, Offset)>),
}

/// A partition of one of several topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// Partition within the topic.
    pub partition: u32,
}

/// Whether a subscription is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// No consumer.
    Idle,
    /// A consumer is connected.
    Active,
    /// A processor that was told to pause.
    Paused,
    /// Its modules fail; the backlog is kept, and it is tried again now and then, or once a consumer comes.
    Faulted,
}

/// A subscription as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionInfo {
    /// Its name.
    pub name: SubscriptionName,
    /// What it reads: a topic, or all that a pattern means.
    pub topic: TopicPattern,
    /// Whether it survives its consumer's connection.
    pub durable: bool,
    /// What judges its records.
    pub pipeline: Vec<Binding>,
    /// What happens when a module fails.
    #[serde(default)]
    pub on_fault: OnFault,
    /// Which revision of its modules that is.
    #[serde(default)]
    pub revision: u64,
    /// What was bound before, oldest first. Left out of lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Revision>,
    /// What runs beside it, to be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowInfo>,
    /// What makes it a processor, if it is one: the broker itself reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<ProcessorInfo>,
    /// How it delivers.
    #[serde(default)]
    pub delivery: DeliveryConfig,
    /// Consumers connected.
    #[serde(default)]
    pub consumers: u64,
    /// Whether it is being read.
    pub state: SubscriptionState,
    /// Why it is faulted.
    #[serde(default)]
    pub fault: Option<String>,
    /// Records that were scanned, are for the consumers and are not settled: exact. Of a subscription that is read as a
    /// stream it is what was scanned and not acknowledged, with what modules dropped of that.
    #[serde(default)]
    pub pending: u64,
    /// Records that are still to be scanned: an estimate of what is for the consumers, before modules.
    #[serde(default)]
    pub unscanned: u64,
    /// When the oldest record was appended that is not settled, ms since the Unix epoch; none where everything is, or where
    /// subscriptions are listed.
    #[serde(default)]
    pub oldest_unsettled_ms: Option<Timestamp>,
    /// One for each partition; of one topic in order. Left out of lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<PositionInfo>,
    /// Since the broker started.
    pub counters: Counters,
    /// What its modules have used since the broker started, those bound before included as far as they are remembered. Left out of
    /// lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<ModuleUsage>,
}

/// How far a subscription is in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionInfo {
    /// The topic, where the subscription may read several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    /// Position in the topic.
    pub partition: u32,
    /// Everything below is settled.
    pub settled: Offset,
    /// Everything below has been scanned.
    pub scanned: Offset,
    /// One past the newest readable offset.
    pub latest: Offset,
    /// Records that are settled beyond both.
    #[serde(default)]
    pub settled_ahead: u64,
    /// Records that consumers hold under a lease.
    #[serde(default)]
    pub leased: u64,
    /// Records that were scanned and wait: for their time, for others of their key, or for a consumer with room.
    #[serde(default)]
    pub waiting: u64,
}

impl PositionInfo {
    /// Records that were scanned, are for the consumers and are not settled.
    pub fn pending(&self, mode: DeliveryMode) -> u64 {
        match self.leased + self.waiting {
            0 if mode == DeliveryMode::Exclusive => self.scanned.saturating_sub(self.settled),
            open => open,
        }
    }

    /// Records that are still to be scanned.
    pub fn unscanned(&self) -> u64 {
        let ahead = self.latest.saturating_sub(self.scanned.max(self.settled));
        ahead.saturating_sub(self.settled_ahead)
    }
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
    /// Offsets that retention deleted before they were scanned.
    #[serde(default)]
    pub missed: u64,
    /// Bytes of the batches scanned.
    pub bytes_in: u64,
    /// Bytes of the batches delivered.
    pub bytes_out: u64,
    /// Time inside modules, ns.
    pub module_ns: u64,
    /// Calls into modules.
    pub module_calls: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, more: Self) {
        self.records_in += more.records_in;
        self.records_out += more.records_out;
        self.dropped += more.dropped;
        self.routed += more.routed;
        self.rejected += more.rejected;
        self.faulted += more.faulted;
        self.missed += more.missed;
        self.bytes_in += more.bytes_in;
        self.bytes_out += more.bytes_out;
        self.module_ns += more.module_ns;
        self.module_calls += more.module_calls;
    }
}

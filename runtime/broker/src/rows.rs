//! What the broker keeps in the store's opaque rows. MessagePack maps, so that fields can be added.

use bytes::Bytes;
use millstream_engine::StateSize;
use millstream_store::Counter;
use millstream_types::{
    DeliveryConfig, Offset, PartitionId, SubscriptionName, Timestamp, TopicConfig, TopicName, TopicPattern,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Error,
    bindings::{Bindings, PinnedBinding},
    dead_letter,
};

/// Next partition id to give, `u32` little-endian.
pub(crate) const NEXT_PARTITION: Counter = Counter(1);
/// Next subscription id to give, `u32` little-endian.
pub(crate) const NEXT_SUBSCRIPTION: Counter = Counter(2);
/// Identity of the data directory, 16 hexadecimal digits.
pub(crate) const NODE: Counter = Counter(3);

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicRow {
    pub(crate) config: TopicConfig,
    pub(crate) created_ms: Timestamp,
    pub(crate) partitions: Vec<PartitionId>,
    /// The last that was set.
    #[serde(default)]
    pub(crate) ingest: IngestRow,
}

/// The modules on a topic's ingest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IngestRow {
    /// Counted from 1; 0: there never were any.
    pub(crate) revision: u64,
    /// None: records go by.
    pub(crate) pipeline: Vec<PinnedBinding>,
    pub(crate) bound_ms: Timestamp,
}

/// A durable subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubscriptionRow {
    pub(crate) name: SubscriptionName,
    pub(crate) topic: TopicPattern,
    pub(crate) bindings: Bindings,
    #[serde(default)]
    pub(crate) delivery: DeliveryConfig,
    pub(crate) created_ms: Timestamp,
    /// Of one that the broker itself reads.
    #[serde(default)]
    pub(crate) processor: Option<ProcessorRow>,
}

/// What makes a subscription a processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessorRow {
    /// What it reads beside the subscription's topic.
    pub(crate) also: Vec<TopicPattern>,
    pub(crate) sink: Option<TopicName>,
    pub(crate) state_bytes_max: u64,
    pub(crate) paused: bool,
}

/// How much the state of a processor holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateSizeRow {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl SubscriptionRow {
    /// Whether it reads `topic`. A pattern does not mean the subscription's own dead letters: they would come round for ever.
    pub(crate) fn reads(&self, topic: &TopicName) -> bool {
        let own =
            || dead_letter::topic_of(&self.name, &self.delivery).is_ok_and(|own| own.as_ref() == Some(topic));
        self.patterns().any(|pattern| pattern.matches(topic)) && !own()
    }

    /// What it is, in messages and in the names of commands.
    pub(crate) fn kind(&self) -> &'static str {
        if self.processor.is_some() { "processor" } else { "subscription" }
    }

    /// The one topic that it reads, if that is all it ever will.
    pub(crate) fn only_topic(&self) -> Option<TopicName> {
        let mut patterns = self.patterns();
        let first = patterns.next()?.as_topic();
        first.filter(|_| patterns.next().is_none())
    }

    pub(crate) fn patterns(&self) -> impl Iterator<Item = &TopicPattern> {
        [&self.topic].into_iter().chain(self.processor.iter().flat_map(|processor| &processor.also))
    }
}

/// How far a subscription has come in a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CursorRow {
    /// Everything below is settled.
    pub(crate) settled: Offset,
    /// What modules emitted to other topics for records below is appended there.
    pub(crate) routed: Offset,
}

/// A record that was delivered in vain and is to be delivered again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TriedRow {
    /// How often it was delivered.
    pub(crate) deliveries: u32,
    /// How often that failed.
    pub(crate) failures: u32,
    /// Not before this time again, nor longer than the wait that was set then: a clock that jumps back does not prolong it.
    pub(crate) due_ms: Timestamp,
    #[serde(default)]
    pub(crate) wait_ms: u64,
    /// When it was delivered first.
    pub(crate) first_ms: Timestamp,
    /// Why it failed last, in the consumer's words.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// It was a dead letter that modules made, and is judged again: what they emit for it to topics is not appended there,
    /// though others behind it are.
    #[serde(default)]
    pub(crate) unrouted: bool,
}

/// What a partition knows of an idempotent producer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProducerRow {
    pub(crate) epoch: u32,
    /// The number that its next record has.
    pub(crate) next: u32,
    pub(crate) appended_ms: Timestamp,
}

/// A producer with a name: the identity that it has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedProducerRow {
    pub(crate) id: u64,
    pub(crate) epoch: u32,
}

/// A named module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModuleRow {
    pub(crate) sha256: [u8; 32],
    pub(crate) bytes: u64,
    pub(crate) stored_ms: Timestamp,
    pub(crate) manifest: Option<String>,
    /// Whether it judges with `process-records`, or else `process`.
    #[serde(default)]
    pub(crate) typed: Option<bool>,
    /// The interfaces of the broker that it uses.
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    /// Public keys of who signed it.
    #[serde(default)]
    pub(crate) signers: Vec<[u8; 32]>,
    /// Its bytes are gone, and its name may mean no others.
    #[serde(default)]
    pub(crate) deleted_ms: Option<Timestamp>,
}

impl From<StateSize> for StateSizeRow {
    fn from(StateSize { entries, bytes }: StateSize) -> Self {
        Self { entries, bytes }
    }
}

impl From<StateSizeRow> for StateSize {
    fn from(StateSizeRow { entries, bytes }: StateSizeRow) -> Self {
        Self { entries, bytes }
    }
}

pub(crate) fn encode(row: &impl Serialize) -> Bytes {
    rmp_serde::to_vec_named(row).expect("rows of this crate encode").into()
}

pub(crate) fn decode<T: DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<T, Error> {
    rmp_serde::from_slice(bytes).map_err(|error| Error::DamagedRow { kind, cause: error.to_string() })
}

pub(crate) fn decode_u32(kind: &'static str, bytes: &[u8]) -> Result<u32, Error> {
    exactly(kind, bytes).map(u32::from_le_bytes)
}

pub(crate) fn decode_u64(kind: &'static str, bytes: &[u8]) -> Result<u64, Error> {
    exactly(kind, bytes).map(u64::from_le_bytes)
}

fn exactly<const N: usize>(kind: &'static str, bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::DamagedRow { kind, cause: format!("{} bytes", bytes.len()) })
}

//! Processors: modules with a state, run by the broker itself from topics to topics.

use serde::{Deserialize, Serialize};

use crate::{TopicName, TopicPattern};

/// What a processor reads, where what it makes goes, and how much it may remember.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorConfig {
    /// Topics, or patterns that mean several: at least one.
    pub sources: Vec<TopicPattern>,
    /// Where records go that its modules let through or emit without a topic. Without it they end.
    #[serde(default)]
    pub sink: Option<TopicName>,
    /// Most bytes of its state, keys and values and 32 for each entry.
    #[serde(default = "state_bytes_default")]
    pub state_bytes_max: u64,
}

impl ProcessorConfig {
    /// Most bytes of a state where nothing else is said.
    pub const STATE_BYTES: u64 = 64 << 20;
}

fn state_bytes_default() -> u64 {
    ProcessorConfig::STATE_BYTES
}

/// What may be changed of a processor that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessorChange {
    /// It stops, or goes on and tries again what it failed on.
    Paused(bool),
    /// Most bytes of its state; unless it is paused, what it failed on is tried again. One that holds more already keeps it, and may not grow.
    StateBytesMax(u64),
}

/// A processor as it stands; the rest is as for every subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorInfo {
    /// How it was created, or changed since.
    #[serde(flatten)]
    pub config: ProcessorConfig,
    /// Whether it is paused.
    pub paused: bool,
    /// Entries of its state.
    pub state_entries: u64,
    /// Bytes of its state.
    pub state_bytes: u64,
}

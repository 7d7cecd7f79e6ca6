//! What the broker tells of itself.

use millstream_types::Timestamp;
use serde::{Deserialize, Serialize};

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
    /// Publishers that are held back now, and how often one was told so since the broker started.
    #[serde(default)]
    pub slowed: u64,
    /// See [`slowed`](Self::slowed).
    #[serde(default)]
    pub slow_downs: u64,
    /// Connections that were given up since their process was gone, since the broker started.
    #[serde(default)]
    pub vanished: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

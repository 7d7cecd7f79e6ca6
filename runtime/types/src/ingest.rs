//! A topic's ingest: modules that every published record goes through before it is stored, and what became of the records
//! that are not.

use serde::{Deserialize, Serialize};

use crate::{Binding, ModuleUsage, Timestamp};

mod unstored;

pub use unstored::{Unstored, UnstoredRecords};

/// The modules on a topic's ingest, and what they did since they were set or the broker started, whichever was later.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IngestInfo {
    /// Counted from 1; it rises with each change.
    pub revision: u64,
    /// The modules, in order. In lists without their configurations.
    pub pipeline: Vec<Binding>,
    /// The SHA-256 of each, hexadecimal.
    pub sha256: Vec<String>,
    /// When they were set, ms since the Unix epoch.
    pub bound_ms: Timestamp,
    /// Why the modules are let alone, and publishers told to wait, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Records that were judged, those that came again included.
    pub records_in: u64,
    /// Of those, records that a module rejected.
    pub rejected: u64,
    /// Records that no module could judge.
    pub faulted: u64,
    /// Records that a module dropped.
    pub dropped: u64,
    /// Records that are stored otherwise than they were published.
    pub changed: u64,
    /// What each module has used.
    pub modules: Vec<ModuleUsage>,
}

//! Modules of the registry, as they stand.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

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

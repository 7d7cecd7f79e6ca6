//! Modules of the registry, as they stand.

use serde::{Deserialize, Serialize};

use crate::{SubscriptionName, Timestamp, TopicName};

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
    /// Who signed it; their signatures hold.
    #[serde(default)]
    pub signers: Vec<ModuleSigner>,
    /// How many subscriptions and topics' ingests bind it under this name, ephemeral ones included; of one asked for by digest,
    /// under any.
    #[serde(default)]
    pub bound: u64,
    /// The first of the subscriptions, by name, where one module was asked for.
    #[serde(default)]
    pub bound_by: Vec<SubscriptionName>,
    /// And of the topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingest_of: Vec<TopicName>,
}

/// Who signed a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSigner {
    /// The first 16 hexadecimal digits of the SHA-256 of the public key, as SubjectPublicKeyInfo in DER.
    pub key: String,
    /// Whether the broker trusts that key.
    pub trusted: bool,
}

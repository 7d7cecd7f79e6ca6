//! Modules of the registry, as they stand.

use serde::{Deserialize, Serialize};

use crate::{ModuleMetrics, SubscriptionName, Timestamp, TopicName};

/// A module of the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Which function of the contract it judges with: `process` or `process-records`. Of a module without a name, only while it is in use.
    #[serde(default)]
    pub judges_with: Option<String>,
    /// The interfaces of the broker that it uses: of `log`, `metrics`, `source`, `state`.
    #[serde(default)]
    pub capabilities: Vec<String>,
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
    /// What it has used in all subscriptions and ingests there are, where one module was asked for and it has been called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<ModuleUsage>>,
}

/// What a module has used since the broker started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleUsage {
    /// As it is bound: `NAME@VERSION` or `sha256:HEX`.
    pub module: String,
    /// Calls into it.
    pub calls: u64,
    /// Calls that ended in a fault.
    pub faults: u64,
    /// Records it was given, those given again counted again.
    pub records: u64,
    /// Time in it, ns.
    pub module_ns: u64,
    /// Its longest call, ns.
    pub longest_ns: u64,
    /// CPU time that a call may use, ms.
    pub budget_ms: u64,
    /// Most linear memory that an instance of it has had, bytes.
    pub memory_bytes: u64,
    /// Linear memory that one may have, bytes.
    pub memory_budget_bytes: u64,
    /// What it counts itself.
    #[serde(default, skip_serializing_if = "ModuleMetrics::is_empty")]
    pub metrics: ModuleMetrics,
}

impl ModuleUsage {
    /// Adds what was used elsewhere, or later.
    pub fn add(&mut self, more: &Self) {
        self.calls += more.calls;
        self.faults += more.faults;
        self.records += more.records;
        self.module_ns += more.module_ns;
        self.longest_ns = self.longest_ns.max(more.longest_ns);
        self.budget_ms = more.budget_ms;
        self.memory_bytes = self.memory_bytes.max(more.memory_bytes);
        self.memory_budget_bytes = more.memory_budget_bytes;
        self.metrics.merge(&more.metrics);
    }
}

/// Who signed a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSigner {
    /// The first 16 hexadecimal digits of the SHA-256 of the public key, as SubjectPublicKeyInfo in DER.
    pub key: String,
    /// Whether the broker trusts that key.
    pub trusted: bool,
}

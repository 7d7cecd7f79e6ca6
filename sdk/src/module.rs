//! What a module is to the SDK. The attributes implement it; by hand only what they cannot express.

use millstream_types::VerdictWriter;

use crate::{ModuleConfig, Record};

/// A module. The attribute macros implement it for a type that has the function's name.
pub trait Module: 'static {
    /// Its configuration.
    type Config: ModuleConfig;
    /// The verdicts it may give; any other is a fault.
    const VERDICTS: Verdicts;
    /// Whether it keeps a state, so that only a processor may bind it.
    const HAS_STATE: bool = false;

    /// Whether payloads are to be copied into the guest.
    fn reads_payload(config: &Self::Config) -> bool;

    /// The topics it may emit to: names or patterns.
    fn topics(config: &Self::Config) -> Vec<String>;

    /// Writes exactly one verdict for `record`.
    fn judge(record: &Record<'_>, config: &Self::Config, verdicts: &mut VerdictWriter);
}

/// Where a module is bound, and how it is configured.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Contract version of the broker.
    pub contract: u32,
    /// Topic whose records will be judged, or the pattern of several.
    pub topic: String,
    /// Subscription the module is bound to.
    pub subscription: String,
    /// The configuration, a JSON text.
    pub config: String,
    /// Most bytes one verdict buffer may have.
    pub output_bytes_max: u64,
}

/// What a configured module announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Whether payloads are to be copied into the guest.
    pub reads_payload: bool,
    /// The verdicts it may give.
    pub verdicts: Verdicts,
    /// The topics it may emit to: names or patterns.
    pub topics: Vec<String>,
}

/// A set of verdicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// The record goes on as it is.
    pub keep: bool,
    /// The record ends here.
    pub drop: bool,
    /// Other records take its place.
    pub emit: bool,
    /// The record is bad.
    pub reject: bool,
}

/// Why a whole batch could not be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Passing trouble: the same batch again, with backoff.
    Retry(String),
    /// The batch can never be judged.
    Reject(String),
}

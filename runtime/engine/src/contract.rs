//! The types of `millstream:module@1.0.0` as they cross between host and guest; see `sdk/wit/module.wit`.

use wasmtime::component::{ComponentType, Lift, Lower, flags};

/// Version of the contract that this engine speaks.
pub const CONTRACT: u32 = 1;
/// Name of the log interface.
pub(crate) const LOG: &str = "millstream:module/log@1.0.0";
/// Name of the interface to what a module counts.
pub(crate) const METRICS: &str = "millstream:module/metrics@1.0.0";
/// Name of the interface to a processor's state.
pub(crate) const STATE: &str = "millstream:module/state@1.0.0";
/// Name of the interface that says whose the records are.
pub(crate) const SOURCE: &str = "millstream:module/source@1.0.0";
/// Start of the names of all interfaces of the contract's package.
pub(crate) const PACKAGE: &str = "millstream:module/";
pub(crate) const CONFIGURE: &str = "configure";
pub(crate) const PROCESS: &str = "process";
pub(crate) const PROCESS_RECORDS: &str = "process-records";

/// Which of the contract's two functions a module judges with; a component exports one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `process`: a record batch in, a verdict buffer out.
    Batch,
    /// `process-records`: typed records in, typed verdicts out.
    Records,
}

impl Form {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Batch, Self::Records];

    /// Name of the function.
    pub fn export(self) -> &'static str {
        match self {
            Self::Batch => PROCESS,
            Self::Records => PROCESS_RECORDS,
        }
    }
}

#[derive(ComponentType, Lower, Clone)]
#[component(record)]
pub(crate) struct GuestSetup {
    pub(crate) contract: u32,
    pub(crate) topic: String,
    pub(crate) subscription: String,
    pub(crate) config: String,
    #[component(name = "output-bytes-max")]
    pub(crate) output_bytes_max: u64,
}

flags! {
    GuestFields {
        #[component(name = "payload")]
        const PAYLOAD;
    }
}

flags! {
    GuestVerdicts {
        #[component(name = "keep")]
        const KEEP;
        #[component(name = "drop")]
        const DROP;
        #[component(name = "emit")]
        const EMIT;
        #[component(name = "reject")]
        const REJECT;
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct GuestSpec {
    pub(crate) fields: GuestFields,
    pub(crate) verdicts: GuestVerdicts,
    pub(crate) topics: Vec<String>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum GuestFailure {
    #[component(name = "retry")]
    Retry(String),
    #[component(name = "reject")]
    Reject(String),
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct GuestEntry {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the derived `Lift` makes them from their numbers")]
pub(crate) enum GuestLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "panic")]
    Panic,
}

pub(crate) type ConfigureParams = (GuestSetup,);
pub(crate) type ConfigureResults = (Result<GuestSpec, String>,);
pub(crate) type ProcessParams<'a> = (&'a [u8],);
pub(crate) type ProcessResults = (Result<Vec<u8>, GuestFailure>,);

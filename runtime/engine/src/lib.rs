//! Runs users' modules: compiles components, keeps instances within limits, and turns record batches into verdicts.
//! The only crate that names wasmtime. Knows nothing of topics' storage, subscriptions or the network.

mod bound;
mod cache;
mod compiled;
mod contract;
mod engine;
mod error;
mod fault;
mod host;
mod instance;
pub mod limits;
mod log;
mod made;
mod manifest;
mod module;
mod pipeline;
mod schema;
mod sections;
mod settings;
pub mod signature;
mod spec;
mod ticker;
mod trust;
mod turns;
mod typed;
mod workers;

pub use bound::{Bound, VerdictBuffer};
pub use contract::{CONTRACT, Form};
pub use engine::Engine;
pub use error::{BindError, EngineError, LoadError};
pub use fault::{Fault, FaultKind};
pub use limits::Limits;
pub use log::{LogLevel, LogLine, LogSink};
pub use made::{Differences, Made};
pub use manifest::{MANIFEST_SECTION, Manifest};
pub use module::{Module, ModuleDigest, digest};
pub use pipeline::{Counters, Delivery, Outcome, Pipeline, RecordFault, Reject, RoutedRecord, Stop};
pub use schema::{ConfigSchema, FieldFault};
pub use settings::Settings;
pub use signature::{PrivateKey, PublicKey, SignatureError};
pub use spec::{Setup, Spec, VerdictSet};
pub use trust::{Trust, TrustError};
pub use workers::{QueueFull, Workers};

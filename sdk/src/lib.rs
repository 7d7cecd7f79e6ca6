//! The guest SDK of Millstream: a module is a function with an attribute, and the only dependency is this crate.
//!
//! ```
//! use millstream_sdk::prelude::*;
//!
//! #[derive(ModuleConfig)]
//! struct Config {
//!     kind: String,
//! }
//!
//! #[filter(reads = "headers")]
//! fn express(record: &Record, config: &Config) -> bool {
//!     record.header("logistics") == Some(&config.kind)
//! }
//!
//! // In a test, on the host, without a broker:
//! let verdicts = test::run::<express>(
//!     json!({"kind": "express"}),
//!     [test::record().header("logistics", "express"), test::record().header("logistics", "bulk")],
//! );
//! assert_eq!(verdicts, [test::Verdict::Keep, test::Verdict::Drop]);
//! ```
//!
//! | attribute | the function answers | the broker then |
//! |---|---|---|
//! | [`#[filter]`](filter) | `bool` | keeps or drops the record |
//! | [`#[map]`](map) | [`Output`], bytes, text, [`Json`], or an `Option` of those | replaces the record; `None` drops it |
//! | [`#[flat_map]`](flat_map) | a `Vec` of those | replaces the record by all of them |
//! | [`#[route]`](route) | a topic name, an `Option` or a `Vec` of them | sends the record there; none drops it |
//! | [`#[processor]`](processor) | nothing, or outputs | appends them to its sinks, with what was written to its [`State`] |
//!
//! Each function takes `&Record` and, if it wants one, `&Config`; that of a processor takes `&mut State` between them. Wrapped in a `Result`, an `Err` rejects the record
//! with its text: the broker counts it and logs the reason. A panic is a fault: its message, file and line go to the broker's log.
//!
//! Config types derive [`ModuleConfig`]; a config with an unknown, missing or ill-typed field is refused when the module is
//! bound, by a message that names the field.

mod answer;
mod bound;
mod config;
#[cfg(target_arch = "wasm32")]
mod guest;
mod log_line;
pub mod metrics;
mod module;
mod output;
pub mod prelude;
mod record;
mod remember;
mod schema;
mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod test;
mod windows;

pub use config::{ModuleConfig, NoConfig, parse as parse_config};
pub use log_line::Level;
pub use millstream_sdk_macros::{ModuleConfig, filter, flat_map, map, processor, route};
pub use millstream_types::{TopicName, TopicPattern, same_bytes};
pub use module::{Failure, Module, Setup, Spec, Verdicts};
pub use output::{IntoOutput, Json, Output};
pub use record::{PayloadError, Record};
pub use remember::{Count, Dedup, Latest, Stats, TopK, count};
pub use schema::{ConfigSchema, SchemaFields, SchemaText};
pub use serde;
pub use serde_json;
pub use state::{State, StateError};
pub use windows::{Window, WindowError, Windows};

/// Version of the contract between broker and module that this SDK speaks.
pub const CONTRACT: u32 = 1;

/// Lines to the broker's log, as `log::info!("origin is {origin}")`. The broker limits their rate and cuts them at 4 KiB.
pub mod log {
    pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};
}

/// What the macros expand to. Not for direct use.
#[doc(hidden)]
pub mod __private {
    pub use crate::answer::{FilterAnswer, FlatMapAnswer, MapAnswer, ProcessorAnswer, RouteAnswer};
    pub use crate::config::NoValidate;
    #[cfg(target_arch = "wasm32")]
    pub use crate::guest::{Exported, bindings};
    pub use crate::log_line::write as write_log;
    pub use crate::schema::{ConfigSchema, Probe, SchemaFields, SchemaText, Unknown};
    pub use millstream_types::VerdictWriter;
}

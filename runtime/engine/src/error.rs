//! Why an engine cannot start, a component is no module, or a module cannot be bound.

use std::io;
use std::path::PathBuf;

use crate::{Capability, Fault, FieldFault};

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The WebAssembly runtime refuses its settings.
    #[error("the WebAssembly runtime cannot be set up here: {0}")]
    Runtime(String),
    /// The cache directory cannot be used.
    #[error("cannot use the module cache {path}: {source}", path = path.display())]
    Cache {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread for modules: {0}")]
    Thread(io::Error),
}

/// Why bytes are not a module that runs here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Larger than allowed.
    #[error(
        "the module has {found} bytes, above the limit of {max}: build it with --release, or have the operator raise the limit"
    )]
    TooLarge {
        /// Its size.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Not WebAssembly at all.
    #[error("not WebAssembly: it starts with {0:02x?} where `\\0asm` belongs")]
    NotWasm(Vec<u8>),
    /// A core module.
    #[error(
        "this is a core WebAssembly module, and a component is needed: build it with `millstream module build`"
    )]
    CoreModule,
    /// Not valid, or it uses a feature that is off.
    #[error("the component is not valid here: {0}")]
    Invalid(String),
    /// Made of more than is looked at.
    #[error("{what} {found}, above the limit of {max}: {remedy}")]
    Structure {
        /// What there is too much of, with its verb.
        what: String,
        /// How much there is.
        found: usize,
        /// The limit.
        max: usize,
        /// What to do.
        remedy: &'static str,
    },
    /// Compiling it took too long.
    #[error(
        "compiling the module took more than {limit_ms} ms of CPU time: make its largest functions smaller, build it with \
         --release, or have the operator raise modules.compile_ms"
    )]
    CompileTime {
        /// The limit.
        limit_ms: u64,
    },
    /// The process that compiled it took more memory than it may, or failed.
    #[error(
        "the compiler gave up on the module ({cause}; it may use {addresses_mib} MiB of addresses): make its largest functions \
         smaller, or report the module as one that the compiler fails on"
    )]
    Compiler {
        /// How it ended.
        cause: String,
        /// What it may use.
        addresses_mib: u64,
    },
    /// No process could be started, or it could not be talked to.
    #[error("the module cannot be compiled now: {0}: try again")]
    CompilerUnavailable(String),
    /// Asks for something that no module is given.
    #[error("the module imports `{import}`{functions}, which Millstream does not offer; it offers {offered}", functions = with_functions(.functions), offered = offered())]
    UnknownImport {
        /// Name of the interface or function.
        import: String,
        /// Functions of that interface, as far as they are its.
        functions: Vec<String>,
    },
    /// Uses what its manifest does not name.
    #[error(
        "the module imports `{interface}`, and its manifest does not name `{0}` among its capabilities: name it there, or leave \
         `capabilities` out",
        interface = .0.interface()
    )]
    Undeclared(Capability),
    /// Uses what the operator does not grant.
    #[error(
        "the module uses `{0}`, which modules are not granted here: build it without, or have the operator add \"{0}\" to \
         modules.capabilities"
    )]
    NotGranted(Capability),
    /// Has not the export that the contract asks for.
    #[error("the module does not export the function `{0}` of `millstream:module@1.0.0`")]
    MissingExport(&'static str),
    /// Has neither function that judges.
    #[error(
        "the module exports neither `process` nor `process-records`, and needs one of them: see the worlds `module` and `typed-module` of `millstream:module@1.0.0`"
    )]
    NoForm,
    /// Has both functions that judge.
    #[error(
        "the module exports both `process` and `process-records`, and may have only one of them: leave one out"
    )]
    BothForms,
    /// Has the export, with another type.
    #[error("the module's export `{export}` has another type than `millstream:module@1.0.0` says: {text}")]
    ExportType {
        /// Name of the function.
        export: &'static str,
        /// Where it differs.
        text: String,
    },
    /// Imports something that is offered in another form.
    #[error("the module does not link: {0}")]
    Link(String),
    /// Cannot be instantiated within its limits.
    #[error("the module cannot be instantiated: {0}")]
    Instantiate(Fault),
    /// Its manifest is not what a manifest is.
    #[error("the module's manifest is malformed: {0}")]
    Manifest(String),
    /// The schema in its manifest is none, or costs too much.
    #[error("the schema of the module's configuration, in its manifest, cannot be used: {0}")]
    ConfigSchema(String),
    /// Made for a later contract.
    #[error("the module was built for contract version {found}; this broker speaks version {known}: upgrade the broker", known = crate::contract::CONTRACT)]
    Contract {
        /// What the manifest says.
        found: u32,
    },
}

/// Why a module cannot be bound to this place with this configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The module refused: its own words.
    #[error("the module refuses its configuration: {0}")]
    Refused(String),
    /// `configure` trapped, took too long or used too much.
    #[error("the module failed in `configure`: {0}")]
    Configure(Fault),
    /// It keeps a state, and is not a processor's.
    #[error("the module keeps a state, which only processors have: `millstream processor create`")]
    NeedsState,
    /// No instance could be made.
    #[error("the module cannot be instantiated: {0}")]
    Instantiate(Fault),
    /// What it announced cannot be.
    #[error("the module announced something impossible: {0}")]
    Spec(String),
    /// The configuration is no JSON text, or too long.
    #[error("the configuration is not JSON: {0}")]
    Config(String),
    /// The configuration does not fit the schema in the module's manifest: the first few faults.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    ConfigFields(Vec<FieldFault>),
}

fn offered() -> String {
    Capability::ALL.map(|capability| format!("`{}`", capability.interface())).join(", ")
}

fn with_functions(functions: &[String]) -> String {
    if functions.is_empty() { String::new() } else { format!(" ({})", functions.join(", ")) }
}

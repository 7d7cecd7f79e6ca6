//! What can go wrong while a module judges records.

use std::fmt;

use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::contract::GuestFailure;
use crate::host::Host;
use crate::limits::TEXT_BYTES_MAX;
use crate::log::cut;

/// Which kind of thing went wrong in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// The module trapped without having panicked.
    Trap,
    /// The module panicked; the text has message, file and line.
    Panic,
    /// The call used more CPU time than it may.
    Deadline,
    /// The module trapped after it was refused more memory or table elements.
    Memory,
    /// The answer, or what it stands for, is larger than allowed.
    OutputTooLarge,
    /// The module trapped since the state did not take or give what it wanted.
    State,
    /// The answer is not the verdicts of the batch.
    BadVerdicts,
    /// A verdict or a topic that the module did not announce.
    Undeclared,
    /// The module asks for the same batch again.
    Retry,
    /// The module says that the batch can never be judged.
    Reject,
    /// No instance: `configure` fails now, or instantiation does.
    Unusable,
    /// No instance: all are in use. Passes.
    Busy,
}

impl FaultKind {
    /// Whether the same record may be judged later: nothing in the module itself says that it fails each time.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Deadline | Self::Retry | Self::Unusable | Self::Busy)
    }

    /// The kind in one lower-case word or two, as for logs and dead-letter headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Panic => "panic",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::OutputTooLarge => "output_too_large",
            Self::State => "state",
            Self::BadVerdicts => "bad_verdicts",
            Self::Undeclared => "undeclared",
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Unusable => "unusable",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call gave no verdicts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("module fault ({kind}): {text}")]
pub struct Fault {
    /// Which kind.
    pub kind: FaultKind,
    /// For people: the guest's own words where there are some.
    pub text: String,
    /// Position in the batch of the verdict at fault, where one is known.
    pub record: Option<usize>,
    /// Whether the instance had served no call before: then an older call cannot be the cause.
    pub fresh: bool,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), record: None, fresh: false }
    }

    pub(crate) fn at(self, record: usize) -> Self {
        Self { record: Some(record), ..self }
    }

    /// Sorts out why a call into the guest came back with `error`; takes the panic message from `host`.
    pub(crate) fn from_call(error: &wasmtime::Error, host: &mut Host) -> Self {
        if let Some(panic) = host.take_panic() {
            return Self::new(FaultKind::Panic, panic);
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Self::new(FaultKind::Busy, "all module instances of this broker are in use");
        }
        let trap = error.downcast_ref::<Trap>();
        if trap == Some(&Trap::Interrupt) {
            let used = host.limit_ms();
            return Self::new(FaultKind::Deadline, format!("used more than its {used} ms of CPU time"));
        }
        if let Some((kind, denied)) = host.take_denied() {
            return Self::new(kind, denied);
        }
        let cause = error.root_cause().to_string();
        if cause.contains(FUEL_EXHAUSTED) {
            return Self::new(FaultKind::OutputTooLarge, "handed over more bytes than its limit allows");
        }
        let text = cause.strip_prefix("wasm trap: ").unwrap_or(&cause);
        Self::new(FaultKind::Trap, if trap == Some(&Trap::MemoryOutOfBounds) { OUT_OF_BOUNDS } else { text })
    }
}

impl From<GuestFailure> for Fault {
    fn from(failure: GuestFailure) -> Self {
        match failure {
            GuestFailure::Retry(text) => Self::new(FaultKind::Retry, cut(&text, TEXT_BYTES_MAX)),
            GuestFailure::Reject(text) => Self::new(FaultKind::Reject, cut(&text, TEXT_BYTES_MAX)),
        }
    }
}

/// What compilers keep on the stack beside what WASM keeps there lies in the memory, and below its start nothing tells an overflow
/// from any other bad address.
const OUT_OF_BOUNDS: &str = "out of bounds memory access, which is also what an overflow of the module's own stack looks like: \
                             look for deep recursion and large local variables first";

/// Part of wasmtime's error when a guest hands over more than `set_hostcall_fuel` allows: its type is private.
const FUEL_EXHAUSTED: &str = "fuel allocated for hostcalls";

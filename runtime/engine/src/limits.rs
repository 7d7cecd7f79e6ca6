//! The bounds a module runs in, and those of the engine as a whole.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::Capability;

/// What an instance may leave behind for the records after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Its memory, which the next call of the same pipeline finds: fast, and what modules are written for.
    #[default]
    Pipeline,
    /// Nothing: each call, of up to 256 records, has an instance of its own, newly configured.
    Batch,
}

/// What one module may use. The defaults suit modules built with the SDK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest component, in bytes.
    pub module_bytes: usize,
    /// Linear memory of one instance, all its memories together, in bytes.
    pub memory_bytes: usize,
    /// Elements of one table.
    pub table_elements: usize,
    /// Core instances, tables and memories that one component may be made of.
    pub parts: usize,
    /// CPU time of compiling it, in ms, where it is compiled in a process of its own.
    pub compile_ms: u64,
    /// CPU time of one call, in ms.
    pub call_ms: u64,
    /// CPU time of instantiation and `configure`, in ms each.
    pub configure_ms: u64,
    /// A call may answer this many times the bytes it was given, and `output_slack_bytes` more.
    pub output_ratio: usize,
    /// See `output_ratio`.
    pub output_slack_bytes: usize,
    /// Longest log line, in bytes; what is beyond is cut.
    pub log_line_bytes: usize,
    /// Log lines a second; more are counted and left out.
    pub log_lines_per_second: u32,
    /// The interfaces of the broker that it may use.
    pub granted: BTreeSet<Capability>,
    /// What its instances may leave behind.
    pub isolation: Isolation,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            module_bytes: millstream_types::limits::MODULE_BYTES_MAX,
            memory_bytes: 16 << 20,
            table_elements: 20_000,
            // CPython alone is about forty.
            parts: 64,
            compile_ms: 30_000,
            call_ms: 50,
            configure_ms: 1_000,
            output_ratio: 4,
            output_slack_bytes: 1 << 20,
            log_line_bytes: 4 << 10,
            log_lines_per_second: 100,
            granted: Capability::ALL.into(),
            isolation: Isolation::default(),
        }
    }
}

impl Limits {
    /// Most bytes a call given `input` bytes may answer.
    pub fn output_bytes(&self, input: usize) -> usize {
        self.output_ratio.saturating_mul(input).saturating_add(self.output_slack_bytes)
    }
}

/// Largest memory that an instance may be granted where the engine's settings say nothing else, in bytes.
pub const MEMORY_BYTES_CEILING: usize = 256 << 20;
/// Most records handed to a module in one call.
pub const CALL_RECORDS_MAX: usize = 256;
/// Most bytes handed to a module in one call, unless one record alone has more.
pub const CALL_BYTES_MAX: usize = 256 << 10;
/// Faults in a row after which a pipeline stops instead of trying the next record.
pub const FAULTS_IN_ROW_MAX: u32 = 10;
/// Topics or patterns one module may announce.
pub const SPEC_TOPICS_MAX: usize = 1_024;
/// Longest error text taken from a module, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 << 10;
/// Longest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 128 << 10;
/// Signatures of one module.
pub const SIGNATURES_MAX: usize = 16;
/// Longest configuration handed to a module, in bytes.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Longest schema of a configuration, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Subschemas in the schema of a configuration.
pub const SCHEMA_PARTS_MAX: usize = 1_024;
/// How deep they may be nested.
pub const SCHEMA_DEPTH_MAX: usize = 32;
/// Patterns in the schema of a configuration.
pub const SCHEMA_PATTERNS_MAX: usize = 64;

/// Longest key of a state, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 1 << 10;
/// Longest value of a state, in bytes.
pub const STATE_VALUE_BYTES_MAX: usize = 256 << 10;
/// Bytes that one call may write to a state.
pub const STATE_CALL_BYTES_MAX: usize = 4 << 20;

/// What an entry of a state counts beside its bytes.
pub(crate) const STATE_ENTRY_OVERHEAD: i64 = 32;
/// A scan of a state ends once it has found so many bytes.
pub(crate) const STATE_SCAN_BYTES: usize = 256 << 10;
/// And so many entries.
pub(crate) const STATE_SCAN_ENTRIES: usize = 4_096;
/// Bytes of a state that are remembered as they are committed.
pub(crate) const STATE_KNOWN_BYTES: usize = 8 << 20;
/// Memory of one compiled pattern: enough for a few repeated Unicode classes.
pub(crate) const SCHEMA_PATTERN_BYTES: usize = 256 << 10;
/// What holding a configuration to a schema may cost. A unit is a subschema applied to a value.
pub(crate) const SCHEMA_CHECK_UNITS: u64 = 2_000_000;
/// Subschemas that may be at work at once, one within the other: a configuration is at most 128 deep.
pub(crate) const SCHEMA_CHECK_DEPTH: usize = 500;

/// What a component may be made of, nested modules and components counted in: far more than compilers make, and little enough to
/// look at.
pub(crate) mod structure {
    /// Imports of components, those within stubs of an interface counted in, of which some tools make a hundred.
    pub(crate) const IMPORTS_MAX: usize = 500;
    /// Exports of components.
    pub(crate) const EXPORTS_MAX: usize = 1_000;
    /// Types of components, those within types counted in.
    pub(crate) const TYPES_MAX: usize = 4_000;
    /// Instances of components and of core modules.
    pub(crate) const INSTANCES_MAX: usize = 400;
    /// Names that components take from instances.
    pub(crate) const ALIASES_MAX: usize = 10_000;
    /// Functions lifted or lowered, and the like.
    pub(crate) const CANONICAL_MAX: usize = 2_000;
    /// Core modules and components within the component.
    pub(crate) const NESTED_MAX: usize = 64;
    /// How deep they are nested.
    pub(crate) const DEPTH_MAX: usize = 8;
    /// Types of core modules.
    pub(crate) const CORE_TYPES_MAX: usize = 20_000;
    /// Imports of core modules.
    pub(crate) const CORE_IMPORTS_MAX: usize = 10_000;
    /// Exports of core modules.
    pub(crate) const CORE_EXPORTS_MAX: usize = 50_000;
    /// Tables, memories, globals and segments of core modules.
    pub(crate) const CORE_PARTS_MAX: usize = 50_000;
    /// Functions of core modules.
    pub(crate) const FUNCTIONS_MAX: usize = 60_000;
    /// Bytes of one function.
    pub(crate) const FUNCTION_BYTES_MAX: usize = 512 << 10;
    /// Local variables of one function, its parameters aside.
    pub(crate) const LOCALS_MAX: usize = 10_000;
}

/// The same panic is told once in this time.
pub(crate) const PANIC_AGAIN: Duration = Duration::from_secs(1);
/// Addresses that compiling may take: so many, and so many more for each byte of the component. An allocator sets a GiB aside at
/// once.
pub(crate) const COMPILE_ADDRESS_BYTES: u64 = 2 << 30;
/// See [`COMPILE_ADDRESS_BYTES`].
pub(crate) const COMPILE_ADDRESSES_PER_BYTE: u64 = 128;
/// Largest compiled form: so many bytes, and so many more for each byte of the component.
pub(crate) const COMPILED_BYTES: u64 = 16 << 20;
/// See [`COMPILED_BYTES`].
pub(crate) const COMPILED_PER_BYTE: u64 = 32;
/// Compiling that waits for the CPU this many times its CPU limit is ended all the same.
pub(crate) const COMPILE_WALL_RATIO: u32 = 4;
/// How much a process that compiles gives way to others: see nice(2).
pub(crate) const COMPILE_NICE: i32 = 10;

/// Bytes of records that one chunk of a pipeline may emit, inherited parts counted in.
pub(crate) const EMIT_BYTES_MAX: usize = 12 << 20;
/// Records that one chunk of a pipeline may emit.
pub(crate) const EMIT_RECORDS_MAX: usize = 32_768;
/// A run of a pipeline ends early once it holds this many emitted bytes.
pub(crate) const RUN_EMIT_BYTES: usize = 4 << 20;
/// A run of a pipeline ends early after this long, so that one pipeline does not hold a worker.
pub(crate) const RUN_TURN: Duration = Duration::from_millis(10);
/// Who needs the CPU so long for one job, in the mean, has module threads apart from the others: twice a turn, so that those
/// are whose single calls are long.
pub(crate) const LONG_JOB: Duration = Duration::from_millis(20);
/// How much those threads give way to others: see nice(2).
pub(crate) const LONG_NICE: i32 = 10;
/// Module threads there are at least, where their number is not said.
pub(crate) const MODULE_THREADS_MIN: usize = 2;
/// After so many jobs it is forgotten what those flows used that have none.
pub(crate) const FLOWS_FORGOTTEN_EVERY: u32 = 1_024;
/// Topic names remembered as allowed by one module's announcement.
pub(crate) const TOPICS_KNOWN_MAX: usize = 4_096;
/// How often the epoch advances while a call runs.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// Ticks without a call after which the ticker sleeps until the next one.
pub(crate) const IDLE_TICKS: u32 = 20;
/// A call that waits for the CPU this many times its CPU limit is ended all the same.
pub(crate) const WALL_RATIO: u32 = 40;

const _: () = assert!(SCHEMA_BYTES_MAX < MANIFEST_BYTES_MAX, "there is more in a manifest");
const _: () = assert!(EMIT_BYTES_MAX < millstream_types::limits::BATCH_RAW_BYTES_MAX);
const _: () = assert!(
    EMIT_RECORDS_MAX + CALL_RECORDS_MAX <= millstream_types::limits::BATCH_RECORDS_MAX,
    "what a chunk emits, and what it keeps, fits one batch"
);

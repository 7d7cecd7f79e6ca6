//! How wasmtime is set up.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, OptLevel, PoolingAllocationConfig, WasmFeatures};

use crate::{Compiler, limits::MEMORY_BYTES_CEILING};

/// Settings of the engine as a whole.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where compiled modules are kept between runs; nowhere when `None`. Made if missing, for this user alone.
    pub cache_dir: Option<PathBuf>,
    /// Who compiles modules, in a process of its own; this process itself when `None`, which nothing can interrupt then.
    pub compiler: Option<Compiler>,
    /// Instances that may exist at once. Idle ones should be given up with [`Pipeline::rest`](crate::Pipeline::rest).
    pub instances_max: u32,
    /// Largest memory that any module may be granted, in bytes.
    pub memory_bytes_ceiling: usize,
    /// Largest table that any module may be granted.
    pub table_elements_ceiling: usize,
    /// Counts what calls cost in [`Counters::fuel`](crate::Counters::fuel): the same on every machine, at the price of some
    /// speed. For trying modules out.
    pub fuel: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compiler: None,
            instances_max: 1_000,
            memory_bytes_ceiling: MEMORY_BYTES_CEILING,
            table_elements_ceiling: 20_000,
            fuel: false,
        }
    }
}

/// Bytes that stay resident in a slot of the pool once used, so that the next instance need not fault them in.
const KEEP_RESIDENT: usize = 256 << 10;
/// Core instances a component of `wit-bindgen` consists of, and one to spare.
const CORE_INSTANCES_PER_COMPONENT: u32 = 4;
const WARM_SLOTS_MAX: u32 = 8;
const STACK_BYTES_MAX: usize = 512 << 10;

/// What decides which code a component becomes. Whoever compiles for an engine must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Bytes reserved for each memory; `None` for the 4 GiB that need no bounds checks.
    memory_reservation: Option<u64>,
    fuel: bool,
}

impl Target {
    /// Memories that need no bounds checks: each takes 4 GiB of addresses, though no memory.
    pub(crate) fn roomy(settings: &Settings) -> Self {
        Self { memory_reservation: None, fuel: settings.fuel }
    }

    /// For hosts that limit a process's addresses: slower, since each access is checked.
    pub(crate) fn cramped(settings: &Settings) -> Self {
        Self { memory_reservation: Some(settings.memory_bytes_ceiling as u64), fuel: settings.fuel }
    }
}

/// A configuration to run modules with.
pub(crate) fn running(settings: &Settings, target: Target) -> Config {
    let mut config = compiling(target);
    let count = settings.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(count)
        .total_core_instances(count.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(count)
        .total_tables(count.saturating_mul(2))
        .max_memory_size(settings.memory_bytes_ceiling)
        .table_elements(settings.table_elements_ceiling)
        .max_memories_per_component(4)
        .max_unused_warm_slots(WARM_SLOTS_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(4 << 10)
        .pagemap_scan(Enabled::Auto);
    config.allocation_strategy(pool);
    config
}

/// A configuration to compile modules with: it sets nothing aside for instances.
pub(crate) fn compiling(target: Target) -> Config {
    let mut config = Config::new();
    if let Some(bytes) = target.memory_reservation {
        config.memory_reservation(bytes);
        config.memory_guard_size(64 << 10);
    }
    config.epoch_interruption(true);
    config.consume_fuel(target.fuel);
    config.concurrency_support(false);
    config.cranelift_opt_level(OptLevel::Speed);
    config.max_wasm_stack(STACK_BYTES_MAX);
    config.wasm_backtrace_max_frames(None);
    config.wasm_simd(true);
    // What is not needed cannot be attacked; and a replay must give the same verdicts on every machine.
    config.wasm_features(
        WasmFeatures::THREADS
            | WasmFeatures::SHARED_EVERYTHING_THREADS
            | WasmFeatures::MEMORY64
            | WasmFeatures::RELAXED_SIMD
            | WasmFeatures::GC
            | WasmFeatures::FUNCTION_REFERENCES
            | WasmFeatures::EXCEPTIONS
            | WasmFeatures::STACK_SWITCHING
            | WasmFeatures::CUSTOM_PAGE_SIZES
            | WasmFeatures::CM_ASYNC,
        false,
    );
    config
}

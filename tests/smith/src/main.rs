//! Writes `tests/guests/strangers.bin`: for each seed the length of a module (u32, little-endian) and the module.

use arbitrary::Unstructured;
use wasm_smith::{Config, MemoryOffsetChoices, Module};

const STRANGERS: u64 = 100;
const EXPORTS: &str = "(module (func (export \"process\") (param i32 i32) (result i32) unreachable))";

fn main() {
    let mut out = Vec::new();
    for seed in 0..STRANGERS {
        let module = stranger(seed);
        out.extend(u32::try_from(module.len()).expect("a small module").to_le_bytes());
        out.extend(module);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/strangers.bin");
    std::fs::write(path, out).expect("written");
}

/// A module of any instructions that exports `process`.
fn stranger(seed: u64) -> Vec<u8> {
    let all = seed.is_multiple_of(4);
    let config = Config {
        exports: Some(wat::parse_str(EXPORTS).expect("valid text")),
        max_imports: 0,
        max_memories: if all { 3 } else { 1 },
        max_tables: if all { 3 } else { 1 },
        memory_offset_choices: MemoryOffsetChoices(1, 0, 0),
        max_data_segments: 3,
        max_element_segments: 3,
        allow_start_export: seed.is_multiple_of(7),
        max_memory32_bytes: if seed.is_multiple_of(3) { 1 << 32 } else { 1 << 20 },
        max_table_elements: if seed.is_multiple_of(5) { 1_000_000 } else { 100 },
        max_instructions: 500,
        gc_enabled: all,
        reference_types_enabled: all,
        exceptions_enabled: all,
        memory64_enabled: all,
        relaxed_simd_enabled: all,
        threads_enabled: all,
        wide_arithmetic_enabled: all,
        compact_imports_enabled: all,
        ..Config::default()
    };
    Module::new(config, &mut Unstructured::new(&noise(seed + 1, 4 << 10))).expect("enough noise").to_bytes()
}

/// Bytes that are the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out
}

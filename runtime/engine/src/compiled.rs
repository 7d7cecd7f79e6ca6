//! Compiled code read back. Loading it is trusting it: wasmtime runs what it is given here as machine code.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads compiled code that this user's engine made: just now, here or in a process that this one started of its own program, or
/// before, as its authentication code has shown.
#[expect(unsafe_code, reason = "wasmtime cannot check compiled code; it is known where it comes from")]
pub(crate) fn load(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: these are the bytes that `Engine::precompile_component` gave, in this process or in one of the same program that it
    // started and whose pipe it read, or bytes of `Cache::read`, whose HMAC matches under a key that only this user can read.
    // An engine of other settings or another version is found out by what is written in them.
    unsafe { Component::deserialize(engine, compiled) }
}

//! Compiled code read back. Loading it is trusting it: wasmtime runs what it is given here as machine code.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads compiled code that this user's engine wrote, as its authentication code has shown.
#[expect(unsafe_code, reason = "wasmtime cannot check compiled code; the cache has authenticated it")]
pub(crate) fn load(engine: &Engine, authenticated: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `Cache::read` hands out only bytes whose HMAC, under a key that only this user can read, matches; so they
    // are what `Component::serialize` of an engine with the same compatibility hash gave.
    unsafe { Component::deserialize(engine, authenticated) }
}

//! `std/schema`: validates JSON payloads against a JSON Schema.

mod config;
#[cfg(target_arch = "wasm32")]
mod seed;
mod validator;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Lets valid payloads go on untouched; of others, what the configuration says.
#[map(name = "std/schema")]
pub fn schema(record: &Record, config: &Config) -> Result<Option<Output>, String> {
    // What deletes a key has nothing to be validated.
    if record.is_tombstone() {
        return Ok(Some(Output::same()));
    }
    let checked = match record.json::<Value>() {
        Ok(payload) => config.validator.check(&payload),
        Err(error) => Err(error.to_string()),
    };
    config.verdict(record, checked)
}

#[cfg(test)]
mod tests;

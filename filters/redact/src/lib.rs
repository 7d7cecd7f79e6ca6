//! `std/redact`: masks or removes fields of JSON payloads. All else of the payload stays as it is, byte for byte.

mod config;
mod edit;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Masks and removes the configured fields where they are there; a record that has none goes on untouched.
#[map(name = "std/redact")]
pub fn redact(record: &Record, config: &Config) -> Result<Output, String> {
    if record.is_tombstone() {
        return Ok(Output::same());
    }
    // A payload that cannot be read cannot be shown to be free of what must not be seen.
    let text = record.text().map_err(|error| error.to_string())?;
    let redacted = config.plan.apply(text).map_err(|error| format!("the payload is not JSON: {error}"))?;
    Ok(redacted.map_or_else(Output::same, Output::payload))
}

#[cfg(test)]
mod tests;

//! `std/flatten`: brings nested JSON objects to one level.

mod config;
mod flat;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Replaces the payload by its fields on one level; one that has no others goes on untouched.
#[map(name = "std/flatten")]
pub fn flatten(record: &Record, config: &Config) -> Result<Output, String> {
    if record.is_tombstone() {
        return Ok(Output::same());
    }
    let text = record.text().map_err(|error| error.to_string())?;
    Ok(flat::flatten(text, config)?.map_or_else(Output::same, Output::payload))
}

#[cfg(test)]
mod tests;

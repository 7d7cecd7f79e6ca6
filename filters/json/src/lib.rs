//! `std/json`: keeps the records whose JSON payload meets a condition, whole or a selection of its fields.

mod config;
mod select;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Keeps the records that meet the condition; of a selection, only those fields.
#[map(name = "std/json")]
pub fn json_fields(record: &Record, config: &Config) -> Result<Option<Output>, NotJson> {
    let payload = match record.is_tombstone() {
        // A record without a payload is not a broken one: all its fields are missing.
        true => b"null".as_slice(),
        false => record.payload(),
    };
    let fields = config.predicate.pointers().pick(payload).map_err(NotJson)?;
    if !config.predicate.matches(|name| record.header_bytes(name), &fields) {
        return Ok(None);
    }
    match &config.select {
        Some(select) if !record.is_tombstone() => {
            select.project(record.payload()).map(|json| Some(Output::payload(json))).map_err(NotJson)
        }
        _ => Ok(Some(Output::same())),
    }
}

/// Why a record is rejected.
#[derive(Debug)]
pub struct NotJson(millstream_sdk::serde_json::Error);

impl std::fmt::Display for NotJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the payload is not JSON: {}", self.0)
    }
}

#[cfg(test)]
mod tests;

//! `std/enrich`: adds headers or JSON fields from a table in the configuration.

mod config;
mod table;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Adds the row that the record's value has in the table.
#[map(name = "std/enrich", reads_from = Config::reads_payload)]
pub fn enrich(record: &Record, config: &Config) -> Result<Option<Output>, String> {
    config.enrich(record)
}

#[cfg(test)]
mod tests;

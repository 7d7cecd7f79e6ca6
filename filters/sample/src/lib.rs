//! `std/sample`: keeps a share of the records, those of one key together.

mod config;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Keeps the record if it falls within the share.
#[filter(name = "std/sample", reads_from = Config::reads_payload)]
pub fn sample(record: &Record, config: &Config) -> Result<bool, String> {
    config.keeps(record)
}

#[cfg(test)]
mod tests;

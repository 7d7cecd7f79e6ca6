//! `std/rename`: moves, copies and drops JSON fields and headers.

mod config;
mod edit;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Takes the steps of the configuration; a record that none of them changes goes on untouched.
#[map(name = "std/rename", reads_from = Config::reads_payload)]
pub fn rename(record: &Record, config: &Config) -> Result<Output, String> {
    edit::edit(record, config)
}

#[cfg(test)]
mod tests;

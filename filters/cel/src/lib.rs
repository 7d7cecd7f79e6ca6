//! `std/cel`: filters, maps and routes records by CEL expressions over key, headers and JSON payload.

mod config;
mod expression;
mod functions;
mod needs;
mod value;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Keeps, replaces and sends on the record as the expressions say.
#[flat_map(name = "std/cel", reads_from = Config::reads_payload, topics_from = Config::topics)]
pub fn by_expression(record: &Record, config: &Config) -> Result<Vec<Output>, String> {
    config.judge(record)
}

#[cfg(test)]
mod tests;

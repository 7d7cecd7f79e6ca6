//! `std/route`: sends each record to a topic chosen from a header or a JSON field, by table or by template.

mod config;
mod template;

use millstream_sdk::prelude::*;

pub use config::Config;

/// Sends the record to the topic that the configuration chooses for it, or rejects it when there is none.
#[route(name = "std/route", reads_from = Config::reads_payload, topics_from = Config::topics)]
pub fn route_by(record: &Record, config: &Config) -> Result<String, String> {
    config.destination(record)
}

#[cfg(test)]
mod tests;

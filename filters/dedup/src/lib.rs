//! `std/dedup`: lets each value through once within a time. It remembers, so it is a processor's.

use std::time::Duration;

use millstream_filter_predicate::{By, ConfigError, PointerTree, Source};
use millstream_sdk::Dedup;
use millstream_sdk::prelude::*;

/// Longest value, as keys of a state have their bound.
const VALUE_BYTES_MAX: usize = 500;

/// What tells records apart, and for how long it is remembered.
///
/// The configuration as it is written.
#[derive(Debug, ModuleConfig)]
struct Written {
    /// What tells records apart: `"key"`, a header or a JSON field.
    #[serde(default)]
    by: By,
    /// For how long a value is remembered.
    within_seconds: u64,
}

/// What tells records apart, and for how long.
#[derive(Debug, Clone)]
pub struct Config {
    seen: Dedup,
    source: Source,
    pointers: PointerTree,
}

impl Config {
    fn reads_payload(&self) -> bool {
        !self.pointers.is_empty()
    }
}

impl ModuleConfig for Config {
    const SCHEMA: millstream_sdk::SchemaText = Written::SCHEMA;

    fn from_json(json: &str) -> Result<Self, String> {
        let Written { by, within_seconds } = Written::from_json(json)?;
        if within_seconds == 0 || within_seconds > 366 * 24 * 3_600 {
            let fault = format!("{within_seconds} is not from 1 to 31622400, a year");
            return Err(ConfigError::new("config.within_seconds", fault).into());
        }
        let mut pointers = PointerTree::default();
        let source = by.compile("config.by", &mut pointers)?;
        Ok(Self { seen: Dedup::new("seen", Duration::from_secs(within_seconds)), source, pointers })
    }
}

/// Lets the record through if its value was not seen lately; one without the value goes through as well.
#[processor(name = "std/dedup", reads_from = Config::reads_payload)]
pub fn dedup(record: &Record, state: &mut State, config: &Config) -> Result<Option<Output>, String> {
    let fields = config.pointers.fields(record)?;
    let found = config.source.found(record, &fields);
    let Some(value) = found.to_bytes() else { return Ok(Some(Output::same())) };
    if value.len() > VALUE_BYTES_MAX {
        let len = value.len();
        return Err(format!(
            "the value that it is told apart by has {len} bytes; {VALUE_BYTES_MAX} are the most"
        ));
    }
    Ok(config.seen.is_first(state, &value, record.timestamp()).then(Output::same))
}

#[cfg(test)]
mod tests;

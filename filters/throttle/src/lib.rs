//! `std/throttle`: lets so many records of each key through in a time. It remembers, so it is a processor's.

use std::time::Duration;

use millstream_filter_predicate::{By, ConfigError, PointerTree, Source};
use millstream_sdk::prelude::*;
use millstream_sdk::{Count, TopicName};

/// Longest value, as keys of a state have their bound.
const VALUE_BYTES_MAX: usize = 500;

/// How many records of each value go through, and in how long.
///
/// The configuration as it is written.
#[derive(Debug, ModuleConfig)]
struct Written {
    /// Of what so many go through: `"key"`, a header or a JSON field.
    #[serde(default)]
    by: By,
    /// How many.
    records: u64,
    /// In how long.
    per_seconds: u64,
    /// Where the others go; they are dropped without it.
    #[serde(default)]
    over: Option<String>,
}

/// How many go through, and what becomes of the others.
#[derive(Debug, Clone)]
pub struct Config {
    records: u64,
    windows: Windows,
    over: Option<String>,
    source: Source,
    pointers: PointerTree,
}

impl Config {
    fn reads_payload(&self) -> bool {
        !self.pointers.is_empty()
    }

    fn topics(&self) -> Vec<String> {
        self.over.iter().cloned().collect()
    }
}

impl ModuleConfig for Config {
    const SCHEMA: millstream_sdk::SchemaText = Written::SCHEMA;

    fn from_json(json: &str) -> Result<Self, String> {
        let Written { by, records, per_seconds, over } = Written::from_json(json)?;
        let refused = |field: &str, fault: String| Err(ConfigError::new(field, fault).into());
        if records == 0 {
            return refused("config.records", "0 lets nothing through: write 1 or more".into());
        }
        if per_seconds == 0 || per_seconds > 366 * 24 * 3_600 {
            return refused("config.per_seconds", format!("{per_seconds} is not from 1 to 31622400, a year"));
        }
        if let Some(Err(error)) = over.clone().map(TopicName::new) {
            return refused("config.over", error.to_string());
        }
        let mut pointers = PointerTree::default();
        let source = by.compile("config.by", &mut pointers)?;
        let windows = Windows::tumbling("passed", Duration::from_secs(per_seconds));
        Ok(Self { records, windows, over, source, pointers })
    }
}

/// Lets the record through if few enough of its value went through in its window.
#[processor(name = "std/throttle", reads_from = Config::reads_payload, topics_from = Config::topics)]
pub fn throttle(record: &Record, state: &mut State, config: &Config) -> Result<Option<Output>, String> {
    let fields = config.pointers.fields(record)?;
    let found = config.source.found(record, &fields);
    let value = found.to_bytes().unwrap_or_default();
    if value.len() > VALUE_BYTES_MAX {
        let len = value.len();
        return Err(format!(
            "the value that it is counted by has {len} bytes; {VALUE_BYTES_MAX} are the most"
        ));
    }
    let count =
        |state: &mut State, time_ms| config.windows.update::<Count>(state, &value, time_ms, Count::add);
    let counted = match count(state, record.timestamp()) {
        // Of another partition, perhaps, whose records lie a little behind: it counts now.
        Err(WindowError::Late { latest_ms, .. }) => count(state, latest_ms),
        counted => counted,
    };
    let counted = counted.map_err(|error| error.to_string())?;
    // What is over is forgotten.
    config.windows.close::<Count>(state).map_err(|error| error.to_string())?;
    let passes = counted.iter().all(|window| window.value.0 <= config.records);
    Ok(match (passes, &config.over) {
        (true, _) => Some(Output::same()),
        (false, Some(over)) => Some(Output::same().to_topic(over)),
        (false, None) => None,
    })
}

#[cfg(test)]
mod tests;

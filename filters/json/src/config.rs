//! The configuration: a condition, with `select` beside it.

use millstream_filter_predicate::{Predicate, Reach, list_of_fields};
use millstream_sdk::prelude::*;
use millstream_sdk::{parse_config, serde_json};

use crate::select::Selection;

/// A condition, and optionally the fields to keep.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) predicate: Predicate,
    pub(crate) select: Option<Selection>,
}

impl ModuleConfig for Config {
    fn from_json(json: &str) -> Result<Self, String> {
        let mut condition: serde_json::Map<String, Value> = parse_config(json)?;
        let select = condition.remove("select");
        let select = select.map(|list| list_of_fields(&list, "config.select")).transpose()?;
        let predicate = match &select {
            // A selection of every record's fields needs no condition.
            Some(_) if condition.is_empty() => Predicate::always(),
            _ => Predicate::parse(&Value::Object(condition), "config", Reach::HeadersAndJson)?,
        };
        Ok(Self { predicate, select: select.map(|fields| Selection::new(&fields)) })
    }
}

//! The configuration: a condition, with `select` beside it.

use millstream_filter_predicate::{
    HEADER_CONDITION, LIST_OF_FIELDS, OPERATORS, POINTER, Predicate, Reach, list_of_fields,
};
use millstream_sdk::prelude::*;
use millstream_sdk::{SchemaText, parse_config, serde_json};

use crate::select::Selection;

/// A condition, and optionally the fields to keep.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) predicate: Predicate,
    pub(crate) select: Option<Selection>,
}

/// The members of a condition.
const CONDITION: SchemaText = SchemaText::Joined(&[
    SchemaText::Text(HEADER_CONDITION),
    SchemaText::Text(POINTER),
    SchemaText::Text(OPERATORS),
]);

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = SchemaText::Parts(&[
        SchemaText::Text(
            r##"{"type": "object", "additionalProperties": false,
            "description": "The condition that records must meet, and the fields to keep", "properties": {
            "select": {"description": "Fields to keep: names of the top level, or JSON Pointers", "##,
        ),
        SchemaText::Text(LIST_OF_FIELDS),
        SchemaText::Text("},"),
        CONDITION,
        SchemaText::Text(
            r##"}, "$defs": {"condition": {"type": "object", "additionalProperties": false,
            "description": "A condition on headers and JSON fields", "properties": {"##,
        ),
        CONDITION,
        SchemaText::Text("}}}}"),
    ]);

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

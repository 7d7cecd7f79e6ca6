//! The configuration: which fields to mask, which to remove.

use millstream_filter_predicate::{ConfigError, LIST_OF_FIELDS, Pointer, list_of_fields};
use millstream_sdk::prelude::*;
use millstream_sdk::{SchemaText, parse_config, serde_json};

use crate::edit::{Action, Plan};

const SHAPE: &str =
    r#"write {"mask": ["/email"]} or {"remove": ["/ssn"]} or both, and if you like "mask_with": TEXT"#;
const MASK: &str = "***";

/// The fields to mask and to remove.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) plan: Plan,
}

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = SchemaText::Parts(&[
        SchemaText::Text(
            r#"{"type": "object", "additionalProperties": false,
            "description": "Fields by their names at the top level, or by JSON Pointers; at least one", "properties": {
            "mask_with": {"type": "string", "default": "***", "description": "What takes the place of a masked value"},
            "mask": {"description": "Fields whose values are replaced", "#,
        ),
        SchemaText::Text(LIST_OF_FIELDS),
        SchemaText::Text(r#"}, "remove": {"description": "Fields that are taken out", "#),
        SchemaText::Text(LIST_OF_FIELDS),
        SchemaText::Text("}}}"),
    ]);

    fn from_json(json: &str) -> Result<Self, String> {
        let mut config: serde_json::Map<String, Value> = parse_config(json)?;
        let mut fields = |name: &str| {
            let list = config.remove(name);
            list.map(|list| list_of_fields(&list, &format!("config.{name}"))).transpose()
        };
        let (mask, remove) = (fields("mask")?.unwrap_or_default(), fields("remove")?.unwrap_or_default());
        let mask_with = match config.remove("mask_with") {
            None => MASK.to_owned(),
            Some(Value::String(text)) => text,
            Some(other) => {
                return Err(ConfigError::new("config.mask_with", format!("{other} is not a text")).into());
            }
        };
        if let Some(unknown) = config.keys().next() {
            return Err(
                ConfigError::new(format!("config.{unknown}"), format!("is not known here: {SHAPE}")).into()
            );
        }
        if mask.is_empty() && remove.is_empty() {
            return Err(ConfigError::new("config", format!("names no field: {SHAPE}")).into());
        }
        refuse_both(&mask, &remove)?;
        let mut plan = Plan::new(&mask_with);
        mask.iter().for_each(|field| plan.add(field, Action::Mask));
        remove.iter().for_each(|field| plan.add(field, Action::Remove));
        Ok(Self { plan })
    }
}

fn refuse_both(mask: &[Pointer], remove: &[Pointer]) -> Result<(), ConfigError> {
    match mask.iter().find(|field| remove.contains(field)) {
        Some(field) => Err(ConfigError::new(
            "config",
            format!("\"{field}\" stands in both `mask` and `remove`: choose one"),
        )),
        None => Ok(()),
    }
}

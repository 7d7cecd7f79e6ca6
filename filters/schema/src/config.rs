//! The configuration: the schema, and what becomes of payloads that do not fit it.

use std::collections::BTreeMap;

use millstream_filter_predicate::{ConfigError, shown};
use millstream_sdk::SchemaText;
use millstream_sdk::prelude::*;

use crate::validator::Validator;

/// What payloads must look like.
///
/// The configuration as it is written.
#[derive(ModuleConfig)]
struct Written {
    /// A JSON Schema.
    schema: Value,
    /// Schemas that it refers to, each by its URI.
    #[serde(default)]
    references: BTreeMap<String, Value>,
    /// Whether `format` is checked.
    #[config(default = true)]
    formats: bool,
    /// What becomes of a record that does not fit.
    #[serde(default)]
    on_invalid: OnInvalid,
}

/// What becomes of a record whose payload does not fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, ModuleConfig)]
#[serde(rename_all = "snake_case")]
enum OnInvalid {
    #[default]
    Reject,
    Drop,
    /// It is kept, with the reason in a header of this name.
    Header(String),
}

/// A schema, and what becomes of payloads that do not fit it.
pub struct Config {
    pub(crate) validator: Validator,
    on_invalid: OnInvalid,
}

impl Config {
    /// What becomes of a record of which `checked` was found.
    pub(crate) fn verdict(
        &self,
        record: &Record<'_>,
        checked: Result<(), String>,
    ) -> Result<Option<Output>, String> {
        match (checked, &self.on_invalid) {
            (Ok(()), _) => Ok(Some(Output::same())),
            (Err(reason), OnInvalid::Reject) => Err(reason),
            (Err(_), OnInvalid::Drop) => Ok(None),
            (Err(reason), OnInvalid::Header(name)) => {
                // One that is there already may be another's, or that of an older check: the first of a name is read.
                let others = record.headers().filter(|(other, _)| other != name);
                let kept = others.fold(Output::same().without_headers(), |output, (name, value)| {
                    output.add_header(name, value.to_vec())
                });
                Ok(Some(kept.add_header(name.as_str(), reason)))
            }
        }
    }
}

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = Written::SCHEMA;

    fn from_json(json: &str) -> Result<Self, String> {
        let Written { schema, references, formats, on_invalid } = Written::from_json(json)?;
        if !(schema.is_object() || schema.is_boolean()) {
            let fault = format!(
                "{} is no JSON Schema: write an object, as in {{\"type\": \"object\"}}",
                shown(&schema)
            );
            return Err(ConfigError::new("config.schema", fault).into());
        }
        if on_invalid == OnInvalid::Header(String::new()) {
            return Err(
                ConfigError::new("config.on_invalid.header", "is empty: write a header's name").into()
            );
        }
        Ok(Self { validator: Validator::new(schema, references, formats)?, on_invalid })
    }
}

//! A module's configuration: from JSON, refused with the field's name when it does not fit.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::schema::SchemaText;

/// A module's configuration. Derive it: `#[derive(ModuleConfig)]` reads the fields as serde does (with serde's field
/// attributes, such as `#[serde(default)]`) and refuses unknown ones. If the type has a method
/// `fn validate(&self) -> Result<(), E>` with `E: Display`, its error refuses the binding, too.
///
/// Implement it by hand to compile the configuration into something faster than its fields.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a module's configuration",
    label = "add `#[derive(ModuleConfig)]` to `{Self}`"
)]
pub trait ModuleConfig: Sized + 'static {
    /// What it looks like: a JSON Schema, draft 2020-12, as one JSON text. The manifest has it, and the broker refuses what
    /// does not fit it, by field, before the module is asked. Written by hand: `SchemaText::Text(r#"{"type": "object"}"#)`.
    const SCHEMA: SchemaText = SchemaText::ANY;

    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// A text for the person who wrote `json`, naming the field, what is wrong with it and what to do.
    fn from_json(json: &str) -> Result<Self, String>;
}

/// The configuration of a module that takes none: `{}`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "`{}`: this module takes no configuration")]
pub struct NoConfig {}

impl ModuleConfig for NoConfig {
    const SCHEMA: SchemaText = SchemaText::Text(r#"{"type":"object","additionalProperties":false}"#);

    fn from_json(json: &str) -> Result<Self, String> {
        parse(json)
    }
}

/// Parses a configuration, for a [`ModuleConfig`] written by hand; the error begins with the path of the field.
///
/// # Errors
/// As [`ModuleConfig::from_json`].
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    let mut parser = serde_json::Deserializer::from_str(json);
    let parsed = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        match error.inner().is_data() {
            true if path == "." => format!("config: {}", without_place(error.inner())),
            true => format!("config field `{path}`: {}", without_place(error.inner())),
            false => format!("config is not JSON: {}", error.inner()),
        }
    })?;
    parser.end().map_err(|error| format!("config is not one JSON value: {error}"))?;
    Ok(parsed)
}

/// What is wrong with a field that is named beside it: its line and column say no more, and are those of a text that may
/// have been put together by a program.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// Lets the derive call `validate` whether or not the type has one: a type's own method comes first.
pub trait NoValidate {
    /// Finds no fault.
    ///
    /// # Errors
    /// Never.
    fn validate(&self) -> Result<(), std::convert::Infallible> {
        Ok(())
    }
}

impl<T> NoValidate for T {}

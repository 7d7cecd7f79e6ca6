//! Where a value of a record is taken from: its key, a header, or a JSON field.

use std::borrow::Cow;
use std::fmt;

use millstream_sdk::{ConfigSchema, Record, SchemaText};
use serde::Deserialize;
use serde_json::Value;

use crate::parse::shown;
use crate::{ConfigError, Fields, Found, Pointer, PointerTree, Slot};

/// Where a value is taken from, as configurations write it: `"key"`, `{"header": NAME}` or `{"pointer": "/FIELD"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum By {
    /// The key.
    #[default]
    Key,
    /// The first header of this name.
    Header(String),
    /// The field at this JSON Pointer.
    Pointer(String),
}

impl ConfigSchema for By {
    const MEMBERS: SchemaText = SchemaText::Text(
        r#""anyOf": [{"const": "key"},
        {"type": "object", "required": ["header"], "properties": {"header": {"type": "string"}}, "additionalProperties": false},
        {"type": "object", "required": ["pointer"], "properties": {"pointer": {"type": "string"}}, "additionalProperties": false}]"#,
    );
    const DEFAULT: &'static str = r#""key""#;
}

impl TryFrom<Value> for By {
    type Error = String;

    fn try_from(written: Value) -> Result<Self, String> {
        let one = match &written {
            Value::Object(object) if object.len() == 1 => object.iter().next(),
            _ => None,
        };
        match (&written, one) {
            (Value::String(text), _) if text == "key" => Ok(Self::Key),
            (_, Some((kind, Value::String(text)))) if kind == "header" => Ok(Self::Header(text.clone())),
            (_, Some((kind, Value::String(text)))) if kind == "pointer" => Ok(Self::Pointer(text.clone())),
            _ => Err(format!(
                r#"{} says no value of a record: write "key", {{"header": NAME}} or {{"pointer": "/FIELD"}}"#,
                shown(&written)
            )),
        }
    }
}

/// Where a value is taken from, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The key.
    Key,
    /// The first header of this name.
    Header(String),
    /// A field of the payload.
    Field {
        /// Where it stands in what was picked from the payload.
        slot: Slot,
        /// As it was written.
        pointer: String,
    },
}

impl By {
    /// Compiles it, with its pointer, if it has one, in `pointers`. Errors call it `path`.
    ///
    /// # Errors
    /// [`ConfigError`] for an empty name, or what is no pointer.
    pub fn compile(self, path: &str, pointers: &mut PointerTree) -> Result<Source, ConfigError> {
        match self {
            Self::Key => Ok(Source::Key),
            Self::Header(name) => {
                Source::header(name).map_err(|fault| ConfigError::new(format!("{path}.header"), fault))
            }
            Self::Pointer(text) => Source::field(text, pointers)
                .map_err(|fault| ConfigError::new(format!("{path}.pointer"), fault)),
        }
    }
}

impl Source {
    /// A header.
    ///
    /// # Errors
    /// A text, for the empty name.
    pub fn header(name: String) -> Result<Self, String> {
        match name.is_empty() {
            true => Err("is empty: write a header's name".into()),
            false => Ok(Self::Header(name)),
        }
    }

    /// The field at the JSON Pointer `text`, which is added to `pointers`.
    ///
    /// # Errors
    /// A text that says what is wrong and what to write.
    pub fn field(text: String, pointers: &mut PointerTree) -> Result<Self, String> {
        let slot = pointers.add(&Pointer::new(&text)?);
        Ok(Self::Field { slot, pointer: text })
    }

    /// The record's value; `fields` is what [`PointerTree::fields`] picked from its payload.
    pub fn found<'a>(&self, record: &Record<'a>, fields: &'a Fields<'a>) -> Found<'a> {
        match self {
            Self::Key => record.key().map_or(Found::Missing, Found::Header),
            Self::Header(name) => record.header_bytes(name).map_or(Found::Missing, Found::Header),
            Self::Field { slot, .. } => fields.at(*slot).clone(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("the key"),
            Self::Header(name) => write!(f, "header {name:?}"),
            Self::Field { pointer, .. } => write!(f, "field {pointer:?}"),
        }
    }
}

impl PointerTree {
    /// The fields picked from a record's payload; none when no pointer asks for it.
    ///
    /// # Errors
    /// A text, when the payload is not JSON.
    pub fn fields<'a>(&self, record: &Record<'a>) -> Result<Fields<'a>, String> {
        // A record without a payload is not a broken one: all its fields are missing.
        if self.is_empty() || record.is_tombstone() {
            return Ok(Fields::default());
        }
        self.pick(record.payload()).map_err(|error| format!("the payload is not JSON: {error}"))
    }
}

impl Found<'_> {
    /// The value as bytes to look up or to hash: a text's, a header's, or those of a number or bool as it is usually
    /// written; `None` when it is missing or composite.
    pub fn to_bytes(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Header(bytes) => Some(Cow::Borrowed(bytes)),
            other => other.to_text().map(|text| match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
        }
    }
}

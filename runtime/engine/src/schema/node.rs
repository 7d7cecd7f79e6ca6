//! One subschema, compiled. Others are known by their places in a list.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Number, Value};

/// One subschema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) description: Option<String>,
    /// Nothing fits: the schema `false`.
    pub(crate) never: bool,
    pub(crate) types: Option<Vec<Type>>,
    pub(crate) constant: Option<Value>,
    pub(crate) options: Option<Vec<Value>>,
    pub(crate) reference: Option<usize>,
    pub(crate) all: Vec<usize>,
    pub(crate) any: Option<Vec<usize>>,
    pub(crate) one: Option<Vec<usize>>,
    pub(crate) not: Option<usize>,
    pub(crate) properties: BTreeMap<String, usize>,
    pub(crate) required: Vec<String>,
    pub(crate) additional: Option<usize>,
    pub(crate) prefix: Vec<usize>,
    pub(crate) items: Option<usize>,
    pub(crate) unique: bool,
    pub(crate) pattern: Option<Regex>,
    /// Of characters, items and fields.
    pub(crate) lengths: [Bounds; 3],
    pub(crate) minimum: Option<Number>,
    pub(crate) maximum: Option<Number>,
    pub(crate) above: Option<Number>,
    pub(crate) below: Option<Number>,
}

/// How many there may be.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) min: Option<u64>,
    pub(crate) max: Option<u64>,
}

/// A type of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    pub(crate) const ALL: [Self; 7] =
        [Self::Null, Self::Boolean, Self::Integer, Self::Number, Self::String, Self::Array, Self::Object];

    /// As schemas have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    /// Whether `value` is of this type.
    pub(crate) fn has(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null)
            | (Self::Boolean, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::String, Value::String(_))
            | (Self::Array, Value::Array(_))
            | (Self::Object, Value::Object(_)) => true,
            (Self::Integer, Value::Number(number)) => {
                !number.is_f64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            _ => false,
        }
    }
}

//! The value that decides, from a header or a JSON field.

use millstream_filter_predicate::{Fields, Found, PointerTree, Slot};
use millstream_sdk::Record;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Header(String),
    Field { slot: Slot, pointer: String },
}

impl Source {
    pub(crate) fn found<'a>(&self, record: &Record<'a>, fields: &'a Fields<'a>) -> Found<'a> {
        match self {
            Self::Header(name) => record.header_bytes(name).map_or(Found::Missing, Found::Header),
            Self::Field { slot, .. } => fields.at(*slot).clone(),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name:?}"),
            Self::Field { pointer, .. } => write!(f, "field {pointer:?}"),
        }
    }
}

/// The fields picked from a record's payload; none when no pointer asks for it.
pub(crate) fn fields<'a>(pointers: &PointerTree, record: &Record<'a>) -> Result<Fields<'a>, String> {
    // A record without a payload is not a broken one: all its fields are missing.
    if pointers.is_empty() || record.is_tombstone() {
        return Ok(Fields::default());
    }
    pointers.pick(record.payload()).map_err(|error| format!("the payload is not JSON: {error}"))
}

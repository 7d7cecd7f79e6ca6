//! The configuration: how names are joined, and what becomes of arrays.

use millstream_sdk::prelude::*;

/// How names are joined, and what becomes of arrays.
#[derive(Debug, Clone, ModuleConfig)]
pub struct Config {
    /// Between the names of a field's way.
    #[serde(default = "dot")]
    pub(crate) separator: String,
    /// What becomes of arrays.
    #[serde(default)]
    pub(crate) arrays: Arrays,
}

fn dot() -> String {
    ".".to_owned()
}

/// What becomes of arrays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrays {
    /// They stay as they are.
    #[default]
    Keep,
    /// Each element becomes a field, with its index for a name.
    Index,
}

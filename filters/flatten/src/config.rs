//! The configuration: how names are joined, and what becomes of arrays.

use millstream_sdk::prelude::*;

/// How names are joined, and what becomes of arrays.
#[derive(Debug, Clone, ModuleConfig)]
pub struct Config {
    /// Between the names of a field's way.
    #[config(default = ".")]
    pub(crate) separator: String,
    /// What becomes of arrays.
    #[serde(default)]
    pub(crate) arrays: Arrays,
}

/// What becomes of arrays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ModuleConfig)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrays {
    /// They stay as they are.
    #[default]
    Keep,
    /// Each element becomes a field, with its index for a name.
    Index,
}

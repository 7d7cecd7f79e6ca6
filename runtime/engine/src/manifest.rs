//! What a module says of itself, in the custom section `millstream:manifest`, as JSON. Unknown fields are ignored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::LoadError;
use crate::contract::CONTRACT;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::sections;

/// Name of the custom section.
pub const MANIFEST_SECTION: &str = "millstream:manifest";

/// What a module says of itself. For people and tools: what it may do is decided by `configure` and its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Its name, without a version.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is: `filter`, `map`, `flat_map`, `route`.
    pub kind: String,
    /// Version of the contract that it was built for.
    pub contract: u32,
    /// Version of the SDK it was built with.
    pub sdk: String,
    /// Parts of a record that it reads: `headers`, `key`, `payload`.
    pub reads: Vec<String>,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Interfaces of the broker that it uses: `log`, `metrics`, and of processors `source` and `state`. All it imports must be here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// What its configuration looks like: a JSON Schema, draft 2020-12. See [`ConfigSchema`](crate::ConfigSchema).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
}

impl Manifest {
    /// The manifest in `wasm`, if it has one.
    ///
    /// # Errors
    /// [`LoadError::Manifest`] when it cannot be read, [`LoadError::Contract`] when it is for a later contract.
    pub fn find(wasm: &[u8]) -> Result<Option<Self>, LoadError> {
        let Some(json) = sections::custom(wasm, MANIFEST_SECTION) else { return Ok(None) };
        if json.len() > MANIFEST_BYTES_MAX {
            let found = json.len();
            return Err(LoadError::Manifest(format!(
                "it has {found} bytes, above the limit of {MANIFEST_BYTES_MAX}"
            )));
        }
        let manifest: Self =
            serde_json::from_slice(json).map_err(|error| LoadError::Manifest(error.to_string()))?;
        if manifest.contract > CONTRACT {
            return Err(LoadError::Contract { found: manifest.contract });
        }
        Ok(Some(manifest))
    }
}

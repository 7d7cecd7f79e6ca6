//! The config of a Wasm artifact: what kind of WebAssembly it is, and what the component asks for and offers.

use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};

use super::Artifact;
use crate::output;

/// `application/vnd.wasm.config.v0+json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    created: String,
    architecture: String,
    /// The guidance knows `wasip1` for core modules and `wasip2` for components, also for those without WASI.
    os: String,
    pub(super) layer_digests: Vec<String>,
    component: Component,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Component {
    exports: Vec<String>,
    imports: Vec<String>,
}

/// What of a config is looked at when one is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundConfig {
    #[serde(default)]
    pub(super) layer_digests: Option<Vec<String>>,
}

impl Config {
    pub(super) fn of(artifact: &Artifact<'_>, layer: &str) -> Result<Self, String> {
        let component = Component::of(artifact.wasm).map_err(|error| error.to_string())?;
        Ok(Self {
            created: output::time(artifact.created_ms),
            architecture: "wasm".to_owned(),
            os: "wasip2".to_owned(),
            layer_digests: vec![layer.to_owned()],
            component,
        })
    }
}

impl Component {
    fn of(wasm: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let (mut component, mut depth) = (Self::default(), 0_u32);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        component.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        component.exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(component)
    }
}

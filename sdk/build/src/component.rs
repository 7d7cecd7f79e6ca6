//! From a core module to a component, with the SDK's manifest where the broker reads it.

use std::borrow::Cow;

use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use crate::BuildError;

/// Name of the custom section that holds the manifest, a JSON object.
pub const MANIFEST_SECTION: &str = "millstream:manifest";

/// Makes a component of a core module that the SDK compiled, its manifest lifted to the top level.
///
/// # Errors
/// [`BuildError::Component`] when it is not WASM, exports no module, or imports what the contract does not have.
pub fn componentize(core: &[u8]) -> Result<Vec<u8>, BuildError> {
    let fault = |why: String| BuildError::Component(why);
    let manifest = section(core).map_err(fault)?.map(<[u8]>::to_vec);
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| fault(format!("{error:#}")))?;
    let Some(manifest) = manifest else {
        return Err(fault(format!("it has no `{MANIFEST_SECTION}` section")));
    };
    let mut component = encoded;
    CustomSection { name: Cow::Borrowed(MANIFEST_SECTION), data: Cow::Borrowed(&manifest) }
        .append_to_component(&mut component);
    Ok(component)
}

/// The manifest of a component, if it has one: a JSON text.
pub fn manifest(component: &[u8]) -> Option<&str> {
    std::str::from_utf8(section(component).ok()??).ok()
}

/// The manifest's section at the top level of `wasm`.
fn section(wasm: &[u8]) -> Result<Option<&[u8]>, String> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|error| format!("it is not WASM: {error}"))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(custom) if depth == 0 && custom.name() == MANIFEST_SECTION => {
                return Ok(Some(custom.data()));
            }
            _ => {}
        }
    }
    Ok(None)
}

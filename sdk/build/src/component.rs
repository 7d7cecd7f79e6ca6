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
    let Some(manifest) = manifest else {
        return Err(fault(format!("it has no `{MANIFEST_SECTION}` section")));
    };
    let mut component = ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| fault(format!("{error:#}")))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn what_is_no_module_of_ours_is_refused() {
        let check = |core: &[u8], wanted: &str| {
            let error = componentize(core).expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(error.contains("Mark one function with #[filter]"), "{error}");
        };
        check(b"", "it is not WASM");
        check(b"#!/bin/sh", "it is not WASM");
        check(EMPTY_MODULE, "it has no `millstream:manifest` section");
    }

    #[test]
    fn the_manifest_is_found_at_the_top_level_alone() {
        let section = CustomSection { name: MANIFEST_SECTION.into(), data: Cow::Borrowed(b"{}") };
        let mut module = wasm_encoder::Module::new();
        module.section(&section);
        assert_eq!(manifest(module.as_slice()), Some("{}"));
        let mut component = wasm_encoder::Component::new();
        component.section(&wasm_encoder::ModuleSection(&module));
        assert_eq!(manifest(component.as_slice()), None);
        component.section(&section);
        assert_eq!(manifest(component.as_slice()), Some("{}"));
        assert_eq!(manifest(EMPTY_MODULE), None);
    }
}

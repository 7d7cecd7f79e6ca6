//! From a core module to a component, with the module's manifest where the broker reads it.

use std::borrow::Cow;

use serde_json::{Map, Value};
use wasm_encoder::{ComponentSection, CustomSection, Encode, Section};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use crate::BuildError;

/// Name of the custom section that holds the manifest, a JSON object.
pub const MANIFEST_SECTION: &str = "millstream:manifest";
/// Start of the names of the custom sections in which `wit-bindgen` says what a core module's functions are.
const WORLD_SECTION: &str = "component-type";
/// Start of the names of the contract's interfaces.
const PACKAGE: &str = "millstream:module/";
/// The one of them that has no functions.
const TYPES: &str = "types";

/// Makes a component of a core module that was compiled for the contract, its manifest, if any, lifted to the top level.
///
/// # Errors
/// [`BuildError::Component`] when it is not WASM, exports no module, or imports what the contract does not have.
pub fn componentize(core: &[u8]) -> Result<Vec<u8>, BuildError> {
    let fault = BuildError::Component;
    let manifest = section(core).map_err(fault)?.map(<[u8]>::to_vec);
    if !has_world(core).map_err(fault)? {
        return Err(fault(format!("it has no `{WORLD_SECTION}` section, which the bindings bring")));
    }
    let mut component = ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| fault(format!("{error:#}")))?;
    if let Some(manifest) = manifest {
        let manifest = with_capabilities(&manifest, &component).unwrap_or(manifest);
        manifest_section(&manifest).append_to_component(&mut component);
    }
    Ok(component)
}

/// The same component, or core module, with `manifest`, a JSON text, as its manifest.
///
/// # Errors
/// [`BuildError::Component`] when it is not WASM, or has a manifest already.
pub fn with_manifest(wasm: &[u8], manifest: &str) -> Result<Vec<u8>, BuildError> {
    if section(wasm).map_err(BuildError::Component)?.is_some() {
        return Err(BuildError::Component("it has a manifest already".to_owned()));
    }
    // Of a core module it shows what it uses once it is a component.
    let filled = with_capabilities(manifest.as_bytes(), wasm);
    let mut wasm = wasm.to_vec();
    // A custom section is the same in a component and in a core module.
    let section = manifest_section(filled.as_deref().unwrap_or(manifest.as_bytes()));
    wasm.push(Section::id(&section));
    section.encode(&mut wasm);
    Ok(wasm)
}

/// The manifest with the interfaces of the contract that `component` imports, unless it says itself what those are; `None` when
/// there is nothing to be filled in.
fn with_capabilities(manifest: &[u8], component: &[u8]) -> Option<Vec<u8>> {
    let mut manifest: Map<String, Value> = serde_json::from_slice(manifest).ok()?;
    if !Parser::is_component(component) || manifest.contains_key("capabilities") {
        return None;
    }
    manifest.insert("capabilities".to_owned(), imported(component).into());
    serde_json::to_vec(&manifest).ok()
}

/// The interfaces of the contract that `component` imports functions of.
fn imported(component: &[u8]) -> Vec<String> {
    let mut depth = 0_usize;
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                let imports = imports.into_iter().map_while(Result::ok);
                names.extend(imports.filter_map(|import| {
                    let (name, _version) = import.name.name.strip_prefix(PACKAGE)?.split_once('@')?;
                    (name != TYPES).then(|| name.to_owned())
                }));
            }
            _ => {}
        }
    }
    names.sort_unstable();
    names
}

fn manifest_section(manifest: &[u8]) -> CustomSection<'_> {
    CustomSection { name: Cow::Borrowed(MANIFEST_SECTION), data: Cow::Borrowed(manifest) }
}

fn has_world(core: &[u8]) -> Result<bool, String> {
    for payload in Parser::new(0).parse_all(core) {
        match payload.map_err(|error| format!("it is not WASM: {error}"))? {
            Payload::CustomSection(custom) if custom.name().starts_with(WORLD_SECTION) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
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
            assert!(error.contains("mark one function with #[filter]"), "{error}");
        };
        check(b"", "it is not WASM");
        check(b"#!/bin/sh", "it is not WASM");
        check(EMPTY_MODULE, "it has no `component-type` section");
    }

    #[test]
    fn a_manifest_is_added_once() {
        let mut component = wasm_encoder::Component::new();
        component.section(&wasm_encoder::ModuleSection(&wasm_encoder::Module::new()));
        for (wasm, written) in [(component.as_slice(), r#"{"capabilities":[]}"#), (EMPTY_MODULE, "{}")] {
            let with = with_manifest(wasm, "{}").unwrap();
            assert_eq!(manifest(&with), Some(written));
            assert!(with_manifest(&with, "{}").unwrap_err().to_string().contains("already"));
        }
        assert!(with_manifest(b"#!/bin/sh", "{}").unwrap_err().to_string().contains("it is not WASM"));
    }

    #[test]
    fn a_manifest_names_what_is_imported_unless_it_says_it_itself() {
        let mut types = wasm_encoder::ComponentTypeSection::new();
        types.instance(&wasm_encoder::InstanceType::new());
        let mut imports = wasm_encoder::ComponentImportSection::new();
        let names = ["other:package/log@1.0.0", "millstream:module/types@1.0.0"];
        let used = ["millstream:module/metrics@1.0.0", "millstream:module/log@1.0.0"];
        for name in names.into_iter().chain(used) {
            imports.import(name, wasm_encoder::ComponentTypeRef::Instance(0));
        }
        let mut component = wasm_encoder::Component::new();
        component.section(&types).section(&imports);
        for (given, written) in [
            (r#"{"name":"m"}"#, r#"{"capabilities":["log","metrics"],"name":"m"}"#),
            (r#"{"capabilities":["log"]}"#, r#"{"capabilities":["log"]}"#),
            ("nonsense", "nonsense"),
        ] {
            let with = with_manifest(component.as_slice(), given).unwrap();
            assert_eq!(manifest(&with), Some(written));
        }
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

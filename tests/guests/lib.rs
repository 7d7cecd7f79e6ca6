//! Components of the guests in WebAssembly text.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The component of `tests/guests/NAME.wat`.
///
/// # Panics
/// When there is no such guest, or it is not valid.
pub fn guest(name: &str) -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(here.join(path)).expect("a file of the repository");
    let text = read(&format!("{name}.wat"));
    let typed = text.starts_with(";;@world typed-module");
    let (world, function) = if typed { ("typed-module", "process-records") } else { ("module", "process") };
    let prelude = read("prelude.wat").replace(";;@function", function);
    let text = text.replace(";;@prelude", &prelude);
    let mut wasm = wat::parse_str(text).expect("valid text");
    // Byte 6 tells a component from a core module.
    if wasm.get(6) == Some(&1) {
        return wasm;
    }
    let mut resolve = Resolve::default();
    let package = resolve.push_str("module.wit", &read("../../sdk/wit/module.wit")).expect("valid WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("the world");
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8, false).expect("a core module");
    let encoded = ComponentEncoder::default().module(&wasm).expect("a module").validate(true).encode();
    encoded.expect("a component")
}

//! Components of the guests in WebAssembly text.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The component of `tests/guests/NAME.wat`.
///
/// # Panics
/// When there is no such guest, or it is not valid.
pub fn guest(name: &str) -> Vec<u8> {
    component(&text(name))
}

/// The same guest as another module: its bytes differ by `salt`, at most 16 letters. Only for guests that have room for it.
///
/// # Panics
/// When there is no such guest, or it is not valid.
pub fn salted(name: &str, salt: &str) -> Vec<u8> {
    let data = format!("(data (i32.const 4000) \"{salt}\")");
    component(&text(name).replace(";;@salt", &data))
}

/// A component whose `process` is that of the core module `stranger`, which exports it as a function of two `i32` that returns
/// one and imports nothing.
///
/// # Panics
/// When `around.wat` is not valid.
pub fn around(stranger: &[u8]) -> Vec<u8> {
    const PREAMBLE: usize = 8;
    const CORE_MODULE: u8 = 1;
    let component = wat::parse_str(text("around")).expect("valid text");
    let (mut out, mut at, mut modules) = (component[..PREAMBLE].to_vec(), PREAMBLE, 0);
    while let Some(&id) = component.get(at) {
        let (len, content) = leb128(&component, at + 1);
        let end = content + len;
        modules += usize::from(id == CORE_MODULE);
        if id == CORE_MODULE && modules == 2 {
            out.push(id);
            push_leb128(&mut out, stranger.len());
            out.extend_from_slice(stranger);
        } else {
            out.extend_from_slice(&component[at..end]);
        }
        at = end;
    }
    out
}

/// Core modules of wasm-smith, made by `tests/smith`: any instructions, an export `process` as [`around`] wants it, no imports.
///
/// # Panics
/// When `strangers.bin` is not what `tests/smith` writes.
pub fn strangers() -> Vec<&'static [u8]> {
    let (mut rest, mut modules) = (include_bytes!("strangers.bin").as_slice(), Vec::new());
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::try_from(u32::from_le_bytes(*len)).expect("a length");
        let (module, after) = after.split_at(len);
        modules.push(module);
        rest = after;
    }
    modules
}

/// A component that costs a compiler much: a core module of so many functions, each so many times 13 bytes of arithmetic. It has no
/// exports, which is seen only once it is compiled.
///
/// # Panics
/// Where it would have 4 GiB.
pub fn compile_bomb(functions: usize, rounds: usize) -> Vec<u8> {
    // One more local variable, an i64; local.get 0; the rounds; i64.const 1; i64.xor; end.
    let (start, end) = ([1, 1, 0x7e, 0x20, 0], [0x42, 1, 0x85, 0x0b]);
    // local.get 1; i64.xor; local.get 0; i64.const 7; i64.rotl; local.tee 1; i64.add; local.tee 0.
    let round = [0x20, 1, 0x85, 0x20, 0, 0x42, 7, 0x89, 0x22, 1, 0x7c, 0x22, 0];
    let body = [start.as_slice(), &round.repeat(rounds), &end].concat();
    let mut entry = Vec::new();
    push_leb128(&mut entry, body.len());
    entry.extend(body);
    let counted = |content: Vec<u8>| {
        let mut out = Vec::new();
        push_leb128(&mut out, functions);
        out.extend(content);
        out
    };
    let section = |id: u8, content: Vec<u8>| {
        let mut out = vec![id];
        push_leb128(&mut out, content.len());
        out.extend(content);
        out
    };
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 1, 0x7e, 1, 0x7e]),
        section(3, counted(vec![0; functions])),
        section(10, counted(entry.repeat(functions))),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, module.concat())].concat()
}

fn text(name: &str) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(here.join(path)).expect("a file of the repository");
    let text = read(&format!("{name}.wat"));
    let function = if is_typed(&text) { "process-records" } else { "process" };
    text.replace(";;@prelude", &read("prelude.wat").replace(";;@function", function))
}

fn is_typed(text: &str) -> bool {
    text.starts_with(";;@world typed-module")
}

fn component(text: &str) -> Vec<u8> {
    let world = if is_typed(text) { "typed-module" } else { "module" };
    let mut wasm = wat::parse_str(text).expect("valid text");
    // Byte 6 tells a component from a core module.
    if wasm.get(6) == Some(&1) {
        return wasm;
    }
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/wit/module.wit");
    let wit = std::fs::read_to_string(wit).expect("a file of the repository");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("module.wit", &wit).expect("valid WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("the world");
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8, false).expect("a core module");
    let encoded = ComponentEncoder::default().module(&wasm).expect("a module").validate(true).encode();
    encoded.expect("a component")
}

/// The number at `at`, and where it ends.
fn leb128(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[at];
        value |= usize::from(byte & 0x7f) << shift;
        (at, shift) = (at + 1, shift + 7);
        if byte & 0x80 == 0 {
            return (value, at);
        }
    }
}

fn push_leb128(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("7 bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("7 bits"));
}

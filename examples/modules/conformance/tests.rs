//! Every example, and the SDK, passes the conformance suite.

use example_modules::{Language, cache, conforms, contract_of_c, file};
use millstream_engine::{Engine, Limits, Settings};

fn check(name: &str, wasm: Result<Vec<u8>, String>, limits: &Limits) {
    let wasm = wasm.unwrap_or_else(|error| panic!("{error}"));
    // What was compiled is kept: CPython takes its time.
    let settings = Settings { instances_max: 50, cache_dir: Some(cache(name)), ..Settings::default() };
    let engine = Engine::new(&settings).expect("an engine");
    let faults = conforms(&engine, &wasm, limits).unwrap_or_else(|error| panic!("{error}"));
    let told = &faults[..faults.len().min(20)];
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), told.join("\n"));
}

fn check_example(language: Language) {
    check(language.name(), language.component(), &language.limits());
}

#[test]
fn rust_with_the_sdk() {
    check_example(Language::RustSdk);
}

#[test]
fn rust_without_the_sdk() {
    check_example(Language::Rust);
}

#[test]
fn c() {
    check_example(Language::C);
}

#[test]
fn javascript() {
    check_example(Language::JavaScript);
}

#[test]
fn python() {
    check_example(Language::Python);
}

#[test]
#[ignore = "for a module of yours: make conformance MODULE=my-module.wasm"]
fn module_of_yours() {
    let limits = Limits { module_bytes: 64 << 20, memory_bytes: 256 << 20, ..Limits::default() };
    check("yours", file(), &limits);
}

#[test]
fn the_bindings_of_c_are_those_of_the_contract() {
    let found = contract_of_c().expect("sdk/wit/module.wit");
    assert_eq!(
        found, "27aed4f53b7bbc06",
        "sdk/wit/module.wit changed. Make the bindings anew, then write {found} here: cargo install wit-bindgen-cli@0.63.0; \
         wit-bindgen c --world typed-module --out-dir examples/modules/c sdk/wit/module.wit"
    );
}

//! What is refused when a module is uploaded, and when it is bound.

use std::time::{Duration, Instant};

use millstream_engine::{BindError, FaultKind, Limits, LoadError, LogSink};
use millstream_test_guests::guest;

use crate::support::{engine, load, setup};

fn load_error(wasm: &[u8]) -> LoadError {
    engine().load(wasm, &Limits::default()).expect_err("refused")
}

fn bind_error(config: &str) -> BindError {
    let module = load("hostile");
    let limits = Limits { configure_ms: 100, ..Limits::default() };
    let error = module.bind(&setup(config), &limits, LogSink::none()).expect_err("refused");
    // Whatever happened, the module can still be bound elsewhere.
    module.bind(&setup("{}"), &limits, LogSink::none()).expect("bound");
    error
}

#[test]
fn what_is_no_module() {
    assert_eq!(load_error(b"hello, world"), LoadError::NotWasm(b"hello, w".to_vec()));
    assert_eq!(load_error(b""), LoadError::NotWasm(vec![]));
    assert_eq!(load_error(&wat::parse_str("(module)").unwrap()), LoadError::CoreModule);
    let mut cut = guest("keep_all");
    cut.truncate(cut.len() / 2);
    assert!(matches!(load_error(&cut), LoadError::Invalid(_)));
    let limits = Limits { module_bytes: 100, ..Limits::default() };
    let wasm = guest("keep_all");
    let error = engine().load(&wasm, &limits).unwrap_err();
    assert_eq!(error, LoadError::TooLarge { found: wasm.len(), max: 100 });
}

#[test]
fn imports_and_exports_are_named() {
    let error = load_error(&guest("clock")).to_string();
    assert!(error.contains("`wasi:clocks/monotonic-clock@0.2.0` (now)"), "{error}");
    assert_eq!(load_error(&guest("half")), LoadError::MissingExport("process"));
    assert_eq!(load_error(&wat::parse_str("(component)").unwrap()), LoadError::MissingExport("configure"));
}

#[test]
fn exports_of_another_type() {
    let text = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (export "configure" (func $f)) (export "process" (func $f)))"#;
    let error = load_error(&wat::parse_str(text).unwrap());
    assert!(matches!(error, LoadError::ExportType { export: "configure", .. }), "{error}");
}

#[test]
fn more_memory_than_granted_before_it_is_configured() {
    let LoadError::Instantiate(fault) = load_error(&guest("greedy")) else { panic!("another error") };
    assert_eq!(fault.kind, FaultKind::Memory);
    assert!(fault.text.contains("67108864"), "{fault}");
    let granted = Limits { memory_bytes: 65 << 20, ..Limits::default() };
    engine().load(&guest("greedy"), &granted).expect("the operator granted it");
}

#[test]
fn configuration_that_the_module_refuses() {
    assert_eq!(bind_error("\"refuse this\""), BindError::Refused("\"refuse this\"".into()));
    assert!(matches!(bind_error("{"), BindError::Config(_)));
    assert!(matches!(bind_error("\"none\""), BindError::Spec(_)));
    let error = bind_error("\"bad topic\"").to_string();
    assert!(error.contains("a..b"), "{error}");
}

#[test]
fn configure_that_fails() {
    let BindError::Configure(fault) = bind_error("\"panic\"") else { panic!("another error") };
    assert_eq!(
        (fault.kind, fault.text.as_str()),
        (FaultKind::Panic, "panicked at 'no such carrier', src/lib.rs:42:7")
    );
    let BindError::Configure(fault) = bind_error("\"memory\"") else { panic!("another error") };
    assert_eq!(fault.kind, FaultKind::Memory);
    let start = Instant::now();
    let BindError::Configure(fault) = bind_error("\"loop\"") else { panic!("another error") };
    assert_eq!(
        (fault.kind, fault.text.as_str()),
        (FaultKind::Deadline, "used more than its 100 ms of CPU time")
    );
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_manifest_is_found_and_checked() {
    let with_manifest = |json: &str| {
        let mut wasm = guest("keep_all");
        let name = millstream_engine::MANIFEST_SECTION;
        wasm.push(0);
        wasm.push(u8::try_from(1 + name.len() + json.len()).unwrap());
        wasm.push(u8::try_from(name.len()).unwrap());
        wasm.extend_from_slice(name.as_bytes());
        wasm.extend_from_slice(json.as_bytes());
        engine().load(&wasm, &Limits::default())
    };
    let module = with_manifest(r#"{"name":"late","version":"1.2.0","contract":1,"new":true}"#).unwrap();
    let manifest = module.manifest().unwrap();
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("late", "1.2.0"));
    assert!(matches!(with_manifest("nonsense"), Err(LoadError::Manifest(_))));
    assert_eq!(with_manifest(r#"{"contract":2}"#).unwrap_err(), LoadError::Contract { found: 2 });
    assert_eq!(load("keep_all").manifest(), None);
}

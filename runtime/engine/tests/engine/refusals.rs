//! What is refused when a module is uploaded, and when it is bound.

use std::time::{Duration, Instant};

use millstream_engine::{BindError, FaultKind, Limits, LoadError, LogSink, Module};
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
    assert_eq!(load_error(&guest("half")), LoadError::NoForm);
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

/// The guest `name` with this manifest.
fn with_manifest(name: &str, json: &str) -> Result<Module, LoadError> {
    let mut wasm = guest(name);
    let section = millstream_engine::MANIFEST_SECTION;
    let leb128 = |mut number: usize| {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).expect("7 bits") | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).expect("7 bits"));
        bytes
    };
    wasm.push(0);
    wasm.extend(leb128(1 + section.len() + json.len()));
    wasm.extend(leb128(section.len()));
    wasm.extend_from_slice(section.as_bytes());
    wasm.extend_from_slice(json.as_bytes());
    engine().load(&wasm, &Limits::default())
}

#[test]
fn a_manifest_is_found_and_checked() {
    let module = with_manifest(
        "keep_all",
        r#"{"name":"late","version":"1.2.0","contract":1,"capabilities":["log"],"new":true}"#,
    );
    let module = module.unwrap();
    let manifest = module.manifest().unwrap();
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("late", "1.2.0"));
    assert_eq!(
        (manifest.capabilities.as_deref(), &manifest.config_schema),
        (Some(&["log".to_owned()][..]), &None)
    );
    assert!(matches!(with_manifest("keep_all", "nonsense"), Err(LoadError::Manifest(_))));
    let later = with_manifest("keep_all", r#"{"contract":2}"#);
    assert_eq!(later.unwrap_err(), LoadError::Contract { found: 2 });
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(200_000));
    assert!(matches!(with_manifest("keep_all", &large), Err(LoadError::Manifest(_))));
    assert_eq!(load("keep_all").manifest(), None);
}

#[test]
fn a_configuration_is_held_to_the_schema_before_the_module_sees_it() {
    let schema = r#"{"config_schema":{"anyOf":[{"const":"panic"},{"type":"object","properties":{"n":{"type":"integer"}}}]}}"#;
    let module = with_manifest("hostile", schema).unwrap();
    let bind = |config: &str| module.bind(&setup(config), &Limits::default(), LogSink::none()).map(|_| ());
    bind(r#"{"n": 1}"#).unwrap();
    let error = bind(r#"{"n": "x"}"#).unwrap_err();
    assert!(matches!(error, BindError::ConfigFields(_)));
    assert_eq!(error.to_string(), r#"config.n: "x" is not of type "integer""#);
    // What fits is still the module's to refuse.
    assert!(matches!(bind("\"panic\""), Err(BindError::Configure(_))));
    assert!(matches!(bind("\"refuse this\""), Err(BindError::ConfigFields(_))));
}

#[test]
fn a_schema_that_is_none_is_refused_with_its_module() {
    for (schema, wanted) in [
        (r##"{"properties":{"n":{"type":"int"}}}"##, "#/properties/n/type"),
        (r##"{"$ref":"https://example.com/x"}"##, "#/$ref"),
        (r##"[]"##, "[] is no schema"),
    ] {
        let error = with_manifest("keep_all", &format!(r#"{{"config_schema":{schema}}}"#)).unwrap_err();
        assert!(matches!(&error, LoadError::ConfigSchema(why) if why.contains(wanted)), "{error}");
    }
}

//! The stock modules on the real engine, and beside the same code run natively through the SDK's harness.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use millstream_engine::{Delivery, Engine, Limits, LogSink, Module, Pipeline, Settings, Setup};
use millstream_types::{BatchBuilder, Record, RecordBatch};

/// Modules loaded, each once: an unoptimised Cranelift takes seconds for the large ones.
static LOADED: LazyLock<Mutex<BTreeMap<&str, Module>>> = LazyLock::new(Mutex::default);
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(&Settings::default()).expect("an engine"));

fn pipeline(name: &str, config: &str) -> Result<Pipeline, String> {
    let stock = millstream_filters::stock().iter().find(|stock| stock.name == name).expect(name);
    let load = || ENGINE.load(stock.wasm, &Limits::default()).expect(name);
    let module = LOADED.lock().expect("no test panicked").entry(stock.name).or_insert_with(load).clone();
    let manifest = module.manifest().expect("a manifest").clone();
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), (stock.name, stock.version));
    let setup =
        Setup { topic: "flights".into(), subscription: "test".into(), config: config.into(), state: None };
    let bound =
        module.bind(&setup, &Limits::default(), LogSink::none()).map_err(|error| error.to_string())?;
    Ok(Pipeline::new(vec![bound]))
}

/// Three flights; the last is not JSON.
fn flights() -> RecordBatch {
    let mut builder = BatchBuilder::new().with_stamp(10, 0);
    for (carrier, payload) in [
        ("UA", r#"{"carrier": "UA", "dep_delay": 61, "tailnum": "N14228"}"#),
        ("AA", r#"{"carrier": "AA", "dep_delay": null, "tailnum": "N619AA"}"#),
        ("??", "not JSON"),
    ] {
        builder.push(&Record::new(payload).with_header("carrier", carrier)).expect("a small record");
    }
    builder.build().expect("records")
}

struct Ran {
    delivered: Vec<(u64, String)>,
    routed: Vec<(u64, String)>,
    rejected: Vec<(u64, String)>,
}

fn run(name: &str, config: &str) -> Ran {
    let flights = flights();
    let outcome = pipeline(name, config).expect("bound").run(&flights, 0..3).expect("a good batch");
    let text = |payload: Option<&[u8]>| String::from_utf8_lossy(payload.unwrap_or_default()).into_owned();
    let batches = match &outcome.delivery {
        Delivery::Untouched => vec![flights.clone()],
        Delivery::Nothing => Vec::new(),
        Delivery::Batches(batches) => batches.clone(),
    };
    let records = batches.iter().flat_map(|batch| {
        batch.view().records().map(|record| (record.offset, text(record.payload))).collect::<Vec<_>>()
    });
    Ran {
        delivered: records.collect(),
        routed: outcome.routed().map(|routed| (routed.source, routed.topic.to_string())).collect(),
        rejected: outcome.rejects.iter().map(|reject| (reject.offset, reject.reason.clone())).collect(),
    }
}

#[test]
fn headers() {
    let ran = run("std/headers", r#"{"header": "carrier", "in": ["UA", "DL"]}"#);
    assert_eq!(ran.delivered.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [10]);
    assert!(ran.rejected.is_empty() && ran.routed.is_empty());
}

#[test]
fn json() {
    let ran = run("std/json", r#"{"pointer": "/dep_delay", "gt": 60, "select": ["tailnum"]}"#);
    assert_eq!(ran.delivered, [(10, r#"{"tailnum":"N14228"}"#.to_owned())]);
    assert_eq!(ran.rejected.len(), 1);
    assert!(ran.rejected[0].1.starts_with("the payload is not JSON"), "{:?}", ran.rejected);
}

#[test]
fn route() {
    let ran = run("std/route", r#"{"template": "flights.{carrier}", "default": "flights.other"}"#);
    let wanted = [(10, "flights.UA"), (11, "flights.AA"), (12, "flights.other")];
    assert_eq!(ran.routed, wanted.map(|(source, topic)| (source, topic.to_owned())));
    assert!(ran.delivered.is_empty());
}

#[test]
fn redact() {
    let ran = run("std/redact", r#"{"mask": ["/tailnum"], "remove": ["/dep_delay"]}"#);
    assert_eq!(ran.delivered[0], (10, r#"{"carrier": "UA", "tailnum": "***"}"#.to_owned()));
    assert_eq!(ran.rejected[0].0, 12);
}

#[test]
fn cel() {
    let filter = r#"{"filter": "payload.dep_delay > 60 && headers.carrier.matches('^[A-Z]{2}$')"}"#;
    let ran = run("std/cel", filter);
    assert_eq!(ran.delivered.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [10]);
    assert_eq!(ran.rejected.len(), 2);
    assert!(
        ran.rejected[0].1.starts_with("`filter` failed: found no matching overload"),
        "{:?}",
        ran.rejected
    );
    let map = r#"{"map": "{'tail': payload.tailnum, 'at': offset}", "route": "'flights.' + headers.carrier", "on_error": "drop"}"#;
    let ran = run("std/cel", map);
    assert_eq!(ran.routed, [(10, "flights.UA".to_owned()), (11, "flights.AA".to_owned())]);
    assert!(ran.delivered.is_empty() && ran.rejected.is_empty());
}

#[test]
fn an_expression_without_end_is_ended() {
    let walks = ["a", "b", "c", "d"].map(|name| format!("lists.range(100000).all({name}, "));
    let config = format!(r#"{{"filter": "{}offset >= 0{}"}}"#, walks.concat(), ")".repeat(walks.len()));
    let outcome = pipeline("std/cel", &config).expect("bound").run(&flights(), 0..1).expect("a good batch");
    let kinds: Vec<_> = outcome.faults.iter().map(|fault| fault.fault.kind).collect();
    assert_eq!(kinds, [millstream_engine::FaultKind::Deadline], "{:?}", outcome.faults);
}

#[test]
fn sample() {
    let kept = |rate: &str| {
        let ran = run("std/sample", &format!(r#"{{"rate": {rate}, "by": {{"header": "carrier"}}}}"#));
        ran.delivered.iter().map(|(offset, _)| *offset).collect::<Vec<_>>()
    };
    assert_eq!(kept("1"), [10, 11, 12]);
    assert!(kept("0").is_empty());
    assert_eq!(kept("0.5"), [11, 12]);
}

#[test]
fn schema() {
    let config = r#"{"schema": {"properties": {"dep_delay": {"type": "integer"}}, "required": ["carrier"]}}"#;
    let ran = run("std/schema", config);
    assert_eq!(ran.delivered.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [10]);
    let wanted = "the payload does not fit the schema: /dep_delay: want integer, but got null";
    assert_eq!(ran.rejected[0], (11, wanted.to_owned()));
    assert!(ran.rejected[1].1.starts_with("the payload is not JSON"), "{:?}", ran.rejected);
}

#[test]
fn enrich() {
    let table = r#""table": {"UA": {"airline": "United"}}, "into": {"pointer": ""}, "on_missing": "drop""#;
    let ran = run("std/enrich", &format!(r#"{{"by": {{"header": "carrier"}}, {table}}}"#));
    let wanted = r#"{"carrier":"UA","dep_delay":61,"tailnum":"N14228","airline":"United"}"#;
    assert_eq!(ran.delivered, [(10, wanted.to_owned())]);
    assert!(ran.rejected.is_empty());
}

#[test]
fn rename_and_flatten() {
    let steps = r#"{"steps": [{"move": "/tailnum", "to": "/plane/tail"}, {"copy": "carrier", "to": "/by"}, {"drop": "/carrier"}]}"#;
    let ran = run("std/rename", steps);
    let wanted = r#"{"dep_delay":61,"plane":{"tail":"N14228"},"by":"UA"}"#;
    assert_eq!(ran.delivered[0], (10, wanted.to_owned()));
    assert_eq!(ran.rejected[0].0, 12);
    let ran = run("std/flatten", "{}");
    assert_eq!(ran.delivered.len(), 2);
    assert_eq!(ran.rejected.len(), 1);
    let mut builder = BatchBuilder::new();
    builder.push(&Record::new(wanted)).expect("a small record");
    let nested = builder.build().expect("records");
    let outcome = pipeline("std/flatten", "{}").expect("bound").run(&nested, 0..1).expect("a good batch");
    let Delivery::Batches(batches) = outcome.delivery else { panic!("flattened") };
    let flat = batches[0].view().records().next().and_then(|record| record.payload.map(<[u8]>::to_vec));
    assert_eq!(flat.as_deref(), Some(br#"{"dep_delay":61,"plane.tail":"N14228","by":"UA"}"#.as_slice()));
}

#[test]
fn bad_configurations_are_refused_when_bound() {
    for (name, config, wanted) in [
        ("std/headers", r#"{"pointer": "/a", "gt": 1}"#, "use std/json"),
        ("std/json", r#"{"pointer": "a", "gt": 1}"#, r#"write "/a""#),
        ("std/route", r#"{"template": "x y.{a}"}"#, "cannot make a topic name"),
        ("std/redact", "{}", "names no field"),
        ("std/redact", "{", "not JSON"),
        ("std/schema", r#"{"schema": {"type": "objct"}}"#, "config.schema: is no JSON Schema: /type: "),
        ("std/enrich", r#"{"table": {}, "into": "headers"}"#, "config.table: is empty"),
        ("std/flatten", r#"{"seperator": "."}"#, "seperator"),
        ("std/rename", r#"{"steps": [{"move": "/a"}]}"#, "config.steps[0]: has no `to`"),
        ("std/sample", r#"{"rate": 2}"#, "config.rate: 2 is no share"),
        ("std/cel", r#"{"filter": "payload.a >"}"#, "config.filter: line 1, column 12: "),
        (
            "std/cel",
            &format!(r#"{{"filter": "{}1{}"}}"#, "(".repeat(5000), ")".repeat(5000)),
            "config.filter: ",
        ),
    ] {
        let error = pipeline(name, config).map(|_| ()).expect_err(name);
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

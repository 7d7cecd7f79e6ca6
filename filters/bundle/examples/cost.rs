//! What the stock modules cost: ns a record in the guest, for flights of 200 bytes and documents of 1 KiB.
//!
//! `cargo run --release -p millstream-filters --example cost`

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]

use millstream_engine::{Engine, Limits, LogSink, Pipeline, Settings, Setup};
use millstream_types::{BatchBuilder, Record, RecordBatch};

const RECORDS: usize = 256;
const ROUNDS: usize = 7;
const RUNS: usize = 100;

const FLIGHT: &str = r#"{"year":2013,"month":1,"day":1,"dep_time":517,"sched_dep_time":515,"dep_delay":2,"arr_time":830,"sched_arr_time":819,"arr_delay":11,"carrier":"UA","flight":1545,"tailnum":"N14228","origin":"EWR","dest":"IAH","air_time":227,"distance":1400,"hour":5,"minute":15,"time_hour":"2013-01-01T10:00:00Z"}"#;

fn main() {
    let padded = FLIGHT.replace("}", &format!(r#","remarks":"{}"}}"#, "x".repeat(1024 - FLIGHT.len() - 13)));
    let (flights, padded) = (batch(FLIGHT), batch(&padded));
    let engine = Engine::new(&Settings::default()).expect("an engine");
    println!("{:<44}{:>14}{:>14}", "ns a record in the guest", FLIGHT.len(), 1024);
    for (what, name, config) in [
        ("headers: one equals", "std/headers", r#"{"header": "carrier", "equals": "UA"}"#),
        (
            "headers: in, and gt",
            "std/headers",
            r#"{"all": [{"header": "carrier", "in": ["UA"]}, {"header": "delay", "gt": 1}]}"#,
        ),
        ("json: one field, all dropped", "std/json", r#"{"pointer": "/dep_delay", "gt": 60}"#),
        (
            "json: two fields, all kept",
            "std/json",
            r#"{"all": [{"pointer": "/origin", "equals": "EWR"}, {"pointer": "/dep_delay", "gt": 1}]}"#,
        ),
        ("json: select three fields", "std/json", r#"{"select": ["carrier", "flight", "dep_delay"]}"#),
        ("route: template of a header", "std/route", r#"{"template": "flights.{carrier}"}"#),
        ("route: template of a field", "std/route", r#"{"template": "flights.{/carrier}"}"#),
        ("cel: one header", "std/cel", r#"{"filter": "headers.carrier == 'UA'"}"#),
        ("cel: one field, all dropped", "std/cel", r#"{"filter": "payload.dep_delay > 60"}"#),
        (
            "cel: two fields, all kept",
            "std/cel",
            r#"{"filter": "payload.origin == 'EWR' && payload.dep_delay > 1"}"#,
        ),
        (
            "cel: map to three fields",
            "std/cel",
            r#"{"map": "{'carrier': payload.carrier, 'flight': payload.flight, 'late': payload.dep_delay > 60}"}"#,
        ),
        (
            "schema: six fields",
            "std/schema",
            r#"{"schema": {"type": "object", "required": ["carrier", "flight", "origin", "dest"], "properties": {"carrier": {"type": "string", "pattern": "^[A-Z0-9]{2}$"}, "flight": {"type": "integer"}, "origin": {"type": "string"}, "dest": {"type": "string"}, "dep_delay": {"type": ["integer", "null"]}, "time_hour": {"type": "string", "format": "date-time"}}}}"#,
        ),
        (
            "enrich: two headers by a header",
            "std/enrich",
            r#"{"by": {"header": "carrier"}, "table": {"UA": {"airline": "United", "code": 16}}, "into": "headers"}"#,
        ),
        (
            "enrich: two fields by a field",
            "std/enrich",
            r#"{"by": {"pointer": "/carrier"}, "table": {"UA": {"airline": "United", "code": 16}}, "into": {"pointer": ""}}"#,
        ),
        (
            "rename: move one, drop one",
            "std/rename",
            r#"{"steps": [{"move": "/tailnum", "to": "/plane"}, {"drop": "/flight"}]}"#,
        ),
        ("flatten: flat already", "std/flatten", "{}"),
        ("sample: by key", "std/sample", r#"{"rate": 0.01}"#),
        ("redact: mask one, remove one", "std/redact", r#"{"mask": ["tailnum"], "remove": ["flight"]}"#),
    ] {
        let figure = |batch: &RecordBatch| {
            let stock =
                millstream_filters::stock().iter().find(|stock| stock.name == name).expect("a stock module");
            let module = engine.load(stock.wasm, &Limits::default()).expect("a module");
            let setup =
                Setup { topic: "t".into(), subscription: "s".into(), config: config.into(), state: None };
            let bound = module.bind(&setup, &Limits::default(), LogSink::none()).expect("bound");
            let mut pipeline = Pipeline::new(vec![bound]);
            let round = |pipeline: &mut Pipeline| {
                let before = pipeline.counters().guest_ns;
                for _ in 0..RUNS {
                    pipeline.run(batch, 0..RECORDS).expect("a good batch");
                }
                (pipeline.counters().guest_ns - before) / (RUNS * RECORDS) as u64
            };
            (0..ROUNDS).map(|_| round(&mut pipeline)).min().unwrap_or_default()
        };
        println!("{what:<44}{:>14}{:>14}", figure(&flights), figure(&padded));
    }
}

fn batch(payload: &str) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for index in 0..RECORDS {
        let record = Record::new(payload.to_owned())
            .with_key(format!("k{index}"))
            .with_header("origin", "EWR")
            .with_header("carrier", "UA")
            .with_header("delay", "2");
        builder.push(&record).expect("a small record");
    }
    builder.build().expect("records")
}

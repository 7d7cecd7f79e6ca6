//! What the engine costs beside the least that can be done: ns a record for batches of 256, 16 and 1 records.
//!
//! `cargo run --release -p millstream-engine --example overhead`

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]

use std::hint::black_box;
use std::time::Instant;

use millstream_engine::{Engine, Limits, LogSink, Pipeline, Settings, Setup};
use millstream_types::{BatchBuilder, Record, RecordBatch};

#[path = "../tests/engine/support.rs"]
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
mod support;

const ROUNDS: usize = 5;
const RECORDS_A_ROUND: usize = 1 << 20;

fn main() {
    println!("resident at start: {} KiB", resident_kib());
    let engine = Engine::new(&Settings::default()).expect("an engine");
    println!("with the engine: {} KiB", resident_kib());
    let pipeline = |names: &[&str]| {
        let modules = names.iter().map(|name| {
            let module =
                engine.load(&millstream_test_guests::guest(name), &Limits::default()).expect("a module");
            let setup =
                Setup { topic: "t".into(), subscription: "s".into(), config: "{}".into(), state: None };
            module.bind(&setup, &Limits::default(), LogSink::none()).expect("bound")
        });
        Pipeline::new(modules.collect())
    };
    println!("ns a record, best of {ROUNDS} rounds; payloads of 1 KiB{:>10}{:>10}{:>10}", 256, 16, 1);
    report("floor: heads copied out, headers walked natively", |batch| {
        let mut out = Vec::new();
        batch.view().write_slice(0..batch.view().len(), false, &mut out).expect("in the batch");
        black_box(out.len() + batch.view().records().filter(|it| it.header("carrier").is_some()).count());
    });
    for (what, names) in [
        ("keep all, headers only", &["keep_all"][..]),
        ("drop every second, headers only", &["every_second"]),
        ("keep all, payloads read", &["hostile"]),
        ("two modules, headers only", &["keep_all", "keep_all"]),
    ] {
        let mut pipeline = pipeline(names);
        report(what, |batch| {
            black_box(pipeline.run(batch, 0..batch.view().len()).expect("a good batch"));
        });
    }
}

fn report(what: &str, mut run: impl FnMut(&RecordBatch)) {
    let figures = [256, 16, 1].map(|records| {
        let batch = batch(records);
        let runs = RECORDS_A_ROUND / records / if records == 1 { 8 } else { 1 };
        let round = |run: &mut dyn FnMut(&RecordBatch)| {
            let start = Instant::now();
            (0..runs).for_each(|_| run(&batch));
            start.elapsed().as_nanos() as f64 / (runs * records) as f64
        };
        (0..ROUNDS).map(|_| round(&mut run)).fold(f64::INFINITY, f64::min)
    });
    let [full, some, one] = figures;
    println!("{what:<52}{full:>10.1}{some:>10.1}{one:>10.0}");
}

/// Resident memory of this process; 0 where there is no `/proc`.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

fn batch(records: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for index in 0..records {
        let record = Record::new(vec![b'-'; 1_024])
            .with_key(index.to_string())
            .with_header("carrier", "UA")
            .with_header("origin", "JFK");
        builder.push(&record).expect("a small record");
    }
    builder.build().expect("records")
}

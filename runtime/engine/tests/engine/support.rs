//! Batches; bound modules.

use std::time::Duration;

use millstream_engine::{Bound, Engine, Limits, LogSink, Module, Pipeline, Settings, Setup};
use millstream_test_guests::guest;
use millstream_types::{BatchBuilder, Record, RecordBatch};

/// Offset of the first record of every batch here.
pub(crate) const BASE: u64 = 1_000;

pub(crate) fn engine() -> Engine {
    Engine::new(&Settings { instances_max: 50, ..Settings::default() }).expect("an engine")
}

pub(crate) fn load(name: &str) -> Module {
    engine().load(&guest(name), &Limits::default()).expect("a module")
}

pub(crate) fn setup(config: &str) -> Setup {
    Setup { topic: "flights".into(), subscription: "late".into(), config: config.into(), state: None }
}

pub(crate) fn bound(name: &str) -> Bound {
    load(name).bind(&setup("{}"), &Limits::default(), LogSink::none()).expect("bound")
}

/// One that makes no breaks for time, however slow the machine is.
pub(crate) fn patient(pipeline: Pipeline) -> Pipeline {
    pipeline.with_turn(Duration::from_secs(600))
}

pub(crate) fn pipeline(names: &[&str]) -> Pipeline {
    patient(Pipeline::new(names.iter().map(|name| bound(name)).collect()))
}

/// A batch with these payloads, from offset [`BASE`].
pub(crate) fn batch(payloads: &[&str]) -> RecordBatch {
    let mut builder = BatchBuilder::new().with_stamp(BASE, 1_700_000_000_000);
    for (index, payload) in payloads.iter().enumerate() {
        let record = Record::new(payload.to_string())
            .with_key(format!("k{index}"))
            .with_header("n", index.to_string());
        builder.push(&record).expect("a small record");
    }
    builder.build().expect("records")
}

/// A batch of `count` harmless records, except that those at `places` have these payloads.
pub(crate) fn batch_with(count: usize, places: &[(usize, &str)]) -> RecordBatch {
    let mut payloads = vec!["-"; count];
    for (index, payload) in places {
        payloads[*index] = payload;
    }
    batch(&payloads)
}

/// Offset less [`BASE`], and payload, of every record of `batches`.
pub(crate) fn contents(batches: &[RecordBatch]) -> Vec<(u64, String)> {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    batches
        .iter()
        .flat_map(|batch| {
            let view = batch.view();
            view.records().map(|record| (record.offset - BASE, text(record.payload))).collect::<Vec<_>>()
        })
        .collect()
}

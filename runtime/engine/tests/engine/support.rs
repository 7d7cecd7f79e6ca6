//! Components of the guests; batches; bound modules.

use std::path::Path;

use millstream_engine::{Bound, Engine, Limits, LogSink, Module, Pipeline, Settings, Setup};
use millstream_types::{BatchBuilder, Record, RecordBatch};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Offset of the first record of every batch here.
pub(crate) const BASE: u64 = 1_000;

/// The component of `tests/guests/NAME.wat`.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: String| std::fs::read_to_string(root.join(&path)).expect("a file of the repository");
    let prelude = read("tests/guests/prelude.wat".into());
    let text = read(format!("tests/guests/{name}.wat")).replace(";;@prelude", &prelude);
    let mut wasm = wat::parse_str(text).expect("valid text");
    if wasm[6] == 1 {
        return wasm;
    }
    let mut resolve = Resolve::default();
    let package = resolve.push_str("module.wit", &read("sdk/wit/module.wit".into())).expect("valid WIT");
    let world = resolve.select_world(&[package], Some("module")).expect("the world");
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8, false).expect("a core module");
    ComponentEncoder::default().module(&wasm).expect("a module").validate(true).encode().expect("a component")
}

pub(crate) fn engine() -> Engine {
    Engine::new(&Settings { instances_max: 50, ..Settings::default() }).expect("an engine")
}

pub(crate) fn load(name: &str) -> Module {
    engine().load(&guest(name), &Limits::default()).expect("a module")
}

pub(crate) fn setup(config: &str) -> Setup {
    Setup { topic: "flights".into(), subscription: "late".into(), config: config.into() }
}

pub(crate) fn bound(name: &str) -> Bound {
    load(name).bind(&setup("{}"), &Limits::default(), LogSink::none()).expect("bound")
}

pub(crate) fn pipeline(names: &[&str]) -> Pipeline {
    Pipeline::new(names.iter().map(|name| bound(name)).collect())
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

//! Testing a module on the host, without a broker: records are encoded into a batch, judged, and the verdict buffer is
//! read back as the broker does it.

mod record;
mod verdict;

use std::cell::RefCell;

use millstream_types::{BatchBuilder, VerdictsView};

use crate::bound::Bound;
use crate::{CONTRACT, Level, Module, ModuleConfig, Setup, Spec};

pub use record::{TestRecord, record};
pub use verdict::{Emitted, Verdict};

thread_local! {
    static LOGS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Judges `records` with module `M`, configured by `config`: a JSON value, or anything that serializes to one.
///
/// # Panics
/// If the configuration is refused (use [`configure`] to test that), a record exceeds a limit, or the module breaks the
/// contract, as by a verdict that it does not announce.
#[track_caller]
pub fn run<M: Module>(
    config: impl serde::Serialize,
    records: impl IntoIterator<Item = TestRecord>,
) -> Vec<Verdict> {
    let (bound, spec) =
        bind::<M>(&config).unwrap_or_else(|why| panic!("the configuration was refused: {why}"));
    let records: Vec<TestRecord> = records.into_iter().collect();
    if records.is_empty() {
        return Vec::new();
    }
    let batch = encode(&records, spec.reads_payload);
    let answer = bound.process(&batch).unwrap_or_else(|failure| panic!("the batch failed: {failure:?}"));
    let verdicts = VerdictsView::new(&answer, records.len()).unwrap_or_else(|error| panic!("{error}"));
    let verdicts = verdicts.iter().zip(&records).map(|(verdict, source)| Verdict::new(verdict, source));
    verdicts.inspect(|verdict| verdict.check_announced(&spec)).collect()
}

/// What module `M` announces with `config`, or why it refuses it.
///
/// # Errors
/// The text that the broker would show.
pub fn configure<M: Module>(config: impl serde::Serialize) -> Result<Spec, String> {
    bind::<M>(&config).map(|(_, spec)| spec)
}

/// What the manifest of module `M` says of its configuration: a JSON Schema.
///
/// # Panics
/// If it is no JSON text, as one written by hand may be.
pub fn config_schema<M: Module>() -> serde_json::Value {
    let text = <M::Config as ModuleConfig>::SCHEMA.to_string();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("the schema is not JSON: {error}: {text}"))
}

/// The lines logged on this thread since the last call.
pub fn logs() -> Vec<(Level, String)> {
    LOGS.with(RefCell::take)
}

pub(crate) fn keep_log(level: Level, line: String) {
    LOGS.with(|logs| logs.borrow_mut().push((level, line)));
}

fn bind<M: Module>(config: &impl serde::Serialize) -> Result<(Bound<M>, Spec), String> {
    let config = serde_json::to_string(config).map_err(|error| error.to_string())?;
    Bound::new(&Setup {
        contract: CONTRACT,
        topic: "test".into(),
        subscription: "test".into(),
        config,
        output_bytes_max: u64::MAX,
    })
}

/// The batch as the broker hands it over.
fn encode(records: &[TestRecord], payloads: bool) -> Vec<u8> {
    let mut builder = match records.first() {
        Some(first) => BatchBuilder::new().with_stamp(first.0.offset, first.0.timestamp),
        None => BatchBuilder::new(),
    };
    for record in records {
        builder.push(&record.0).unwrap_or_else(|error| panic!("a test record exceeds a limit: {error}"));
    }
    let batch = builder.build().unwrap_or_else(|error| panic!("the test batch cannot be built: {error}"));
    let mut slice = Vec::new();
    let view = batch.view();
    view.write_slice(0..view.len(), payloads, &mut slice)
        .unwrap_or_else(|error| panic!("the test batch cannot be sliced: {error}"));
    slice
}

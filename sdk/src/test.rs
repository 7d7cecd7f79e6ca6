//! Testing a module on the host, without a broker: records are encoded into a batch, judged, and the verdict buffer is
//! read back as the broker does it.

mod record;
mod verdict;

use std::cell::RefCell;
use std::collections::BTreeMap;

use millstream_types::{BatchBuilder, ModuleMetrics, VerdictsView};

use crate::bound::Bound;
use crate::{CONTRACT, Level, Module, ModuleConfig, Setup, Spec};

pub use record::{TestRecord, record};
pub use verdict::{Emitted, Verdict};

thread_local! {
    static LOGS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static STATE: RefCell<BTreeMap<Vec<u8>, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    static METRICS: RefCell<ModuleMetrics> = RefCell::default();
    static TOPIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Judges `records` with module `M`, configured by `config`: a JSON value, or anything that serializes to one. A processor
/// starts with an empty state.
///
/// # Panics
/// If the configuration is refused (use [`configure`] to test that), a record exceeds a limit, or the module breaks the
/// contract, as by a verdict that it does not announce.
#[track_caller]
pub fn run<M: Module>(
    config: impl serde::Serialize,
    records: impl IntoIterator<Item = TestRecord>,
) -> Vec<Verdict> {
    STATE.take();
    run_on::<M>(config, records)
}

/// The same with the state that the run before on this thread left.
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_on<M: Module>(
    config: impl serde::Serialize,
    records: impl IntoIterator<Item = TestRecord>,
) -> Vec<Verdict> {
    let (bound, spec) =
        bind::<M>(&config).unwrap_or_else(|why| panic!("the configuration was refused: {why}"));
    let records: Vec<TestRecord> = records.into_iter().collect();
    // A batch is of one topic, and has one time.
    let together = |a: &TestRecord, b: &TestRecord| {
        a.1 == b.1 && (!M::HAS_STATE || b.0.timestamp == 0 || a.0.timestamp == b.0.timestamp)
    };
    let mut verdicts = Vec::with_capacity(records.len());
    for records in records.chunk_by(together) {
        let topic = records.first().and_then(|record| record.1.as_deref()).unwrap_or("test");
        TOPIC.with_borrow_mut(|current| topic.clone_into(current));
        let batch = encode(records, spec.reads_payload);
        let answer = bound.process(&batch).unwrap_or_else(|failure| panic!("the batch failed: {failure:?}"));
        let given = VerdictsView::new(&answer, records.len()).unwrap_or_else(|error| panic!("{error}"));
        let given = given.iter().zip(records).map(|(verdict, source)| Verdict::new(verdict, source));
        verdicts.extend(given.inspect(|verdict| verdict.check_announced(&spec)));
    }
    verdicts
}

/// What the processor of the last run on this thread remembers.
pub fn state() -> BTreeMap<Vec<u8>, Vec<u8>> {
    STATE.with_borrow(BTreeMap::clone)
}

pub(crate) fn source_topic() -> String {
    TOPIC.with_borrow(String::clone)
}

/// What a broker remembers for a module.
pub(crate) mod host_state {
    use super::STATE;

    pub(crate) fn get(key: &[u8]) -> Option<Vec<u8>> {
        STATE.with_borrow(|state| state.get(key).cloned())
    }

    #[track_caller]
    pub(crate) fn put(key: &[u8], value: &[u8]) {
        assert!(!key.is_empty() && key.len() <= 1_024, "a key of the state has 1 to 1,024 bytes");
        assert!(value.len() <= 256 << 10, "a value of the state has at most 256 KiB");
        STATE.with_borrow_mut(|state| drop(state.insert(key.to_vec(), value.to_vec())));
    }

    pub(crate) fn delete(key: &[u8]) {
        STATE.with_borrow_mut(|state| drop(state.remove(key)));
    }

    pub(crate) fn scan(prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        STATE.with_borrow(|state| {
            let entries = state.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            let entries = entries.filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
            entries.take(limit as usize).map(|(key, value)| (key.clone(), value.clone())).collect()
        })
    }
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

/// What modules counted on this thread since the last call.
pub fn metrics() -> ModuleMetrics {
    METRICS.take()
}

/// What a broker keeps of what a module counts.
pub(crate) mod host_metrics {
    use super::{METRICS, ModuleMetrics};

    #[track_caller]
    pub(crate) fn add(name: &str, by: u64) {
        check(name);
        METRICS.with_borrow_mut(|metrics| metrics.add(name, by));
    }

    #[track_caller]
    pub(crate) fn set(name: &str, to: f64) {
        check(name);
        METRICS.with_borrow_mut(|metrics| metrics.set(name, to));
    }

    #[track_caller]
    fn check(name: &str) {
        assert!(
            ModuleMetrics::is_name(name),
            "`{name}` cannot be the name of a metric: it is a letter or _, then those and digits, 64 bytes at most"
        );
    }
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

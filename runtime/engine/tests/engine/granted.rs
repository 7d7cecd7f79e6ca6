//! What modules are granted: what they count, the interfaces that they may use, an instance of their own.

use std::collections::BTreeSet;

use millstream_engine::{
    Bound, Capability, Isolation, Limits, LoadError, LogSink, MANIFEST_SECTION, Pipeline, State,
};
use millstream_test_guests::guest;
use millstream_types::ModuleMetrics;

use crate::support::{batch, batch_with, engine, load, patient, setup};

/// A pipeline of the module that counts.
fn counting(isolation: Isolation) -> Pipeline {
    let limits = Limits { isolation, ..Limits::default() };
    patient(Pipeline::new(vec![bound("meter", &limits)]))
}

fn bound(name: &str, limits: &Limits) -> Bound {
    load(name).bind(&setup("{}"), limits, LogSink::none()).expect("bound")
}

fn counted(pipeline: &mut Pipeline) -> ModuleMetrics {
    pipeline.take_usage().next().expect("a module").metrics
}

fn metrics(counters: &[(&str, u64)], calls: f64, left_out: u64) -> ModuleMetrics {
    let counters = counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    ModuleMetrics { counters, gauges: [("calls".to_owned(), calls)].into(), left_out }
}

#[test]
fn what_a_module_counts_is_told_once() {
    let mut pipeline = counting(Isolation::Pipeline);
    pipeline.run(&batch(&["a", "b", "a"]), 0..3).unwrap();
    pipeline.run(&batch(&["a"; 600]), 0..600).unwrap();
    assert_eq!(counted(&mut pipeline), metrics(&[("a", 602), ("b", 1)], 4.0, 0), "nothing of `configure`");
    pipeline.run(&batch(&["b", "-"]), 0..2).unwrap();
    assert_eq!(counted(&mut pipeline), metrics(&[("b", 1)], 5.0, 1), "and `-` is no name");
    assert_eq!(counted(&mut pipeline), ModuleMetrics::default());
}

#[test]
fn a_call_that_fails_has_counted_nothing() {
    let mut pipeline = counting(Isolation::Pipeline);
    let mut payloads = vec!["a"; 100];
    payloads[40] = "!";
    let outcome = pipeline.run(&batch(&payloads), 0..100).unwrap();
    assert_eq!(outcome.faults.len(), 1);
    let counted = counted(&mut pipeline);
    assert_eq!(
        counted.counters,
        [("a".to_owned(), 99)].into(),
        "each of the others once, however often it was tried"
    );
    assert_eq!(counted.left_out, 0);
}

#[test]
fn an_instance_of_its_own_for_each_call() {
    let mut pipeline = counting(Isolation::Batch);
    let outcome = pipeline.run(&batch(&["a"; 600]), 0..600).unwrap();
    assert_eq!((outcome.counters.calls, outcome.counters.call_faults), (3, 0));
    assert_eq!(counted(&mut pipeline), metrics(&[("a", 600)], 1.0, 0));
    // One that leaves as much behind as it can, and looks for it.
    let limits = Limits { isolation: Isolation::Batch, ..Limits::default() };
    let mut pipeline = patient(Pipeline::new(vec![bound("residue", &limits)]));
    let outcome = pipeline.run(&batch(&["-"; 1_000]), 0..1_000).unwrap();
    assert_eq!((outcome.counters.calls, outcome.counters.faulted), (4, 0));
}

#[test]
fn what_a_processor_remembers_is_no_instances() {
    let state = State::in_memory(1 << 20);
    let setup = millstream_engine::Setup { state: Some(state.clone()), ..setup("{}") };
    let limits = Limits { isolation: Isolation::Batch, ..Limits::default() };
    let counter = load("counter").bind(&setup, &limits, LogSink::none()).unwrap();
    let mut pipeline = patient(Pipeline::new(vec![counter]));
    pipeline.run_for_good(&batch_with(600, &[]), 0..600).unwrap();
    let (changes, _) = state.changes();
    let count = changes.into_iter().next().and_then(|(_, value)| value).expect("counted");
    assert_eq!(count.as_ref(), 600_u32.to_le_bytes());
}

#[test]
fn what_is_not_granted_is_refused_when_it_is_loaded() {
    let engine = engine();
    let wasm = guest("meter");
    let module = engine.load(&wasm, &Limits::default()).unwrap();
    assert_eq!(module.capabilities(), &BTreeSet::from([Capability::Metrics]));
    assert_eq!(Capability::imported(&guest("counter")), BTreeSet::from([Capability::State]));
    let without = Limits { granted: [Capability::Log].into(), ..Limits::default() };
    // Also while it is in use.
    let error = engine.load(&wasm, &without).unwrap_err();
    assert_eq!(error, LoadError::NotGranted(Capability::Metrics));
    assert!(error.to_string().contains("add \"metrics\" to modules.capabilities"), "{error}");
    engine.load(&guest("keep_all"), &without).unwrap();
    drop(module);
    assert_eq!(engine.load(&wasm, &without).unwrap_err(), LoadError::NotGranted(Capability::Metrics));
}

#[test]
fn a_manifest_names_all_that_is_used() {
    let with = |capabilities: &str| {
        let json = format!(r#"{{"name":"meter","contract":1,"capabilities":{capabilities}}}"#);
        let mut section = vec![u8::try_from(MANIFEST_SECTION.len()).unwrap()];
        section.extend_from_slice(MANIFEST_SECTION.as_bytes());
        section.extend_from_slice(json.as_bytes());
        let mut wasm = guest("meter");
        // A custom section, of less than 128 bytes.
        wasm.extend([0, u8::try_from(section.len()).unwrap()]);
        wasm.extend(section);
        engine().load(&wasm, &Limits::default())
    };
    with(r#"["log","metrics"]"#).unwrap();
    let error = with(r#"["log"]"#).unwrap_err();
    assert_eq!(error, LoadError::Undeclared(Capability::Metrics));
    assert!(error.to_string().contains("millstream:module/metrics@1.0.0"), "{error}");
}

//! Modules that nobody wrote, what instances leave behind, lines without end, components of thousands of parts.

use std::sync::{Arc, Mutex};

use millstream_engine::{Engine, FaultKind, Limits, LoadError, LogLevel, LogSink, Pipeline, Settings};
use millstream_test_guests::{around, compile_bomb, guest, salted, strangers};

use crate::support::{batch, contents, engine, load, patient, setup};

#[test]
fn modules_of_wasm_smith_do_no_harm() {
    let engine = engine();
    let limits = Limits { call_ms: 10, configure_ms: 100, ..Limits::default() };
    let honest = engine.load(&guest("every_second"), &limits).unwrap();
    let honest = honest.bind(&setup("{}"), &limits, LogSink::none()).unwrap();
    let mut honest = patient(Pipeline::new(vec![honest]));
    let records = batch(&["a", "b", "c", "d", "e"]);
    let all = 0..records.view().len();
    let expected = honest.run(&records, all.clone()).unwrap().delivery;
    let (mut refused, mut ran, mut faults) = (0, 0, 0);
    let strangers = strangers();
    for (seed, stranger) in strangers.iter().enumerate() {
        let module = match engine.load(&around(stranger), &limits) {
            Ok(module) => module,
            Err(LoadError::Invalid(_) | LoadError::Instantiate(_) | LoadError::Structure { .. }) => {
                refused += 1;
                continue;
            }
            Err(other) => panic!("{seed}: {other}"),
        };
        let bound = module.bind(&setup("{}"), &limits, LogSink::none());
        let mut pipeline = patient(Pipeline::new(vec![bound.expect("it configures itself soundly")]));
        let outcome = pipeline.run(&records, all.clone()).unwrap();
        assert!(outcome.done == all || outcome.stop.is_some(), "{seed}: {outcome:?}");
        // Whatever it did, whoever is beside it gets the same.
        assert_eq!(honest.run(&records, all.clone()).unwrap().delivery, expected, "{seed}");
        ran += 1;
        faults += usize::from(!outcome.faults.is_empty());
    }
    println!("{refused} refused, {ran} ran, {faults} of them with faults");
    assert!(
        ran >= strangers.len() / 4 && faults > 0 && refused > 0,
        "{refused} refused, {ran} ran, {faults} with faults"
    );
}

#[test]
fn nothing_is_left_for_the_next_instance() {
    // One slot for all: each instance gets the memory of the one before.
    let engine = Engine::new(&Settings { instances_max: 1, ..Settings::default() }).unwrap();
    let limits = Limits { call_ms: 1_000, configure_ms: 10_000, ..Limits::default() };
    let modules = ["one", "another"].map(|salt| engine.load(&salted("residue", salt), &limits).unwrap());
    assert_ne!(modules[0].digest(), modules[1].digest());
    let bind = |index: usize| {
        let bound = modules[index].bind(&setup("{}"), &limits, LogSink::none());
        patient(Pipeline::new(vec![bound.expect("nothing is found")]))
    };
    let judge = |pipeline: &mut Pipeline, how: &str| pipeline.run(&batch(&[how]), 0..1).unwrap();
    // It does find what is there, its own, and traps; that it was refused more memory before is what the fault tells.
    let outcome = judge(&mut bind(0), "X");
    assert_eq!(outcome.faults.first().map(|found| found.fault.kind), Some(FaultKind::Memory));
    for (how, fault) in [("-", None), ("T", Some(FaultKind::Trap)), ("L", Some(FaultKind::Deadline))] {
        for index in [0, 1, 1, 0] {
            let mut pipeline = bind(index);
            let outcome = judge(&mut pipeline, how);
            assert_eq!(outcome.faults.first().map(|found| found.fault.kind), fault, "{how}");
            // A new instance of the same pipeline, where the one before was discarded.
            let outcome = judge(&mut pipeline, "-");
            assert_eq!((outcome.faults, outcome.stop), (vec![], None), "{how}");
        }
    }
}

#[test]
fn a_hundred_thousand_lines_are_counted() {
    let lines = Arc::new(Mutex::new((0_u64, 0_u64, false)));
    let sink = {
        let lines = Arc::clone(&lines);
        LogSink::new(move |line| {
            let mut lines = lines.lock().unwrap();
            // The first panic is what they are told of by.
            if !lines.2 {
                lines.2 = line.level == LogLevel::Panic;
                lines.0 += u64::from(!lines.2);
                lines.1 += line.left_out;
            }
        })
    };
    let limits = Limits { call_ms: 60_000, ..Limits::default() };
    let bound = load("hostile").bind(&setup("{}"), &limits, sink).unwrap();
    let mut pipeline = patient(Pipeline::new(vec![bound]));
    let outcome = pipeline.run(&batch(&["Y", "P", "-"]), 0..3).unwrap();
    assert_eq!(contents_of(&outcome), [(0, "Y".to_owned()), (2, "-".to_owned())]);
    let (handed_on, left_out, _) = *lines.lock().unwrap();
    assert_eq!(handed_on + left_out, 100_000, "{handed_on} and {left_out}");
    assert!(left_out >= 90_000 && handed_on < 50_000, "{handed_on} and {left_out}");
}

fn contents_of(outcome: &millstream_engine::Outcome) -> Vec<(u64, String)> {
    match &outcome.delivery {
        millstream_engine::Delivery::Batches(batches) => contents(batches),
        _ => Vec::new(),
    }
}

/// A component with this text is refused for having `found` of `what`, of which there may be `max`.
fn too_many(text: &str, what: &str, found: usize, max: usize) {
    let wasm = wat::parse_str(text).expect("valid text");
    let error = engine().load(&wasm, &Limits::default()).expect_err("refused");
    let text = error.to_string();
    assert!(
        text.contains(what) && text.contains(&found.to_string()) && text.contains(&max.to_string()),
        "{what}: {text}"
    );
    assert!(matches!(error, LoadError::Structure { .. }), "{what}: {text}");
}

#[test]
fn components_of_thousands_of_parts_are_refused_by_name_and_count() {
    let many = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let imports = many(5_000, &|at| format!("(import \"i{at}\" (func (type $f)))"));
    too_many(&format!("(component (type $f (func)) {imports})"), "imports", 5_000, 500);
    let exports = many(5_000, &|at| format!("(export \"e{at}\" (type $t))"));
    too_many(&format!("(component (type $t (func)) {exports})"), "exports", 5_000, 1_000);
    let types = many(5_000, &|_| "(type (func))".to_owned());
    too_many(&format!("(component {types})"), "component types", 5_000, 4_000);
    // Within one type: as many as were found when it was too many.
    too_many(&format!("(component (type (component {types})))"), "component types", 10_001, 4_000);
    let instances = many(1_000, &|_| "(instance (instantiate $c))".to_owned());
    too_many(&format!("(component (component $c) {instances})"), "instances", 1_000, 400);
    let aliases = many(20_000, &|_| "(alias core export $i \"f\" (core func))".to_owned());
    let module = "(core module $m (func (export \"f\"))) (core instance $i (instantiate $m))";
    too_many(&format!("(component {module} {aliases})"), "aliases", 20_000, 10_000);
    too_many(
        &format!("(component {})", "(core module)".repeat(100)),
        "nested modules and components",
        65,
        64,
    );
    let deep = format!("{}{}", "(component ".repeat(12), ")".repeat(12));
    too_many(&deep, "nested to a depth", 9, 8);
    let core = |text: String| format!("(component (core module {text}))");
    too_many(&core("(func)".repeat(70_000)), "functions", 70_000, 60_000);
    let imports = many(20_000, &|at| format!("(import \"m\" \"i{at}\" (func (type $f)))"));
    too_many(&core(format!("(type $f (func)) {imports}")), "core imports", 20_000, 10_000);
    let globals = "(global i32 (i32.const 0))".repeat(60_000);
    too_many(&core(globals), "globals", 60_000, 50_000);
    too_many(&core(format!("(func {})", "nop ".repeat(600 << 10))), "size in bytes of one", 614_402, 524_288);
    let locals = format!("(func (local {}))", "i32 i64 ".repeat(6_000));
    too_many(&core(locals), "local variables", 12_000, 10_000);
}

#[test]
fn what_is_within_the_limits_is_compiled() {
    let error = engine().load(&compile_bomb(20, 200), &Limits::default()).unwrap_err();
    assert_eq!(error, LoadError::MissingExport("configure"));
}

//! Guests that misbehave while they judge.

use std::sync::{Arc, Mutex};

use millstream_engine::{Delivery, FaultKind, Limits, LogSink, Outcome, Pipeline, Stop};

use crate::support::{BASE, batch, batch_with, bound, contents, load, patient, pipeline, setup};

fn run(payloads: &millstream_types::RecordBatch) -> Outcome {
    let mut pipeline = pipeline(&["hostile"]);
    let outcome = pipeline.run(payloads, 0..payloads.view().len()).expect("a good batch");
    // Whatever happened, the pipeline goes on.
    let after = batch(&["-", "-"]);
    assert_eq!(pipeline.run(&after, 0..2).expect("a good batch").delivery, Delivery::Untouched);
    outcome
}

/// One poison record among 300: it alone is at fault.
fn check(poison: &str, kind: FaultKind, text: &str) {
    for place in [0, 137, 255, 256, 299] {
        let outcome = run(&batch_with(300, &[(place, poison)]));
        assert_eq!((outcome.done, outcome.stop), (0..300, None), "{poison} at {place}");
        let [fault] = outcome.faults.as_slice() else { panic!("{poison} at {place}: {:?}", outcome.faults) };
        assert_eq!((fault.offset, fault.fault.kind), (BASE + place as u64, kind), "{}", fault.fault);
        assert!(fault.fault.text.contains(text), "{}", fault.fault);
        let Delivery::Batches(batches) = outcome.delivery else { panic!("neighbours are lost") };
        let left: Vec<_> = contents(&batches).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(left, (0..300).filter(|offset| *offset != place as u64).collect::<Vec<_>>());
        assert_eq!((outcome.counters.delivered, outcome.counters.faulted), (299, 1));
    }
}

#[test]
fn trap() {
    check("T", FaultKind::Trap, "unreachable");
}

#[test]
fn panic() {
    check("P", FaultKind::Panic, "panicked at 'no such carrier', src/lib.rs:42:7");
}

#[test]
fn memory_bomb() {
    check("M", FaultKind::Memory, "its limit is 16777216");
}

#[test]
fn table_bomb() {
    check("G", FaultKind::Memory, "a table of 1000010 elements; its limit is 20000");
}

#[test]
fn stack_bomb() {
    check("S", FaultKind::Trap, "call stack exhausted");
}

#[test]
fn out_of_bounds() {
    check("E", FaultKind::Trap, "out of bounds memory access");
}

#[test]
fn huge_output() {
    check("O", FaultKind::OutputTooLarge, "limit");
}

#[test]
fn answer_outside_of_memory() {
    check("W", FaultKind::Trap, "");
}

#[test]
fn wrong_count() {
    check("C", FaultKind::BadVerdicts, "2 verdicts for 1 records");
}

#[test]
fn no_verdicts() {
    check("N", FaultKind::BadVerdicts, "not a verdict buffer");
}

#[test]
fn unknown_tag() {
    check("B", FaultKind::BadVerdicts, "unknown tag 77");
}

#[test]
fn undeclared_verdict() {
    check("U", FaultKind::Undeclared, "`drop`");
}

#[test]
fn undeclared_topic() {
    check("D", FaultKind::Undeclared, "`not.announced`");
}

#[test]
fn endless_loop() {
    let outcome = run(&batch_with(20, &[(11, "L")]));
    let [fault] = outcome.faults.as_slice() else { panic!("{:?}", outcome.faults) };
    assert_eq!((fault.offset, fault.fault.kind), (BASE + 11, FaultKind::Deadline));
    assert_eq!(fault.fault.text, "used more than its 50 ms of CPU time");
    assert_eq!(outcome.counters.delivered, 19);
}

#[test]
fn several_poison_records() {
    let outcome = run(&batch_with(256, &[(3, "T"), (4, "P"), (77, "M"), (200, "J"), (255, "C")]));
    let faults: Vec<_> = outcome.faults.iter().map(|fault| (fault.offset - BASE, fault.fault.kind)).collect();
    assert_eq!(
        faults,
        [(3, FaultKind::Trap), (4, FaultKind::Panic), (77, FaultKind::Memory), (255, FaultKind::BadVerdicts)]
    );
    let [reject] = outcome.rejects.as_slice() else { panic!("{:?}", outcome.rejects) };
    assert_eq!((reject.offset, reject.reason.as_str()), (BASE + 200, "this will never do"));
    assert_eq!(outcome.counters.delivered, 251);
}

#[test]
fn what_an_earlier_call_left_behind_blames_no_record() {
    // Each instance fails in all calls but its first.
    let mut pipeline = pipeline(&["hostile"]);
    for _ in 0..5 {
        let outcome = pipeline.run(&batch(&["F"]), 0..1).unwrap();
        assert_eq!((outcome.delivery, outcome.faults), (Delivery::Untouched, vec![]));
    }
}

#[test]
fn retry_stops_before_the_record() {
    let mut pipeline = pipeline(&["hostile"]);
    let records = batch_with(600, &[(300, "R")]);
    let outcome = pipeline.run(&records, 0..600).unwrap();
    assert_eq!(outcome.stop, Some(Stop::Retry { stage: 0, text: "later, please".into() }));
    assert_eq!((outcome.done.clone(), outcome.delivery), (0..256, Delivery::Untouched));
    let outcome = pipeline.run(&records, 256..300).unwrap();
    assert_eq!((outcome.done, outcome.stop), (256..300, None));
}

#[test]
fn faults_in_a_row_stop_the_run() {
    let mut pipeline = pipeline(&["hostile"]);
    let records = batch_with(100, &[]);
    let all_bad = batch(&["T"; 100]);
    let outcome = pipeline.run(&all_bad, 0..100).unwrap();
    assert_eq!((outcome.done, outcome.faults.len()), (0..10, 10));
    assert!(matches!(outcome.stop, Some(Stop::FaultsInRow { stage: 0, .. })));
    // Tried again, one record is enough.
    let outcome = pipeline.run(&all_bad, 10..100).unwrap();
    assert_eq!((outcome.done, outcome.faults.len()), (10..11, 1));
    let outcome = pipeline.run(&records, 0..100).unwrap();
    assert_eq!((outcome.delivery, outcome.stop), (Delivery::Untouched, None));
}

#[test]
fn slow_modules_are_given_less_and_recover() {
    let mut pipeline = pipeline(&["hostile"]);
    let outcome = pipeline.run(&batch_with(256, &[(100, "L")]), 0..256).unwrap();
    assert_eq!((outcome.faults.len(), outcome.counters.delivered), (1, 255));
    let mut calls = Vec::new();
    for _ in 0..12 {
        calls.push(pipeline.run(&batch_with(256, &[]), 0..256).unwrap().counters.calls);
    }
    assert!(calls[0] > 1, "{calls:?}");
    assert_eq!(calls[11], 1, "{calls:?}");
}

#[test]
fn log_lines_are_cut_and_counted() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let lines = Arc::clone(&lines);
        LogSink::new(move |line| lines.lock().unwrap().push((line.text.to_owned(), line.left_out)))
    };
    let limits = Limits { log_line_bytes: 11, log_lines_per_second: 20, ..Limits::default() };
    let module = load("hostile").bind(&setup("{}"), &limits, sink).unwrap();
    let mut pipeline = patient(Pipeline::new(vec![module]));
    pipeline.run(&batch(&["V"]), 0..1).unwrap();
    let lines = lines.lock().unwrap();
    assert!((40..60).contains(&lines.len()), "{}", lines.len());
    assert_eq!(lines[0], ("panicked at".to_owned(), 0));
}

#[test]
fn a_bound_module_is_configured_anew_after_a_trap() {
    let mut bound = bound("hostile");
    let ask = |bound: &mut millstream_engine::Bound, payload: &str| {
        let batch = batch(&[payload]);
        let mut input = Vec::new();
        batch.view().write_slice(0..1, true, &mut input).unwrap();
        bound.process(&input, 1).map(|verdicts| verdicts.view().all_kept())
    };
    assert_eq!(ask(&mut bound, "-"), Ok(true));
    assert_eq!(ask(&mut bound, "T").unwrap_err().kind, FaultKind::Trap);
    assert_eq!(ask(&mut bound, "-"), Ok(true));
    assert_eq!(ask(&mut bound, "R").unwrap_err().kind, FaultKind::Retry);
    let fault = ask(&mut bound, "U").unwrap_err();
    assert_eq!((fault.kind, fault.record), (FaultKind::Undeclared, Some(0)));
    bound.rest();
    assert_eq!(ask(&mut bound, "-"), Ok(true));
}

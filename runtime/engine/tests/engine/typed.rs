//! The typed form of the contract: what crosses, and that its answers are held to the same rules.

use millstream_engine::{
    Bound, Delivery, FaultKind, Form, Limits, LoadError, LogSink, Outcome, Pipeline, Stop,
};
use millstream_types::{BatchBuilder, Record, RecordBatch};

use crate::support::{BASE, batch, batch_with, contents, engine, load, patient, pipeline, setup};

const TIMESTAMP: i64 = 1_700_000_000_000;

fn run(batch: &RecordBatch) -> Outcome {
    let mut pipeline = pipeline(&["typed"]);
    let outcome = pipeline.run(batch, 0..batch.view().len()).expect("a good batch");
    // Whatever happened, the pipeline goes on.
    let after = self::batch(&["-", "-"]);
    assert_eq!(pipeline.run(&after, 0..2).expect("a good batch").delivery, Delivery::Untouched);
    outcome
}

fn records(outcome: &Outcome) -> Vec<Record> {
    let Delivery::Batches(batches) = &outcome.delivery else { panic!("{:?}", outcome.delivery) };
    batches
        .iter()
        .flat_map(|batch| batch.view().records().map(|record| record.to_record()).collect::<Vec<_>>())
        .collect()
}

fn bound(config: &str) -> Bound {
    load("typed").bind(&setup(config), &Limits::default(), LogSink::none()).expect("bound")
}

#[test]
fn the_form_is_found_from_the_exports() {
    assert_eq!(load("typed").form(), Form::Records);
    assert_eq!(load("keep_all").form(), Form::Batch);
    let refused = |exports: &str| {
        let text = format!(
            r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f"))) (export "configure" (func $f)) {exports})"#
        );
        engine().load(&wat::parse_str(text).unwrap(), &Limits::default()).expect_err("refused")
    };
    assert_eq!(refused(""), LoadError::NoForm);
    let both = refused(r#"(export "process" (func $f)) (export "process-records" (func $f))"#);
    assert_eq!(both, LoadError::BothForms);
    for error in [LoadError::NoForm, LoadError::BothForms].map(|error| error.to_string()) {
        assert!(error.contains("`process`") && error.contains("`process-records`"), "{error}");
    }
    let other = refused(r#"(export "process-records" (func $f))"#);
    assert!(matches!(other, LoadError::ExportType { .. }), "{other}");
}

#[test]
fn records_cross_whole() {
    let mut builder = BatchBuilder::new().with_stamp(BASE, TIMESTAMP);
    builder.push(&Record::new("-")).unwrap();
    let record = Record::new("E").with_key(&b"k\xff\0"[..]).with_header("Größe", &b"\xfe"[..]);
    builder.push(&record.with_header("Größe", "second")).unwrap();
    let outcome = run(&builder.build().unwrap());
    let [_, echo] = records(&outcome).try_into().expect("both");
    assert_eq!((echo.offset, echo.timestamp), (BASE + 1, TIMESTAMP));
    assert_eq!(echo.key.as_deref(), Some(&b"\xfe"[..]));
    assert_eq!(echo.payload.as_deref(), Some(&b"k\xff\0"[..]));
    let times = [BASE + 1, TIMESTAMP as u64, TIMESTAMP as u64].map(u64::to_le_bytes).concat();
    assert_eq!((echo.headers.len(), echo.headers[0].name.as_str()), (1, "Größe"));
    assert_eq!(echo.headers[0].value, times);
}

#[test]
fn verdicts_are_those_of_the_other_form() {
    let mut builder = BatchBuilder::new().with_stamp(BASE, TIMESTAMP);
    let whole = |payload: &'static str| Record::new(payload).with_key("key").with_header("a", "1");
    for record in [
        whole("-"),
        whole("D"),
        whole("R"),
        whole("J"),
        whole("X"),
        whole("S"),
        Record { payload: None, ..whole("") },
    ] {
        builder.push(&record).unwrap();
    }
    let outcome = run(&builder.build().unwrap());
    assert_eq!((outcome.done.clone(), &outcome.stop, &outcome.faults), (0..7, &None, &vec![]));
    let left = records(&outcome);
    let at = |index: u64, record: Record| Record { offset: BASE + index, timestamp: TIMESTAMP, ..record };
    let bare = Record { payload: None, ..Record::default() };
    assert_eq!(left, [at(0, whole("-")), at(4, bare), at(5, whole("S"))]);
    let routed: Vec<_> = outcome.routed().map(|it| (it.source - BASE, it.topic.to_string())).collect();
    assert_eq!(routed, [(2, "flights.a".to_owned()), (2, "flights.b".to_owned())]);
    let [reject] = outcome.rejects.as_slice() else { panic!("{:?}", outcome.rejects) };
    assert_eq!((reject.offset, reject.reason.as_str()), (BASE + 3, "no"));
    assert_eq!((outcome.counters.dropped, outcome.counters.calls), (2, 1));
}

#[test]
fn payloads_stay_outside_where_they_are_not_read() {
    let mut builder = BatchBuilder::new().with_stamp(BASE, TIMESTAMP);
    // It would trap if it saw the payloads; a tombstone it still sees.
    for payload in [Some("T"), None, Some("T")] {
        builder.push(&Record { payload: payload.map(Into::into), ..Record::default() }).unwrap();
    }
    let outcome = Pipeline::new(vec![bound("\"headers\"")]).run(&builder.build().unwrap(), 0..3).unwrap();
    assert!(outcome.faults.is_empty(), "{:?}", outcome.faults);
    let Delivery::Batches(batches) = &outcome.delivery else { panic!("{:?}", outcome.delivery) };
    assert_eq!(contents(batches), [(0, "T".to_owned()), (2, "T".to_owned())]);
}

/// One poison record among 300: it alone is at fault.
fn check(poison: &str, kind: FaultKind, text: &str) {
    for place in [0, 137, 255, 299] {
        let outcome = run(&batch_with(300, &[(place, poison)]));
        assert_eq!((outcome.done.clone(), &outcome.stop), (0..300, &None), "{poison} at {place}");
        let [fault] = outcome.faults.as_slice() else { panic!("{poison} at {place}: {:?}", outcome.faults) };
        assert_eq!((fault.offset, fault.fault.kind), (BASE + place as u64, kind), "{}", fault.fault);
        assert!(fault.fault.text.contains(text), "{poison}: {}", fault.fault);
        assert_eq!((outcome.counters.delivered, outcome.counters.faulted), (299, 1));
    }
}

#[test]
fn too_many_and_too_few_verdicts() {
    check("C", FaultKind::BadVerdicts, "2 verdicts for 1 records");
    check("N", FaultKind::BadVerdicts, "0 verdicts for 1 records");
}

#[test]
fn names_that_are_none() {
    check("B", FaultKind::BadVerdicts, "verdict 0 is malformed: topic name \"a..b\"");
    check("H", FaultKind::BadVerdicts, "a name of 0 bytes; 1 to 1024 are allowed");
    check("P", FaultKind::BadVerdicts, "1025 headers, above the limit of 1024");
}

#[test]
fn too_many_outputs() {
    check("M", FaultKind::BadVerdicts, "5000 outputs, above the limit of 4096");
    check("O", FaultKind::OutputTooLarge, "limit");
}

#[test]
fn values_that_are_none() {
    check("V", FaultKind::Trap, "");
    check("I", FaultKind::Trap, "utf-8");
    check("W", FaultKind::Trap, "");
    check("T", FaultKind::Trap, "unreachable");
}

#[test]
fn topics_and_verdicts_that_were_not_announced() {
    check("U", FaultKind::Undeclared, "`not.announced`");
    let drops = batch(&["-", "D", "R", "-"]);
    let outcome = patient(Pipeline::new(vec![bound("\"keep\"")])).run(&drops, 0..4).unwrap();
    let faults: Vec<_> = outcome.faults.iter().map(|it| (it.fault.kind, it.fault.text.as_str())).collect();
    assert_eq!(
        faults,
        [
            (FaultKind::Undeclared, "verdict 0 is `drop`, which the module did not announce"),
            (FaultKind::Undeclared, "verdict 0 is `emit`, which the module did not announce"),
        ]
    );
}

#[test]
fn failures_of_the_batch() {
    let outcome = run(&batch_with(10, &[(4, "Z")]));
    let [reject] = outcome.rejects.as_slice() else { panic!("{:?}", outcome.rejects) };
    assert_eq!((reject.offset, reject.reason.as_str()), (BASE + 4, "no"));
    assert_eq!(outcome.counters.delivered, 9);
    let outcome = run(&batch_with(10, &[(4, "Y")]));
    assert_eq!(outcome.stop, Some(Stop::Retry { stage: 0, text: "no".into() }));
    assert_eq!(outcome.done, 0..0);
}

#[test]
fn both_forms_in_one_pipeline() {
    let mut both = pipeline(&["every_second", "typed"]);
    let outcome = both.run(&batch(&["-", "D", "D", "-", "S"]), 0..5).unwrap();
    let Delivery::Batches(batches) = &outcome.delivery else { panic!("{:?}", outcome.delivery) };
    assert_eq!(contents(batches), [(0, "-".to_owned()), (4, "S".to_owned())]);
}

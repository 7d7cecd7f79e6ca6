//! What a module may answer and what becomes of the records.

use millstream_engine::{
    BindError, Counters, Delivery, Engine, FaultKind, Limits, LogSink, Outcome, Pipeline, Settings, Stop,
};
use millstream_test_guests::guest;
use millstream_types::{BatchBuilder, Compression, Record, RecordBatch};

use crate::support::{BASE, batch, batch_with, bound, contents, patient, pipeline, setup};

fn run(names: &[&str], batch: &RecordBatch) -> Outcome {
    pipeline(names).run(batch, 0..batch.view().len()).expect("a good batch")
}

fn delivered(outcome: &Outcome) -> Vec<(u64, String)> {
    match &outcome.delivery {
        Delivery::Batches(batches) => contents(batches),
        other => panic!("{other:?}"),
    }
}

fn routed(outcome: &Outcome) -> Vec<(u64, String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    outcome
        .routed()
        .map(|it| (it.source - BASE, it.topic.to_string(), text(it.record.payload.expect("a payload"))))
        .collect()
}

fn owned(records: &[(u64, &str)]) -> Vec<(u64, String)> {
    records.iter().map(|(offset, payload)| (*offset, (*payload).to_owned())).collect()
}

#[test]
fn without_modules_everything_goes_on() {
    let outcome = run(&[], &batch(&["a", "b"]));
    assert_eq!((outcome.delivery, outcome.done), (Delivery::Untouched, 0..2));
}

#[test]
fn all_kept_is_untouched_and_payloads_stay_outside() {
    let batch = batch(&["a"; 1_000]);
    let outcome = run(&["keep_all"], &batch);
    assert_eq!((outcome.delivery, outcome.done), (Delivery::Untouched, 0..1_000));
    assert_eq!(outcome.counters.calls, 4);
    let with_payloads = run(&["hostile"], &batch).counters.bytes_in;
    assert_eq!(with_payloads - outcome.counters.bytes_in, 1_000);
}

#[test]
fn dropped_records_are_gone_and_offsets_stay() {
    let batch = batch(&["a", "b", "c", "d", "e"]);
    let outcome = run(&["every_second"], &batch);
    assert_eq!(delivered(&outcome), owned(&[(0, "a"), (2, "c"), (4, "e")]));
    let counters = Counters { guest_ns: 0, bytes_in: 0, ..outcome.counters };
    assert_eq!(
        counters,
        Counters { records_in: 5, dropped: 2, delivered: 3, calls: 1, ..Counters::default() }
    );
    let outcome = pipeline(&["every_second"]).run(&batch, 1..2).unwrap();
    assert_eq!((outcome.delivery, outcome.done), (Delivery::Nothing, 1..2));
    let outcome = pipeline(&["every_second"]).run(&batch, 2..3).unwrap();
    assert_eq!((outcome.delivery, outcome.done), (Delivery::Untouched, 2..3));
}

#[test]
fn compressed_batches_are_read_and_filtered() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new().with_compression(compression).with_stamp(BASE, 5);
        for payload in ["-", "e", "-", "b"] {
            builder.push(&Record::new(payload)).unwrap();
        }
        let batch = builder.build().unwrap();
        let outcome = run(&["keep_all"], &batch);
        assert_eq!(outcome.delivery, Delivery::Untouched);
        assert_eq!(delivered(&run(&["every_second"], &batch)), owned(&[(0, "-"), (2, "-")]));
        let outcome = run(&["emitter"], &batch);
        assert_eq!(delivered(&outcome), owned(&[(0, "-"), (1, "EMITTED"), (2, "-"), (3, "EMITTED")]));
        assert_eq!(routed(&outcome), [(3, "out.a".into(), "b".into())]);
    }
}

#[test]
fn emits_take_the_place_of_their_source() {
    let batch = batch(&["-", "e", "d", "s", "n", "t", "b", "r", "-"]);
    let outcome = run(&["emitter"], &batch);
    assert_eq!(
        delivered(&outcome),
        owned(&[
            (0, "-"),
            (1, "EMITTED"),
            (3, "EMITTED"),
            (3, "EMITTED"),
            (3, "EMITTED"),
            (6, "EMITTED"),
            (8, "-")
        ])
    );
    assert_eq!(routed(&outcome), [(5, "out.a".into(), "t".into()), (6, "out.a".into(), "b".into())]);
    assert_eq!((outcome.rejects[0].offset, outcome.rejects[0].reason.as_str()), (BASE + 7, "bad record"));
    let counters = Counters { guest_ns: 0, bytes_in: 0, calls: 0, ..outcome.counters };
    assert_eq!(
        counters,
        Counters { records_in: 9, dropped: 2, delivered: 7, routed: 2, rejected: 1, ..Counters::default() }
    );
    // What an output does not set it has from its source.
    let Delivery::Batches(batches) = &outcome.delivery else { panic!("no batches") };
    let source = batch.view().record(3).unwrap().to_record();
    let emitted = batches[0].view().record(2).unwrap().to_record();
    assert_eq!(
        (emitted.key, emitted.headers, emitted.timestamp),
        (source.key, source.headers, source.timestamp)
    );
    let routed = outcome.routed().next().unwrap();
    assert_eq!(routed.record.to_record(), batch.view().record(5).unwrap().to_record());
}

#[test]
fn modules_run_one_after_the_other() {
    // The second sees what the first lets through, at the offsets of the sources.
    let batch = batch(&["e", "e", "s", "s", "-", "-", "b", "b"]);
    let outcome = run(&["emitter", "every_second"], &batch);
    let emitted = (2, "EMITTED");
    assert_eq!(
        delivered(&outcome),
        owned(&[(0, "EMITTED"), emitted, emitted, emitted, (4, "-"), (6, "EMITTED")])
    );
    assert_eq!(routed(&outcome).len(), 2);
    let outcome = run(&["every_second", "keep_all", "emitter"], &batch);
    assert_eq!(
        delivered(&outcome),
        owned(&[(0, "EMITTED"), emitted, emitted, emitted, (4, "-"), (6, "EMITTED")])
    );
    assert_eq!(routed(&outcome), [(6, "out.a".into(), "b".into())]);
    // 301 records become 901; the second module is asked in several calls.
    let outcome = run(&["emitter", "keep_all"], &batch_with(301, &[(0, "s")]));
    assert_eq!(delivered(&outcome).len(), 303);
}

#[test]
fn what_happens_to_a_record_is_all_or_nothing() {
    // `b` sends one output to a topic and one on, with the payload `EMITTED`; the next module traps over payloads
    // that start with `E`. So neither goes anywhere.
    let batch = batch(&["-", "b", "t"]);
    let outcome = run(&["emitter", "hostile"], &batch);
    assert_eq!(delivered(&outcome), owned(&[(0, "-")]));
    assert_eq!(routed(&outcome), [(2, "out.a".into(), "t".into())]);
    let [fault] = outcome.faults.as_slice() else { panic!("{:?}", outcome.faults) };
    assert_eq!((fault.offset, fault.stage), (BASE + 1, 1));
    assert_eq!(outcome.counters.faulted, 1);
}

#[test]
fn outputs_that_stand_for_too_much_are_a_fault_of_their_record() {
    let large = format!("x{}", "y".repeat(200_000));
    let batch = batch(&["-", "e", &large, "-", "k", "x"]);
    let outcome = run(&["emitter"], &batch);
    let faults: Vec<_> = outcome.faults.iter().map(|fault| fault.offset - BASE).collect();
    assert_eq!(faults, [2, 4]);
    // 4,000 copies of a small record are fine.
    assert_eq!(delivered(&outcome).len(), 4_003);
}

#[test]
fn what_goes_to_the_reader_fits_batches() {
    // 30 records of 60 KB, each kept or replaced: more than one batch may hold.
    let payload = "-".repeat(60_000);
    let mut payloads = vec![payload.as_str(); 15];
    payloads[7] = "e";
    let mut builder = BatchBuilder::new().with_compression(Compression::Zstd).with_stamp(BASE, 5);
    for _ in 0..2 {
        for payload in &payloads {
            builder.push(&Record::new((*payload).to_owned())).unwrap();
        }
    }
    let batch = builder.build().unwrap();
    for names in [&["emitter"][..], &["every_second"][..]] {
        let outcome = run(names, &batch);
        let Delivery::Batches(batches) = &outcome.delivery else { panic!("no batches") };
        assert!(
            batches.iter().all(|batch| batch.as_bytes().len() <= millstream_types::limits::BATCH_BYTES_MAX)
        );
        let offsets: Vec<_> = delivered(&outcome).into_iter().map(|(offset, _)| offset).collect();
        let step = if names[0] == "emitter" { 1 } else { 2 };
        assert_eq!(offsets, (0..30).step_by(step).collect::<Vec<_>>());
        assert_eq!(batches.len(), if step == 1 { 2 } else { 1 });
    }
}

#[test]
fn rest_gives_instances_up() {
    let mut pipeline: Pipeline = pipeline(&["every_second", "emitter"]);
    let batch = batch(&["-", "-", "e"]);
    let before = pipeline.run(&batch, 0..3).unwrap();
    pipeline.rest();
    let after = pipeline.run(&batch, 0..3).unwrap();
    assert_eq!(delivered(&before), delivered(&after));
    assert_eq!(pipeline.counters().records_in, 6);
}

#[test]
fn without_a_free_instance_a_run_waits_its_turn() {
    let engine = Engine::new(&Settings { instances_max: 2, ..Settings::default() }).unwrap();
    let limits = Limits::default();
    let module = engine.load(&guest("every_second"), &limits).unwrap();
    let bind = || module.bind(&setup("{}"), &limits, LogSink::none());
    let batch = batch(&["a", "b"]);
    let mut first = patient(Pipeline::new(vec![bind().unwrap()]));
    let mut second = patient(Pipeline::new(vec![bind().unwrap()]));
    assert!(matches!(bind(), Err(BindError::Instantiate(fault)) if fault.kind == FaultKind::Busy));
    second.rest();
    let third = bind().unwrap();
    let outcome = second.run(&batch, 0..2).unwrap();
    assert_eq!((outcome.done, outcome.stop), (0..0, Some(Stop::Busy { stage: 0 })));
    drop(third);
    assert_eq!(second.run(&batch, 0..2).unwrap().done, 0..2);
    assert_eq!(first.run(&batch, 0..2).unwrap().done, 0..2);
}

#[test]
fn fuel_is_counted_where_it_is_asked_for_and_memory_always() {
    let run = |fuel: bool, records: usize| {
        let engine = Engine::new(&Settings { instances_max: 2, fuel, ..Settings::default() }).unwrap();
        let module = engine.load(&guest("every_second"), &Limits::default()).unwrap();
        let bound = module.bind(&setup("{}"), &Limits::default(), LogSink::none()).unwrap();
        let mut pipeline = Pipeline::new(vec![bound]);
        let batch = batch_with(records, &[]);
        let outcome = pipeline.run(&batch, 0..records).unwrap();
        (outcome.counters.fuel, pipeline.modules().map(|bound| bound.memory_bytes_peak()).sum::<usize>())
    };
    let (few, memory) = run(true, 100);
    assert!(few > 100, "each record costs something: {few}");
    assert_eq!(run(true, 100).0, few, "it is the same each time");
    assert!((few..few * 3).contains(&(run(true, 200).0 - 1)), "it grows with the records");
    assert_eq!(run(false, 100).0, 0);
    assert!(memory >= 2 << 16, "the guest has two pages: {memory}");
}

#[test]
fn an_instance_can_be_made_anew() {
    let mut bound = bound("keep_all");
    bound.restart().expect("another instance");
    let batch = batch(&["a"]);
    let verdicts = bound.process(batch.as_bytes(), 1).expect("verdicts");
    assert!(verdicts.view().all_kept());
}

//! Any mixture of records and faults, against a model: two modules in a row, `hostile` and `emitter`.

use std::sync::Mutex;
use std::time::Duration;

use millstream_engine::{Delivery, Pipeline};
use millstream_types::RecordBatch;
use proptest::prelude::*;

use crate::support::{BASE, batch, contents, pipeline};

/// What became of all records, by offset less [`BASE`].
#[derive(Debug, Default, PartialEq, Eq)]
struct Fate {
    delivered: Vec<(u64, String)>,
    routed: Vec<u64>,
    rejected: Vec<(u64, String)>,
    faulted: Vec<u64>,
}

/// What must become of records with these payloads.
fn expected(payloads: &[&str]) -> Fate {
    let mut fate = Fate::default();
    for (&payload, offset) in payloads.iter().zip(0..) {
        let mut emitted = |times| (0..times).for_each(|_| fate.delivered.push((offset, "EMITTED".into())));
        match payload {
            "T" | "P" | "C" | "U" | "B" => fate.faulted.push(offset),
            "J" => fate.rejected.push((offset, "this will never do".into())),
            "r" => fate.rejected.push((offset, "bad record".into())),
            "d" | "n" => {}
            "e" => emitted(1),
            "s" => emitted(3),
            "t" => fate.routed.push(offset),
            "b" => {
                emitted(1);
                fate.routed.push(offset);
            }
            kept => fate.delivered.push((offset, kept.to_owned())),
        }
    }
    fate
}

/// What becomes of them, over as many runs as it takes; `step` records at once.
fn found(pipeline: &mut Pipeline, batch: &RecordBatch, step: usize) -> Fate {
    let mut fate = Fate::default();
    let mut at = 0;
    while at < batch.view().len() {
        let outcome = pipeline.run(batch, at..at + step).expect("a good batch");
        assert!(outcome.done.end > at, "a run comes on: {outcome:?}");
        match &outcome.delivery {
            Delivery::Nothing => {}
            Delivery::Untouched => {
                let all = batch.view().subset(std::slice::from_ref(&outcome.done)).expect("in the batch");
                fate.delivered.extend(contents(&[all]));
            }
            Delivery::Batches(batches) => fate.delivered.extend(contents(batches)),
        }
        fate.routed.extend(outcome.routed().map(|it| it.source - BASE));
        fate.rejected.extend(outcome.rejects.iter().map(|it| (it.offset - BASE, it.reason.clone())));
        fate.faulted.extend(outcome.faults.iter().map(|it| it.offset - BASE));
        at = outcome.done.end;
    }
    fate
}

fn payloads() -> impl Strategy<Value = Vec<&'static str>> {
    let harmless = prop::sample::select(vec!["-"]);
    let judged = prop::sample::select(vec!["d", "e", "s", "n", "t", "b", "r"]);
    let hostile = prop::sample::select(vec!["T", "P", "C", "U", "B", "J"]);
    // Batches of one mind and mixed ones.
    (0..3_u32, 0..3_u32).prop_flat_map(move |(judging, hostility)| {
        let one = prop_oneof![
            20 => harmless.clone(),
            1 + judging * judging * 10 => judged.clone(),
            1 + hostility * hostility * 3 => hostile.clone(),
        ];
        prop::collection::vec(one, 1..700)
    })
}

#[test]
fn as_the_model_says() {
    let pipeline = Mutex::new(pipeline(&["hostile", "emitter"]));
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(payloads in payloads(), step in prop_oneof![Just(1_000_usize), 1..300_usize])| {
        let found = found(&mut pipeline.lock().expect("one thread"), &batch(&payloads), step);
        prop_assert_eq!(found, expected(&payloads));
    });
    let counters = pipeline.lock().expect("one thread").counters();
    assert!(counters.call_faults > 0 && counters.routed > 0 && counters.rejected > 0);
}

/// The same where the time for a run is always over: what fails is divided over several runs, and all comes to an end.
#[test]
fn as_the_model_says_in_the_shortest_turns() {
    let pipeline = Mutex::new(pipeline(&["hostile", "emitter"]).with_turn(Duration::ZERO));
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(payloads in payloads(), step in prop_oneof![Just(1_000_usize), 1..300_usize])| {
        let found = found(&mut pipeline.lock().expect("one thread"), &batch(&payloads), step);
        prop_assert_eq!(found, expected(&payloads));
    });
}

/// What one record becomes may be far more than a module is given at once: it is done all the same.
#[test]
fn many_outputs_of_one_record_are_done_in_the_shortest_turns() {
    let mut pipeline = pipeline(&["emitter", "keep_all", "keep_all"]).with_turn(Duration::ZERO);
    let payloads = ["x", "-", "s", "x", "d"];
    let found = found(&mut pipeline, &batch(&payloads), 1_000);
    let count = |offset| found.delivered.iter().filter(|(found, _)| *found == offset).count();
    assert_eq!([count(0), count(1), count(2), count(3), count(4)], [4_000, 1, 3, 4_000, 0]);
    assert!(found.faulted.is_empty() && found.rejected.is_empty());
}

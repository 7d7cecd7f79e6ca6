//! What a module writes to its state, and when that counts.

use millstream_engine::{BindError, FaultKind, Limits, LogSink, Pipeline, State, StateSize, Stop};

use crate::support::{BASE, batch, batch_with, bound, load, patient, setup};

const MAX: u64 = 4 << 20;

/// A pipeline whose first module counts, and its state.
fn counting(more: &[&str]) -> (Pipeline, State) {
    let state = State::in_memory(MAX);
    let setup = millstream_engine::Setup { state: Some(state.clone()), ..setup("{}") };
    let counter = load("counter").bind(&setup, &Limits::default(), LogSink::none()).expect("bound");
    let modules = std::iter::once(counter).chain(more.iter().map(|name| bound(name)));
    (patient(Pipeline::new(modules.collect())), state)
}

/// What was counted of each byte, as it would be committed.
fn counts(state: &State) -> Vec<(char, u32)> {
    let (changes, _) = state.changes();
    let of_one = changes.into_iter().filter(|(key, _)| key.len() == 1);
    let count = |value: Option<bytes::Bytes>| {
        u32::from_le_bytes(value.expect("counted").as_ref().try_into().expect("four bytes"))
    };
    of_one.map(|(key, value)| (char::from(key[0]), count(value))).collect()
}

#[test]
fn only_a_processor_gives_a_state() {
    let refused = load("counter").bind(&setup("{}"), &Limits::default(), LogSink::none());
    let error = refused.expect_err("it asks for a state");
    assert_eq!(error, BindError::NeedsState);
    assert!(error.to_string().contains("processor create"), "{error}");
}

#[test]
fn calls_see_what_those_before_wrote_and_a_run_counts_once_it_is_kept() {
    let (mut pipeline, state) = counting(&[]);
    let batch = batch(&["a"; 600]);
    pipeline.run(&batch, 0..600).unwrap();
    assert_eq!(counts(&state), [], "not kept yet");
    state.keep();
    assert_eq!(counts(&state), [('a', 600)]);
    pipeline.run(&batch, 0..100).unwrap();
    state.give_up();
    pipeline.run(&batch, 0..10).unwrap();
    state.keep();
    assert_eq!(counts(&state), [('a', 610)]);
    assert_eq!(state.changes().1, StateSize { entries: 1, bytes: 37 });
}

#[test]
fn a_call_that_fails_has_written_nothing() {
    let (mut pipeline, state) = counting(&[]);
    let outcome = pipeline.run(&batch_with(100, &[(40, "!"), (41, "!")]), 0..100).unwrap();
    assert_eq!(outcome.faults.iter().map(|it| it.offset - BASE).collect::<Vec<_>>(), [40, 41]);
    state.keep();
    assert_eq!(counts(&state), [('-', 98)], "each of the others once, however often it was tried");
}

#[test]
fn a_retry_leaves_what_was_done_before() {
    let (mut pipeline, state) = counting(&[]);
    let batch = batch_with(300, &[(270, "?")]);
    let outcome = pipeline.run(&batch, 0..300).unwrap();
    assert!(matches!(outcome.stop, Some(Stop::Retry { .. })));
    assert_eq!(outcome.done, 0..256);
    state.keep();
    assert_eq!(counts(&state), [('-', 256)]);
}

#[test]
fn what_was_written_goes_no_further_than_what_the_modules_behind_did() {
    let (mut pipeline, state) = counting(&["hostile"]);
    // The second module asks for a retry.
    let batch = batch_with(300, &[(100, "R")]);
    let outcome = pipeline.run(&batch, 0..300).unwrap();
    assert!(matches!(outcome.stop, Some(Stop::Retry { .. })), "{:?}", outcome.stop);
    state.keep();
    let done = u32::try_from(outcome.done.len()).unwrap();
    let counted: u32 = counts(&state).into_iter().map(|(_, count)| count).sum();
    assert_eq!(counted, done);
}

#[test]
fn a_full_state_is_a_fault_of_who_fills_it() {
    let (mut pipeline, state) = counting(&[]);
    let places: Vec<_> = (0..20).map(|index| (index * 10, "#")).collect();
    let outcome = pipeline.run(&batch_with(205, &places), 0..205).unwrap();
    state.keep();
    let (_, size) = state.changes();
    assert!(size.bytes <= MAX && size.bytes > MAX - (300 << 10), "{size:?}");
    let fault = &outcome.faults.first().expect("the state is full").fault;
    assert_eq!(fault.kind, FaultKind::State);
    assert!(fault.text.contains("its limit is 4194304"), "{fault}");
    let counted: u32 = counts(&state).into_iter().map(|(_, count)| count).sum();
    assert_eq!(counted as usize, outcome.done.len() - outcome.faults.len());
}

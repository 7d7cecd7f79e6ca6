//! The queue against a model broker: nothing is lost, order is kept, refusals reach their record.

use std::{future::Future, pin::pin, task::Context};

use bytes::Bytes;
use millstream_wire::ErrorCode;
use proptest::prelude::*;

use super::*;
use crate::{RecordReceipt, publish::queue::Next};

fn settings(partitions: u32, linger: Duration) -> Settings {
    Settings {
        partitions,
        batch_bytes: 400,
        linger,
        compression: Compression::None,
        in_flight_max: 4,
        retry: Reconnect::default(),
    }
}

fn record(number: u64) -> Record {
    Record::new(Bytes::from(number.to_le_bytes().to_vec()))
}

fn push(queue: &mut Queue, record: &Record, now: Instant) -> Pending {
    queue.push(None, record, alone_bytes(record), now).unwrap().0
}

fn take(queue: &mut Queue, now: Instant) -> Option<Sealed> {
    match queue.next(now) {
        Next::Send(unsent) => Some(unsent.seal().unwrap()),
        _ => None,
    }
}

fn ready(pending: &mut Pending) -> Option<Result<RecordReceipt, PublishError>> {
    let mut context = Context::from_waker(std::task::Waker::noop());
    match pin!(pending).poll(&mut context) {
        std::task::Poll::Ready(result) => Some(result),
        std::task::Poll::Pending => None,
    }
}

fn receipt(batch: &Sealed, base_offset: u64) -> Answer<Receipt> {
    let records = u32::try_from(batch.batch.view().len()).unwrap();
    Answer::Ok(Receipt { partition: batch.partition, base_offset, records, timestamp: 1 })
}

fn refusal(retryable: bool) -> Answer<Receipt> {
    Answer::Err(WireError { code: ErrorCode::Unavailable, message: "not now".into(), value: None, retryable })
}

fn answer(queue: &mut Queue, answer: Answer<Receipt>, now: Instant) -> Option<usize> {
    queue.answer(answer, now, || 0)
}

#[test]
fn the_first_goes_at_once_and_load_makes_batches() {
    let now = Instant::now();
    let mut queue = Queue::new(settings(1, Duration::ZERO));
    let mut sizes = Vec::new();
    for number in 0..8 {
        drop(push(&mut queue, &record(number), now));
        if let Some(sealed) = take(&mut queue, now) {
            sizes.push(sealed.batch.view().len());
            queue.sent(sealed);
        }
    }
    assert_eq!(sizes, [1, 1], "two alone, the others gather");
    assert!(answer(&mut queue, refusal(false), now).is_some());
    assert_eq!(take(&mut queue, now).unwrap().batch.view().len(), 6);
}

#[test]
fn linger_waits_for_time_or_size() {
    let now = Instant::now();
    let linger = Duration::from_millis(5);
    let mut queue = Queue::new(settings(1, linger));
    drop(push(&mut queue, &record(0), now));
    assert!(matches!(queue.next(now), Next::At(at) if at == now + linger));
    for number in 1..40 {
        drop(push(&mut queue, &record(number), now));
    }
    let full = take(&mut queue, now).expect("a full batch waits for nothing");
    assert!(full.batch.as_bytes().len() <= 400);
    while take(&mut queue, now).is_some() {}
    assert!(take(&mut queue, now + linger).is_some());
    drop(push(&mut queue, &record(0), now + linger));
    assert_eq!(queue.flush().len(), 2, "the one still being encoded, and the one just begun");
    assert!(take(&mut queue, now + linger).is_some(), "a flush does not linger");
}

#[test]
fn records_without_key_take_partitions_in_turn() {
    let now = Instant::now();
    let mut queue = Queue::new(settings(3, Duration::ZERO));
    let mut partitions = Vec::new();
    for number in 0..60 {
        drop(push(&mut queue, &record(number), now));
    }
    drop(queue.flush());
    while let Some(sealed) = take(&mut queue, now) {
        partitions.push(sealed.partition);
    }
    assert!(partitions.len() > 3, "{partitions:?}");
    assert!(partitions.iter().enumerate().all(|(turn, &partition)| turn as u32 % 3 == partition));
}

#[test]
fn a_refusal_reaches_its_record_and_the_flush() {
    let now = Instant::now();
    let mut queue = Queue::new(settings(1, Duration::ZERO));
    let mut pending = push(&mut queue, &record(0), now);
    let sealed = take(&mut queue, now).unwrap();
    queue.sent(sealed);
    assert!(ready(&mut pending).is_none());
    assert_eq!(answer(&mut queue, refusal(false), now), Some(alone_bytes(&record(0))));
    assert!(matches!(ready(&mut pending), Some(Err(PublishError::Refused(_)))));
    assert!(queue.take_failure().is_some());
    assert!(queue.take_failure().is_none());
    assert!(answer(&mut queue, refusal(false), now).is_none(), "a receipt for nothing");
}

#[test]
fn a_broker_that_keeps_refusing_is_given_up() {
    let mut now = Instant::now();
    let mut queue = Queue::new(settings(1, Duration::ZERO));
    let mut pending = push(&mut queue, &record(0), now);
    let started = now;
    while ready(&mut pending).is_none() {
        match queue.next(now) {
            Next::Send(unsent) => {
                queue.sent(unsent.seal().unwrap());
                assert!(answer(&mut queue, refusal(true), now).is_some());
            }
            Next::At(at) => now = at,
            next => panic!("{next:?}"),
        }
    }
    assert!(matches!(ready(&mut pending), Some(Err(PublishError::GaveUp { .. }))));
    assert!(now - started <= Duration::from_secs(30) && now - started > Duration::from_secs(5));
}

#[test]
fn the_end_reaches_everything() {
    let now = Instant::now();
    let mut queue = Queue::new(settings(1, Duration::ZERO));
    let mut pending: Vec<_> = (0..50).map(|number| push(&mut queue, &record(number), now)).collect();
    let sealed = take(&mut queue, now).unwrap();
    queue.sent(sealed);
    queue.end(&PublishError::Closed);
    assert!(pending.iter_mut().all(|pending| matches!(ready(pending), Some(Err(PublishError::Closed)))));
    assert!(queue.push(None, &record(0), 1, now).is_err());
    assert!(queue.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Push(Option<u8>),
    Send,
    Accept,
    RefuseForNow,
    Disconnect,
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => proptest::option::of(0u8..4).prop_map(Step::Push),
        3 => Just(Step::Send),
        3 => Just(Step::Accept),
        1 => Just(Step::RefuseForNow),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

/// A broker that stores what it gets; answers may be lost on the way.
#[derive(Default)]
struct Model {
    logs: std::collections::BTreeMap<u32, Vec<u64>>,
    /// In flight to us: what was sent and what the broker will say.
    on_the_way: VecDeque<Sealed>,
}

impl Model {
    fn store(&mut self, batch: &Sealed) -> Answer<Receipt> {
        let log = self.logs.entry(batch.partition).or_default();
        let base = log.len() as u64;
        for record in batch.batch.view().records() {
            log.push(u64::from_le_bytes(record.payload.unwrap().try_into().unwrap()));
        }
        receipt(batch, base)
    }
}

fn copy(sealed: &Sealed) -> Sealed {
    Sealed {
        partition: sealed.partition,
        batch: sealed.batch.clone(),
        outcome: sealed.outcome.clone(),
        cost: sealed.cost,
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_order_is_kept(steps in steps(), linger_ms in 0u64..3, lossy in any::<bool>()) {
        let mut now = Instant::now();
        let mut queue = Queue::new(settings(3, Duration::from_millis(linger_ms)));
        let mut model = Model::default();
        let mut pending = Vec::new();
        let mut refusals = false;
        let (mut charged, mut returned) = (0, 0);
        let drain = std::iter::repeat_n([Step::Wait, Step::Send, Step::Accept], 400).flatten();
        let count = steps.len();
        for (at, step) in steps.into_iter().chain(drain).enumerate() {
            if at == count {
                queue.close_down();
            }
            match step {
                Step::Push(key) => {
                    let mut new = record(pending.len() as u64);
                    new.key = key.map(|key| Bytes::from(vec![key]));
                    charged += alone_bytes(&new);
                    pending.push(push(&mut queue, &new, now));
                }
                Step::Send => {
                    if let Some(sealed) = take(&mut queue, now) {
                        prop_assert!(model.on_the_way.len() < 4);
                        model.on_the_way.push_back(copy(&sealed));
                        queue.sent(sealed);
                    }
                }
                Step::Accept => {
                    if let Some(batch) = model.on_the_way.pop_front() {
                        let receipt = model.store(&batch);
                        returned += answer(&mut queue, receipt, now).unwrap();
                    }
                }
                Step::RefuseForNow => {
                    if model.on_the_way.pop_front().is_some() {
                        refusals = true;
                        returned += answer(&mut queue, refusal(true), now).unwrap();
                    }
                }
                Step::Disconnect => {
                    // Some of what was on the way arrived; its receipts are lost.
                    for batch in std::mem::take(&mut model.on_the_way) {
                        if lossy {
                            let _ = model.store(&batch);
                        }
                    }
                    queue.disconnected();
                }
                Step::Wait => now += Duration::from_millis(100),
            }
        }
        prop_assert!(queue.is_empty());
        prop_assert!(matches!(queue.next(now), Next::Done));
        prop_assert_eq!(charged, returned);
        for (number, pending) in pending.iter_mut().enumerate() {
            let receipt = ready(pending).expect("all is answered").expect("and accepted");
            let stored = model.logs[&receipt.partition][usize::try_from(receipt.offset).unwrap()];
            prop_assert_eq!(stored, number as u64, "a receipt names its own record");
        }
        for log in model.logs.values().filter(|_| !refusals) {
            let mut seen = std::collections::BTreeSet::new();
            let first: Vec<_> = log.iter().filter(|number| seen.insert(**number)).collect();
            prop_assert!(first.is_sorted(), "{:?}", log);
        }
    }
}

//! The queue against a model broker: nothing is lost, order is kept, refusals reach their record.

use std::{future::Future, pin::pin, task::Context};

use bytes::Bytes;
use millstream_types::{Unstored, UnstoredRecords};
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
        producer: ProducerId { id: 1, epoch: 0 },
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
    Answer::Ok(Receipt {
        partition: batch.partition,
        base_offset,
        records,
        timestamp: 1,
        offsets: [].into(),
        unstored: UnstoredRecords::default(),
    })
}

fn refusal(retryable: bool) -> Answer<Receipt> {
    Answer::Err(WireError { retryable, ..WireError::passing(ErrorCode::Unavailable, "not now") })
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
    let stored = Receipt {
        partition: 0,
        base_offset: 0,
        records: 1,
        timestamp: 1,
        offsets: [].into(),
        unstored: UnstoredRecords::default(),
    };
    assert!(answer(&mut queue, Answer::Ok(stored), now).is_some());
    assert_eq!(take(&mut queue, now).unwrap().batch.view().len(), 6);
}

#[test]
fn each_record_gets_its_own_answer_and_others_go_on() {
    let now = Instant::now();
    let mut queue = Queue::new(settings(1, Duration::from_millis(5)));
    let mut pending: Vec<_> = (0..5).map(|number| push(&mut queue, &record(number), now)).collect();
    drop(queue.flush());
    let sealed = take(&mut queue, now).unwrap();
    queue.sent(sealed);
    let (module, text) = ("m@1".to_owned(), "no".to_owned());
    let unstored = UnstoredRecords::collect([
        (0, Unstored::Rejected { module: module.clone(), reason: text.clone() }),
        (2, Unstored::Dropped),
        (3, Unstored::Faulted { module, cause: text }),
    ]);
    let stored =
        Receipt { partition: 0, base_offset: 70, records: 5, timestamp: 1, offsets: [].into(), unstored };
    assert!(answer(&mut queue, Answer::Ok(stored), now).is_some());
    let told: Vec<_> = pending.iter_mut().map(|pending| ready(pending).unwrap()).collect();
    let place = |told: &Result<RecordReceipt, _>| told.as_ref().map(|told| (told.offset, told.dropped)).ok();
    assert_eq!(
        told.iter().map(place).collect::<Vec<_>>(),
        [None, Some((70, false)), Some((71, true)), None, Some((71, false))]
    );
    assert!(
        matches!(&told[0], Err(PublishError::Rejected { module, reason }) if (module.as_str(), reason.as_str()) == ("m@1", "no"))
    );
    assert!(matches!(&told[3], Err(PublishError::Faulted { .. })));
    let counts = queue.counts();
    assert_eq!((counts.records, counts.dropped, counts.rejected, counts.failed_batches), (2, 1, 2, 0));
    assert!(matches!(queue.take_failure(), Some(PublishError::Rejected { .. })));
    // The next goes on with the sequence.
    drop(push(&mut queue, &record(5), now));
    drop(queue.flush());
    assert_eq!(take(&mut queue, now).unwrap().batch.view().producer().sequence, 5);
}

#[test]
fn a_broker_that_asks_for_time_gets_it() {
    let now = Instant::now();
    let mut queue = Queue::new(settings(1, Duration::ZERO));
    drop(push(&mut queue, &record(0), now));
    let sealed = take(&mut queue, now).unwrap();
    queue.sent(sealed);
    let later =
        WireError { retry_after_ms: Some(7_000), ..WireError::passing(ErrorCode::ModuleFault, "later") };
    assert_eq!(answer(&mut queue, Answer::Err(later), now), Some(0));
    assert!(matches!(queue.next(now), Next::At(at) if at == now + Duration::from_secs(7)));
    assert!(take(&mut queue, now + Duration::from_secs(7)).is_some());
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

#[test]
fn behind_a_batch_that_is_given_up_the_producer_begins_anew() {
    let now = Instant::now();
    let mut queue = Queue::new(settings(1, Duration::ZERO));
    let mut pending: Vec<_> = (0..60).map(|number| push(&mut queue, &record(number), now)).collect();
    drop(queue.flush());
    let marks = |queue: &mut Queue| {
        let sealed = take(queue, now)?;
        let stamp = sealed.batch.view().producer();
        queue.sent(sealed);
        Some((stamp.id, stamp.sequence))
    };
    let first = marks(&mut queue).unwrap();
    let second = marks(&mut queue).unwrap();
    assert_eq!((first, second.0), ((1, 0), 1));
    assert!(second.1 > 0);
    assert!(answer(&mut queue, refusal(false), now).is_some());
    assert!(matches!(queue.next(now), Next::Idle), "the second is not answered");
    // Its outcome is unknown: it goes again as it was, under the old identity.
    queue.disconnected();
    assert_eq!(queue.identity(), (ProducerId { id: 1, epoch: 0 }, false));
    assert_eq!(marks(&mut queue), Some(second));
    assert!(matches!(queue.next(now), Next::Idle), "nothing else before it is answered");
    let gap = WireError::passing(ErrorCode::OutOfSequence, "a batch is missing");
    assert!(answer(&mut queue, Answer::Err(gap), now).is_some());
    assert!(matches!(queue.next(now), Next::Renew));
    assert_eq!(queue.identity(), (ProducerId { id: 1, epoch: 0 }, true));
    queue.opened(ProducerId { id: 2, epoch: 0 });
    assert_eq!(marks(&mut queue), Some((2, 0)));
    assert!(marks(&mut queue).is_some_and(|(id, sequence)| id == 2 && sequence > 0));
    assert!(matches!(ready(&mut pending[0]), Some(Err(PublishError::Refused(_)))));
}

#[derive(Debug, Clone)]
enum Step {
    Push(Option<u8>),
    Send,
    Accept,
    RefuseForNow,
    RefuseForGood,
    Disconnect,
    /// The broker forgets all producers.
    Forget,
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => proptest::option::of(0u8..4).prop_map(Step::Push),
        3 => Just(Step::Send),
        3 => Just(Step::Accept),
        1 => Just(Step::RefuseForNow),
        1 => Just(Step::RefuseForGood),
        2 => Just(Step::Disconnect),
        1 => Just(Step::Forget),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

/// A broker that appends each batch once; answers may be lost on the way.
#[derive(Default)]
struct Model {
    logs: std::collections::BTreeMap<u32, Vec<u64>>,
    /// Next number, and base offset by number, of each producer in each partition.
    producers: std::collections::BTreeMap<(u32, u64), (u32, std::collections::BTreeMap<u32, u64>)>,
    /// In flight to us: what was sent and what the broker will say.
    on_the_way: VecDeque<Sealed>,
}

impl Model {
    fn store(&mut self, batch: &Sealed) -> Answer<Receipt> {
        let view = batch.batch.view();
        let stamp = view.producer();
        let (next, known) = self.producers.entry((batch.partition, stamp.id)).or_default();
        if stamp.sequence < *next {
            return receipt(batch, known[&stamp.sequence]);
        }
        if stamp.sequence > *next {
            return Answer::Err(WireError::passing(ErrorCode::OutOfSequence, "a batch is missing"));
        }
        let log = self.logs.entry(batch.partition).or_default();
        let base = log.len() as u64;
        known.insert(stamp.sequence, base);
        *next += u32::try_from(view.len()).unwrap();
        log.extend(view.records().map(|it| u64::from_le_bytes(it.payload.unwrap().try_into().unwrap())));
        receipt(batch, base)
    }
}

fn copy(sealed: &Sealed) -> Sealed {
    Sealed {
        rank: sealed.rank,
        partition: sealed.partition,
        batch: sealed.batch.clone(),
        mark: sealed.mark,
        outcome: sealed.outcome.clone(),
        cost: sealed.cost,
    }
}

proptest! {
    #[test]
    fn each_record_is_stored_once_and_in_order(steps in steps(), linger_ms in 0u64..3, lossy in any::<bool>()) {
        let mut now = Instant::now();
        let mut queue = Queue::new(settings(3, Duration::from_millis(linger_ms)));
        let mut model = Model::default();
        let mut pending = Vec::new();
        let mut identities = 1;
        let (mut charged, mut returned) = (0, 0);
        let drain = std::iter::repeat_n([Step::Wait, Step::Send, Step::Accept], 600).flatten();
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
                Step::Send => match queue.next(now) {
                    Next::Send(unsent) => {
                        let sealed = unsent.seal().unwrap();
                        prop_assert!(model.on_the_way.len() < 4);
                        model.on_the_way.push_back(copy(&sealed));
                        queue.sent(sealed);
                    }
                    Next::Renew => {
                        prop_assert!(model.on_the_way.is_empty() && queue.identity().1);
                        identities += 1;
                        queue.opened(ProducerId { id: identities, epoch: 0 });
                    }
                    _ => {}
                }
                Step::Accept => {
                    if let Some(batch) = model.on_the_way.pop_front() {
                        let receipt = model.store(&batch);
                        returned += answer(&mut queue, receipt, now).unwrap();
                    }
                }
                Step::RefuseForNow | Step::RefuseForGood => {
                    if let Some(batch) = model.on_the_way.pop_front() {
                        // What is stored already is never refused.
                        let stored = model.producers.get(&(batch.partition, batch.mark.stamp.id));
                        let again = stored.is_some_and(|(next, _)| batch.mark.stamp.sequence < *next);
                        let said = match again {
                            true => model.store(&batch),
                            false => refusal(matches!(step, Step::RefuseForNow)),
                        };
                        returned += answer(&mut queue, said, now).unwrap();
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
                    if queue.identity().1 {
                        identities += 1;
                        queue.opened(ProducerId { id: identities, epoch: 0 });
                    }
                }
                // As after a long time: not while something of the producer is in doubt.
                Step::Forget if model.on_the_way.is_empty() && !queue.identity().1 && !queue.in_doubt() => {
                    model.producers.clear();
                }
                Step::Forget => {}
                Step::Wait => now += Duration::from_millis(100),
            }
        }
        prop_assert!(queue.is_empty());
        prop_assert!(matches!(queue.next(now), Next::Done));
        prop_assert_eq!(charged, returned);
        let mut stored_once = std::collections::BTreeSet::new();
        for log in model.logs.values() {
            prop_assert!(log.is_sorted(), "{:?}", log);
            prop_assert!(log.iter().all(|number| stored_once.insert(*number)), "stored twice: {:?}", log);
        }
        for (number, pending) in pending.iter_mut().enumerate() {
            match ready(pending).expect("all is answered") {
                Ok(receipt) => {
                    let stored = model.logs[&receipt.partition][usize::try_from(receipt.offset).unwrap()];
                    prop_assert_eq!(stored, number as u64, "a receipt names its own record");
                }
                Err(PublishError::Refused(_) | PublishError::GaveUp { .. }) => {
                    prop_assert!(!stored_once.contains(&(number as u64)), "refused for good, and stored");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

//! What a record and a message id take in memory.

use millstream_types::{BatchBuilder, DeliveryConfig, DeliveryMode, Record};

use super::*;

/// Heap bytes a record, of what `fill` makes of so many.
fn bytes_a_record<T>(records: usize, fill: impl FnOnce() -> T) -> f64 {
    let before = dhat::HeapStats::get().curr_bytes;
    let filled = fill();
    let bytes = dhat::HeapStats::get().curr_bytes - before;
    drop(filled);
    bytes as f64 / records as f64
}

const BATCHES: u64 = 200;
const EACH: u64 = 500;

/// Heap bytes a record that is leased by `mode`, so many of a key.
fn bytes_leased(mode: DeliveryMode, of_a_key: u64) -> f64 {
    let _profiler = dhat::Profiler::builder().testing().build();
    let record = |offset: u64| Record::new("x").with_key(format!("{}", offset / of_a_key));
    let payloads: Vec<_> = (0..BATCHES)
        .map(|n| {
            let mut builder = BatchBuilder::new().with_stamp(n * EACH, 0);
            (n * EACH..(n + 1) * EACH).for_each(|offset| builder.push(&record(offset)).unwrap());
            builder.build().unwrap()
        })
        .collect();
    let bytes = bytes_a_record((BATCHES * EACH) as usize, || {
        let mut group = Group::new(DeliveryConfig::of(mode), vec![PartitionCursor::default()]);
        for _ in 0..4 {
            group.join(Window { records: 1_000_000, bytes: 1 << 40 }).unwrap();
        }
        for (n, batch) in payloads.iter().enumerate() {
            let next = (n as u64 + 1) * EACH;
            let moment = Moment { ms: 1, wall: 1, chance: 0.5 };
            assert_eq!(group.place(0, &batch.view(), 0, next, false, moment).upto as u64, EACH);
        }
        assert_eq!(group.counts(0), (BATCHES * EACH, 0));
        group
    });
    println!("{bytes:.1} bytes a leased record, {mode}, {of_a_key} of a key");
    bytes
}

#[test]
fn a_leased_record_takes_at_most_64_bytes() {
    for (mode, of_a_key) in [
        (DeliveryMode::Shared, 1),
        (DeliveryMode::Failover, 1),
        (DeliveryMode::KeyShared, 100),
        (DeliveryMode::KeyShared, 10),
        (DeliveryMode::KeyShared, 1),
    ] {
        let bytes = bytes_leased(mode, of_a_key);
        assert!(bytes <= 64.0, "{bytes:.1} bytes a leased record, {mode}, {of_a_key} of a key");
    }
}

/// So many ids that their table has just grown, each in a batch of its own or many together.
#[test]
fn a_message_id_takes_at_most_64_bytes() {
    const RECORDS: usize = 116_000;
    for each in [1, 500] {
        let _profiler = dhat::Profiler::builder().testing().build();
        let batches: Vec<_> = (0..RECORDS / each)
            .map(|n| {
                let mut builder = BatchBuilder::new();
                for k in 0..each {
                    let message_id = Some(format!("order-{n}-{k}").into());
                    builder.push(&Record { message_id, ..Record::new("x") }).unwrap();
                }
                builder.build().unwrap()
            })
            .collect();
        let bytes = bytes_a_record(RECORDS, || {
            let mut ids = crate::message_ids::MessageIds::new(120_000);
            for (n, batch) in batches.iter().enumerate() {
                assert!(ids.appended(batch, (n * each) as u64, 1).is_empty());
            }
            ids
        });
        println!("{bytes:.1} bytes a message id, {each} in a batch");
        assert!(bytes <= 64.0, "{bytes:.1} bytes a message id, {each} in a batch");
    }
}

/// Counts what tests ask it to count, and is the system's otherwise.
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

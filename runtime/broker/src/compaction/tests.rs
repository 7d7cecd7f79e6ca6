//! What compaction leaves, against a plain model; and a broker whose thread does it.

use std::{collections::BTreeMap, num::NonZeroU64};

use millstream_store::{Options, Persist};
use millstream_types::{
    BatchBuilder, Check, Compression, Record, RecordBatch, Retention, TopicChange, TopicConfig, TopicName,
};
use proptest::prelude::*;

use super::{pass::CLOCK_JUMP_MS, *};
use crate::{
    Limits,
    recover::recover,
    retention::{Oldest, cut, offset_at_time},
};

const PARTITION: PartitionId = PartitionId(0);
const TOMBSTONES_MS: u64 = 100;

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

/// A record to be: its key, if it has one, and its bytes, if it is no tombstone.
type Wanted = (Option<u8>, Option<usize>, bool);

#[derive(Debug, Clone)]
enum Act {
    Append { records: Vec<Wanted>, compression: Compression, later: Timestamp },
    Step { later: Timestamp },
    Retain(Retention),
    Set(bool),
    Reclaim,
    Restart,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (
        prop::option::weighted(0.9, 0..12u8),
        prop::option::weighted(0.8, 1..200usize),
        prop::bool::weighted(0.05),
    )
}

fn act() -> impl Strategy<Value = Act> {
    let compression =
        prop::sample::select(vec![Compression::None, Compression::None, Compression::Lz4, Compression::Zstd]);
    let append = (prop::collection::vec(wanted(), 1..8), compression, 0..30i64);
    let limit =
        |max: u64| prop::option::weighted(0.5, (1..max).prop_map(|limit| NonZeroU64::new(limit).unwrap()));
    let retention =
        (limit(2_000), limit(30)).prop_map(|(bytes, records)| Retention { age_ms: None, bytes, records });
    prop_oneof![
        10 => append.prop_map(|(records, compression, later)| Act::Append { records, compression, later }),
        12 => (0..30i64).prop_map(|later| Act::Step { later }),
        1 => retention.prop_map(Act::Retain),
        1 => any::<bool>().prop_map(Act::Set),
        1 => Just(Act::Reclaim),
        1 => Just(Act::Restart),
    ]
}

fn batch_of(records: &[Wanted], compression: Compression, next: Offset) -> RecordBatch {
    let mut builder = BatchBuilder::new().with_compression(compression);
    for ((key, bytes, identified), offset) in records.iter().zip(next..) {
        let payload = bytes.map(|bytes| {
            let mut payload = offset.to_be_bytes().to_vec();
            payload.resize(8 + bytes, b'x');
            payload.into()
        });
        let key = key.map(|key| vec![key].into());
        let message_id = identified.then(|| offset.to_string().into());
        builder.push(&Record { key, payload, message_id, ..Record::default() }).unwrap();
    }
    builder.build().unwrap()
}

fn apply(shard: &mut Shard, store: &Store, command: Command) -> Result<Outcome, Error> {
    let mut batch = store.batch();
    let result = shard.apply(command, &mut batch, &mut Vec::new()).result;
    store.commit(batch, Persist::Buffer).unwrap();
    result
}

fn stored(store: &Store) -> Vec<RecordBatch> {
    let batches = store.read(PARTITION, 0, Offset::MAX, usize::MAX).unwrap();
    let batches = batches.into_iter().map(|stored| {
        let batch = RecordBatch::new(stored.bytes, Check::Full).unwrap();
        assert_eq!(batch.view().base_offset(), stored.base_offset);
        batch
    });
    batches.collect()
}

fn records(batches: &[RecordBatch]) -> Vec<Record> {
    let plain = batches.iter().map(|batch| batch.decompressed().unwrap());
    plain
        .flat_map(|batch| batch.view().records().map(|record| record.to_record()).collect::<Vec<_>>())
        .collect()
}

/// What was appended, by offset.
type Model = BTreeMap<Offset, Record>;

/// What there is, is as it was appended; what there is not may go.
fn check(store: &Store, model: &Model, newest_batch: Offset, now: Timestamp) {
    let row = store.partition(PARTITION).unwrap();
    let batches = stored(store);
    let kept = records(&batches);
    assert_eq!(row.bytes, batches.iter().map(|batch| batch.as_bytes().len() as u64).sum::<u64>());
    assert_eq!(row.records(), kept.len() as u64, "{row:?}");
    for time in [0, 1_000, now - 40, now - 5, now + 1] {
        let within = row.low_watermark..newest_batch.max(row.low_watermark);
        let found = offset_at_time(store, PARTITION, within.clone(), time).unwrap();
        let view = |batch: &RecordBatch| (batch.view().timestamp(), batch.view().next_offset());
        assert!(
            kept.iter().all(|record| record.offset >= found || record.timestamp < time),
            "{found} for {time}"
        );
        let late =
            batches.iter().map(view).filter(|(timestamp, next)| *timestamp < time && *next <= within.end);
        assert!(late.map(|(_, next)| next).max().unwrap_or(0) <= found, "{found} for {time}");
    }
    let kept: Model = kept.into_iter().map(|record| (record.offset, record)).collect();
    let mut behind: BTreeMap<&[u8], Vec<Offset>> = BTreeMap::new();
    for (&offset, record) in model.range(row.low_watermark..).rev() {
        let is_kept = kept.get(&offset);
        assert!(is_kept.is_none_or(|kept| kept == record), "{is_kept:?} for {record:?}");
        let is_kept = is_kept.is_some();
        let Some(key) = record.key.as_deref() else {
            assert!(is_kept, "{record:?} has no key");
            continue;
        };
        let newer = behind.entry(key).or_default();
        let old_tombstone = record.payload.is_none() && now - record.timestamp >= TOMBSTONES_MS as i64;
        let may_go = offset < newest_batch && (!newer.is_empty() || old_tombstone);
        assert!(is_kept || may_go, "{record:?} is gone");
        // An older one does not come to light again.
        let newest_is_gone = newer.first().is_some_and(|newest| !kept.contains_key(newest));
        assert!(!(is_kept && newest_is_gone), "{record:?} is kept, but not what deleted it");
        // A pass leaves nothing to do.
        assert!(!is_kept || offset >= row.compacted || newer.iter().all(|newer| *newer >= row.compacted));
        newer.push(offset);
    }
    assert!(kept.range(..row.low_watermark).next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]
    /// Appends, steps of passes, retention, changes of settings and restarts in any order.
    #[test]
    fn the_newest_of_each_key_stays(
        acts in prop::collection::vec(act(), 1..100),
        keys in 8..14usize,
        step_bytes in 100..3_000usize,
        joined_bytes in 100..1_000usize,
        large_bytes in 50..800usize,
    ) {
        let rest = (Duration::ZERO, 0);
        let bounds = Bounds { keys, step_bytes, joined_bytes, large_bytes, rest };
        let dir = tempfile::tempdir().unwrap();
        let options = Options { reclaim_bytes_min: 1, ..Options::default() };
        let (mut store, _) = Store::open(dir.path(), &options).unwrap();
        let mut shard = recover(&store, Limits::default()).unwrap();
        let compaction = Compaction { enabled: true, tombstones_ms: TOMBSTONES_MS };
        let config = TopicConfig { compaction, dedup_window_ms: 0, ..TopicConfig::default() };
        apply(&mut shard, &store, Command::CreateTopic { name: topic(), config, now: 1 }).unwrap();
        let mut catalog = Catalog::of(&shard);
        let begin = |store: &Store| Compactor { bounds, ..Compactor::new(store.clone()) };
        let mut compactor = begin(&store);
        let (mut model, mut next, mut newest_batch, mut now) = (Model::new(), 0, 0, 1_000);
        for act in acts {
            match act {
                Act::Append { records: wanted, compression, later } => {
                    now += later;
                    let batch = batch_of(&wanted, compression, next);
                    let appended = records(&[batch.clone().stamped(next, now)]);
                    model.extend(appended.into_iter().map(|record| (record.offset, record)));
                    newest_batch = next;
                    next += wanted.len() as u64;
                    apply(&mut shard, &store, Command::Append { partition: PARTITION, batch, now }).unwrap();
                }
                Act::Step { later } => {
                    now += later;
                    compactor.look(&catalog, now);
                    compactor.step(now, |command| apply(&mut shard, &store, command)).unwrap();
                }
                Act::Retain(retention) => {
                    let changes = vec![
                        TopicChange::RetentionAgeMs(retention.age_ms),
                        TopicChange::RetentionBytes(retention.bytes),
                        TopicChange::RetentionRecords(retention.records),
                    ];
                    apply(&mut shard, &store, Command::UpdateTopic { name: topic(), changes }).unwrap();
                    let (before, kept) = (store.partition(PARTITION).unwrap(), records(&stored(&store)));
                    if let Some(cut) = cut(&store, PARTITION, retention, now, &mut Oldest::new()).unwrap() {
                        let crate::retention::Cut { from, to, freed_bytes, freed_holes, .. } = cut;
                        let raise =
                            Command::RaiseLowWatermark { partition: PARTITION, retention, from, to, freed_bytes, freed_holes };
                        apply(&mut shard, &store, raise).unwrap();
                        let row = store.partition(PARTITION).unwrap();
                        let by_records = retention.records.is_some_and(|keep| row.records() >= keep.get());
                        let by_bytes = retention.bytes.is_some_and(|keep| row.bytes >= keep.get());
                        let mut gone = kept.iter().filter(|record| record.offset < to);
                        let by_age = retention.age_ms.is_some_and(|age| {
                            gone.all(|record| now - record.timestamp > age.get().cast_signed())
                        });
                        prop_assert!(by_records || by_bytes || by_age, "{:?} of {:?} left {:?}", cut, before, row);
                    } else {
                        let single = before.newest.unwrap_or(0) <= before.low_watermark;
                        let spare = retention.records.is_some_and(|keep| before.records() > keep.get() + 8)
                            && before.holes == 0;
                        prop_assert!(single || !spare, "{:?} lets nothing of {:?} go", retention, before);
                    }
                }
                Act::Set(enabled) => {
                    let changes = vec![TopicChange::Compact(enabled)];
                    apply(&mut shard, &store, Command::UpdateTopic { name: topic(), changes }).unwrap();
                    catalog = Catalog::of(&shard);
                }
                Act::Reclaim => drop(store.reclaim().unwrap()),
                Act::Restart => {
                    drop((store, compactor));
                    store = Store::open(dir.path(), &options).unwrap().0;
                    shard = recover(&store, Limits::default()).unwrap();
                    (catalog, compactor) = (Catalog::of(&shard), begin(&store));
                }
            }
            check(&store, &model, newest_batch, now);
        }
        // In the end all of it is compacted: as much as it may be.
        apply(&mut shard, &store, Command::UpdateTopic { name: topic(), changes: vec![TopicChange::Compact(true)] }).unwrap();
        catalog = Catalog::of(&shard);
        compactor = begin(&store);
        let mut turns = 0;
        loop {
            compactor.look(&catalog, now);
            if !compactor.is_busy() {
                break;
            }
            compactor.step(now, |command| apply(&mut shard, &store, command)).unwrap();
            check(&store, &model, newest_batch, now);
            turns += 1;
            prop_assert!(turns < 1_000, "a pass brings about another");
        }
    }
}

/// Message ids are looked up in the batches when the broker starts: those stay as long as they are remembered.
#[test]
fn records_with_message_ids_stay_while_those_count() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
    let mut shard = recover(&store, Limits::default()).unwrap();
    let compaction = Compaction { enabled: true, ..Compaction::default() };
    let config = TopicConfig { compaction, dedup_window_ms: 1_000, ..TopicConfig::default() };
    apply(&mut shard, &store, Command::CreateTopic { name: topic(), config, now: 0 }).unwrap();
    let identified = |id: &'static str| {
        let mut builder = BatchBuilder::new();
        builder.push(&Record { message_id: Some(id.into()), ..Record::new(id).with_key("k") }).unwrap();
        builder.build().unwrap()
    };
    let append = |shard: &mut Shard, id, now| {
        let command = Command::Append { partition: PARTITION, batch: identified(id), now };
        match apply(shard, &store, command) {
            Ok(Outcome::Appended(appended)) => appended.base_offset,
            other => panic!("{other:?}"),
        }
    };
    for (id, offset) in ["a", "b", "c"].into_iter().zip(0..) {
        assert_eq!(append(&mut shard, id, 10), offset);
    }
    let pass = |shard: &mut Shard, now| {
        let mut compactor = Compactor::new(store.clone());
        compactor.look(&Catalog::of(shard), now);
        for _ in 0..10 {
            compactor.step(now, |command| apply(shard, &store, command)).unwrap();
        }
        assert!(!compactor.is_busy());
        stored(&store).len()
    };
    let remembered_ms = 1_000 + Timestamp::try_from(CLOCK_JUMP_MS).unwrap();
    assert_eq!(pass(&mut shard, 10 + remembered_ms - 1), 3);
    let mut again = recover(&store, Limits::default()).unwrap();
    assert_eq!(append(&mut again, "a", 20), 0, "it was appended before");
    assert_eq!(pass(&mut shard, 10 + remembered_ms), 1);
    assert_eq!(store.scan::<IdentifiedBatch>().count(), 1, "that of the newest batch");
    let mut again = recover(&store, Limits::default()).unwrap();
    assert_eq!(append(&mut again, "c", 20), 2);
    assert_eq!(append(&mut again, "a", 20), 3, "nobody remembers it");
}

/// A fetch that was begun before batches were joined across its end brings nothing from behind it: the next one does.
#[test]
fn a_fetch_ends_where_it_was_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
    let mut shard = recover(&store, Limits::default()).unwrap();
    apply(&mut shard, &store, Command::CreateTopic { name: topic(), config: TopicConfig::default(), now: 0 })
        .unwrap();
    let batch = batch_of(&[(Some(1), Some(1), false); 10], Compression::Lz4, 0);
    apply(&mut shard, &store, Command::Append { partition: PARTITION, batch, now: 0 }).unwrap();
    let topic = Catalog::of(&shard).topic(&topic()).unwrap();
    for (from, end) in [(0, 10), (0, 4), (3, 7), (9, 10)] {
        let place = crate::Place::of_one(&topic, 0).unwrap();
        let source = crate::fetch::Source { place, from, end, judged_bytes: 0 };
        let fetched = crate::fetch::plain(&store, &source, usize::MAX).unwrap();
        let offsets = fetched.steps.iter().flat_map(|step| match step {
            crate::reading::Step::Batch { batch, .. } => records(std::slice::from_ref(batch)),
            other => panic!("{other:?}"),
        });
        assert!(offsets.map(|record| record.offset).eq(from..end));
        assert_eq!(fetched.next, end);
    }
}

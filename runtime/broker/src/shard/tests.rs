//! The shard against a plain model: whatever comes, offsets are dense, refusals change nothing, and what a store gives
//! back after a restart is what was there before.

use std::collections::BTreeMap;

use millstream_store::{Batch, ModuleBlob, Options, Persist, Store};
use millstream_types::{ModuleName, Offset, PartitionId, ProducerId, ProducerName, TopicConfig};
use proptest::prelude::*;

use self::model::{
    CursorModel, Cursors, Model, STOCK, batch_of, model, module_name, subscription_name, topic_name,
};
use super::{Effect, Shard};
use crate::{
    Error, Limits,
    command::{Command, Outcome},
    recover::recover,
    rows::ModuleRow,
};

mod model;

/// A command, with names and partitions as small numbers so that they often meet.
#[derive(Debug, Clone)]
enum Act {
    Create {
        topic: u8,
        partitions: u32,
        interval: bool,
    },
    Delete {
        topic: u8,
    },
    Append {
        topic: u8,
        partition: u32,
        records: usize,
    },
    /// To two partitions, both or none.
    AppendAll {
        to: [(u8, u32, usize); 2],
    },
    /// A producer's next batch, one it sent before, or one that comes too early.
    Produce {
        topic: u8,
        partition: u32,
        producer: u8,
        records: usize,
        back: u8,
        ahead: bool,
    },
    Rename {
        producer: u8,
    },
    Subscribe {
        name: u8,
        topic: u8,
        module: Bound,
    },
    Unsubscribe {
        name: u8,
    },
    Settle {
        name: u8,
        partition: u32,
        from: Offset,
        to: Offset,
        tried: Option<Offset>,
    },
    DeadLetter {
        name: u8,
        offset: Offset,
        sink: u8,
    },
    /// A letter of `name` is closed, and a record of `source` is to be delivered again.
    Close {
        name: u8,
        letter: Offset,
        source: Option<(u8, Offset)>,
        unrouted: bool,
    },
    Route {
        name: u8,
        from: Offset,
        len: Offset,
        sink: u8,
        /// A record that may lie before.
        again: Option<Offset>,
    },
    PutModule {
        name: Option<u8>,
        content: u8,
    },
    DeleteModule {
        name: u8,
    },
    /// An ephemeral subscription binds a module.
    Hold {
        holder: u8,
        module: Bound,
    },
    Release {
        holder: u8,
    },
    /// Sets or lifts a limit of retention.
    Update {
        topic: u8,
        records: u64,
    },
    /// Lets records go: as it was decided under the topic's retention and low watermark, or under others.
    Raise {
        topic: u8,
        partition: u32,
        by: Offset,
        stale: bool,
    },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..3u8, 1..4u32, any::<bool>()).prop_map(|(topic, partitions, interval)| Act::Create { topic, partitions, interval }),
        1 => (0..3u8).prop_map(|topic| Act::Delete { topic }),
        6 => (0..3u8, 0..4u32, 1..5usize).prop_map(|(topic, partition, records)| Act::Append { topic, partition, records }),
        3 => prop::array::uniform2((0..3u8, 0..4u32, 1..4usize)).prop_map(|to| Act::AppendAll { to }),
        6 => (0..3u8, 0..2u32, 0..2u8, 1..4usize, 0..4u8, proptest::bool::weighted(0.1)).prop_map(
            |(topic, partition, producer, records, back, ahead)| Act::Produce { topic, partition, producer, records, back, ahead }
        ),
        1 => (0..2u8).prop_map(|producer| Act::Rename { producer }),
        4 => (0..3u8, 0..4u8, bound()).prop_map(|(name, topic, module)| Act::Subscribe { name, topic, module }),
        1 => (0..3u8).prop_map(|name| Act::Unsubscribe { name }),
        5 => (0..3u8, 0..4u32, 0..20u64, 0..20u64, prop::option::of(0..20u64))
            .prop_map(|(name, partition, from, to, tried)| Act::Settle { name, partition, from, to, tried }),
        2 => (0..3u8, 0..20u64, 0..3u8).prop_map(|(name, offset, sink)| Act::DeadLetter { name, offset, sink }),
        2 => (0..3u8, 0..20u64, prop::option::of((0..3u8, 0..20u64)), any::<bool>())
            .prop_map(|(name, letter, source, unrouted)| Act::Close { name, letter, source, unrouted }),
        2 => (0..3u8, 0..10u64, 0..5u64, 0..3u8, prop::option::of(0..20u64))
            .prop_map(|(name, from, len, sink, again)| Act::Route { name, from, len, sink, again }),
        3 => (prop::option::of(0..2u8), 0..2u8).prop_map(|(name, content)| Act::PutModule { name, content }),
        2 => (0..2u8).prop_map(|name| Act::DeleteModule { name }),
        1 => (0..2u8, bound()).prop_map(|(holder, module)| Act::Hold { holder, module }),
        1 => (0..2u8).prop_map(|holder| Act::Release { holder }),
        1 => (0..3u8, 0..2u64).prop_map(|(topic, records)| Act::Update { topic, records }),
        3 => (0..3u8, 0..4u32, 0..6u64, proptest::bool::weighted(0.2)).prop_map(
            |(topic, partition, by, stale)| Act::Raise { topic, partition, by, stale }
        ),
        1 => Just(Act::Restart),
    ]
}

/// A module as it was looked up before it is bound, which may be gone since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Stock,
    Named { name: u8, content: u8 },
    Digest { content: u8 },
}

fn bound() -> impl Strategy<Value = Bound> {
    prop_oneof![
        2 => Just(Bound::Stock),
        2 => (0..2u8, 0..2u8).prop_map(|(name, content)| Bound::Named { name, content }),
        1 => (0..2u8).prop_map(|content| Bound::Digest { content }),
    ]
}

fn assert_agree(shard: &Shard, model: &Model) {
    let topics: Vec<_> = model.topics.keys().map(|topic| topic_name(*topic)).collect();
    assert_eq!(shard.topics.keys().cloned().collect::<Vec<_>>(), topics);
    for (topic, (config, ends)) in &model.topics {
        let row = &shard.topics[&topic_name(*topic)];
        assert_eq!(&row.config, config);
        let found: Vec<_> = row.partitions.iter().map(|id| shard.partitions[id].next).collect();
        assert_eq!(&found, ends, "topic {topic}");
        for id in &row.partitions {
            let state = &shard.partitions[id];
            assert_eq!(state.low, model.lows.get(id).copied().unwrap_or(0), "topic {topic}");
            assert_eq!(state.retention, config.retention, "topic {topic}");
            assert_eq!(state.compaction, config.compaction, "topic {topic}");
        }
    }
    assert_eq!(shard.partitions.len(), model.topics.values().map(|(_, ends)| ends.len()).sum::<usize>());
    assert_eq!(shard.subscriptions.len(), model.subscriptions.len());
    for state in shard.subscriptions.values() {
        let name =
            model.subscriptions.keys().find(|name| subscription_name(**name) == state.row.name).unwrap();
        let cursors: Cursors =
            state.cursors.iter().map(|(id, cursor)| (*id, CursorModel::of(cursor))).collect();
        assert!(state.cursors.is_sorted_by_key(|(id, _)| *id));
        assert_eq!(cursors, model.subscriptions[name].2, "subscription {name}");
    }
    let named = |rows: &BTreeMap<ModuleName, ModuleRow>| -> Vec<_> {
        rows.iter().map(|(name, row)| (name.clone(), row.sha256)).collect()
    };
    let wanted = |contents: &BTreeMap<u8, u8>| -> Vec<_> {
        contents.iter().map(|(name, content)| (module_name(*name), [*content; 32])).collect()
    };
    assert_eq!(named(&shard.modules.named), wanted(&model.modules));
    assert_eq!(named(&shard.modules.deleted), wanted(&model.deleted));
    assert_eq!(shard.modules.stored, model.contents.iter().map(|content| [*content; 32]).collect());
    let kept = |module: Bound| module == Bound::Stock || model.contents.contains(&module.content());
    assert!(model.bindings().all(kept), "what is bound is there");
    assert_eq!(shard.producers.len(), model.epochs.len());
    let found: BTreeMap<_, _> = shard
        .partitions
        .iter()
        .flat_map(|(id, state)| {
            state.producers.rows().into_iter().map(|(producer, row)| ((*id, producer), row))
        })
        .map(|(key, row)| (key, (row.epoch, row.next)))
        .collect();
    let wanted: BTreeMap<_, _> = model
        .produced
        .iter()
        .filter_map(|((id, producer), (epoch, batches))| {
            let (sequence, records, _) = batches.last()?;
            Some(((*id, 100 + u64::from(*producer)), (*epoch, sequence + records)))
        })
        .collect();
    assert!(wanted.iter().all(|(key, state)| found.get(key) == Some(state)), "{wanted:?} in {found:?}");
}

/// The shard as a broker has it that starts on `store`.
fn started(store: &Store) -> Shard {
    let mut shard = recover(store, Limits::default()).unwrap();
    shard.modules.stock.insert([STOCK; 32]);
    let mut batch = Batch::default();
    shard.drop_orphans(&mut batch);
    store.commit(batch, Persist::Buffer).unwrap();
    shard
}

/// Runs `acts`, with a store below when `store` is given; then restarts count.
fn run(acts: &[Act], store: Option<&Store>) -> Model {
    let mut shard = match store {
        Some(store) => started(store),
        None => Shard::default(),
    };
    shard.modules.stock.insert([STOCK; 32]);
    let mut expected = Model::default();
    for act in acts {
        let Some((command, accepted)) = model(&mut expected, &shard, act) else {
            if let Some(store) = store {
                shard = started(store);
                expected.restart();
                assert_agree(&shard, &expected);
                for content in shard.modules.stored.iter().map(|sha256| sha256[0]) {
                    let stored = store.get(&ModuleBlob([content; 32])).unwrap();
                    assert_eq!(stored.as_deref(), Some([content].as_slice()));
                }
            }
            continue;
        };
        let (mut batch, mut effects) = (Batch::default(), Vec::new());
        let applied = shard.apply(command, &mut batch, &mut effects);
        assert_eq!(applied.result.is_ok(), accepted, "{act:?} gave {:?}", applied.result);
        if !accepted {
            assert!(batch.is_empty() && effects.is_empty(), "a refusal changed something: {act:?}");
        }
        if let (Act::Produce { producer, .. }, Ok(Outcome::Appended(appended))) = (act, &applied.result) {
            let batches = expected.produced.values().flat_map(|(_, batches)| batches);
            let known = batches.filter(|(_, records, offset)| {
                (*records, *offset) == (appended.records, appended.base_offset)
            });
            assert!(known.count() > 0, "producer {producer} was told of another place: {appended:?}");
        }
        for effect in &effects {
            if let Effect::End { partition, end } = effect {
                assert!(shard.partitions[partition].next >= *end);
            }
        }
        shard.seal(&mut batch);
        if let Some(store) = store {
            store.commit(batch, Persist::Buffer).unwrap();
        }
        assert_agree(&shard, &expected);
    }
    expected
}

proptest! {
    #[test]
    fn agrees_with_the_model(acts in prop::collection::vec(act(), 1..80)) {
        let model = run(&acts, None);
        prop_assert!(model.topics.len() <= 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 30, ..ProptestConfig::default() })]
    #[test]
    fn a_restart_changes_nothing(acts in prop::collection::vec(act(), 20..120)) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
        let mut before = run(&acts, Some(&store));
        drop(store);
        // And from the directory alone.
        let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
        before.restart();
        assert_agree(&started(&store), &before);
    }
}

#[test]
fn timestamps_do_not_run_backwards() {
    let mut shard = Shard::default();
    let (mut batch, mut effects) = (Batch::default(), Vec::new());
    let config = TopicConfig::default();
    shard.apply(Command::CreateTopic { name: topic_name(0), config, now: 5 }, &mut batch, &mut effects);
    let mut append = |now| {
        let command = Command::Append { partition: PartitionId(0), batch: batch_of(1), now };
        match shard.apply(command, &mut batch, &mut effects).result {
            Ok(Outcome::Appended(appended)) => appended.timestamp,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([append(100), append(40), append(101)], [100, 100, 101]);
}

#[test]
fn timestamps_do_not_run_backwards_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
    let append = |shard: &mut Shard, now| {
        let (mut batch, mut effects) = (Batch::default(), Vec::new());
        let config = TopicConfig::default();
        let create = Command::CreateTopic { name: topic_name(0), config, now: 5 };
        shard.apply(create, &mut batch, &mut effects).result.unwrap();
        let command = Command::Append { partition: PartitionId(0), batch: batch_of(1), now };
        let result = shard.apply(command, &mut batch, &mut effects).result;
        store.commit(batch, Persist::Buffer).unwrap();
        match result {
            Ok(Outcome::Appended(appended)) => appended.timestamp,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(append(&mut recover(&store, Limits::default()).unwrap(), 100), 100);
    assert_eq!(append(&mut recover(&store, Limits::default()).unwrap(), 40), 100);
}

#[test]
fn limits_refuse_with_their_number() {
    let mut shard = Shard { limits: Limits { topics_max: 1, ..Limits::default() }, ..Shard::default() };
    let (mut batch, mut effects) = (Batch::default(), Vec::new());
    let mut create = |topic, partitions| {
        let config = TopicConfig { partitions, ..TopicConfig::default() };
        shard
            .apply(Command::CreateTopic { name: topic_name(topic), config, now: 5 }, &mut batch, &mut effects)
            .result
    };
    assert!(matches!(create(0, 2_000), Err(Error::Partitions { partitions: 2_000, .. })));
    assert!(matches!(create(0, 0), Err(Error::Partitions { partitions: 0, .. })));
    assert!(create(0, 1).is_ok());
    assert!(matches!(create(1, 1), Err(Error::LimitReached { what: "topics", found: 1 })));
}

#[test]
fn a_producer_that_was_replaced_cannot_begin_anew() {
    let mut shard = Shard::default();
    let (mut batch, mut effects) = (Batch::default(), Vec::new());
    let mut open = |resume, anew| {
        let name = ProducerName::new("orders").unwrap();
        let command = Command::OpenProducer { name, id: 7, resume, anew };
        match shard.apply(command, &mut batch, &mut effects).result {
            Ok(Outcome::Producer(producer)) => Ok(producer.epoch),
            Err(Error::ProducerFenced { epoch, .. }) => Err(epoch),
            other => panic!("{other:?}"),
        }
    };
    let of = |epoch| Some(ProducerId { id: 7, epoch });
    assert_eq!(open(None, false), Ok(0));
    assert_eq!([open(of(0), false), open(of(0), true)], [Ok(0), Ok(1)], "its own successor");
    assert_eq!(open(None, false), Ok(2), "another takes the name");
    assert_eq!([open(of(1), false), open(of(1), true)], [Err(2), Err(2)]);
}

//! The shard against a plain model: whatever comes, offsets are dense, refusals change nothing, and what a store gives
//! back after a restart is what was there before.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
};

use millstream_store::{Batch, Options, Persist, Store};
use millstream_types::{
    BatchBuilder, DeliveryConfig, Durability, ModuleName, Offset, OnFault, PartitionId, ProducerId,
    ProducerName, ProducerStamp, Record, RecordBatch, SubscriptionName, TopicChange, TopicConfig, TopicName,
};
use proptest::prelude::*;

use super::{Effect, PartitionCursor, Shard};
use crate::{
    Error, Limits,
    bindings::{Bindings, PinnedBinding},
    command::{Command, Letter, Outcome, Settlement},
    recover::recover,
    rows::{CursorRow, ModuleRow, SubscriptionRow, TriedRow},
};

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
        skip: bool,
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
    },
    Route {
        name: u8,
        from: Offset,
        len: Offset,
        sink: u8,
    },
    PutModule {
        name: u8,
        content: u8,
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
        2 => (0..3u8, 0..4u8, any::<bool>()).prop_map(|(name, topic, skip)| Act::Subscribe { name, topic, skip }),
        1 => (0..3u8).prop_map(|name| Act::Unsubscribe { name }),
        5 => (0..3u8, 0..4u32, 0..20u64, 0..20u64, prop::option::of(0..20u64))
            .prop_map(|(name, partition, from, to, tried)| Act::Settle { name, partition, from, to, tried }),
        2 => (0..3u8, 0..20u64, 0..3u8).prop_map(|(name, offset, sink)| Act::DeadLetter { name, offset, sink }),
        2 => (0..3u8, 0..20u64, prop::option::of((0..3u8, 0..20u64)))
            .prop_map(|(name, letter, source)| Act::Close { name, letter, source }),
        2 => (0..3u8, 0..10u64, 1..5u64, 0..3u8).prop_map(|(name, from, len, sink)| Act::Route { name, from, len, sink }),
        1 => (0..2u8, 0..2u8).prop_map(|(name, content)| Act::PutModule { name, content }),
        1 => (0..3u8, 0..2u64).prop_map(|(topic, records)| Act::Update { topic, records }),
        3 => (0..3u8, 0..4u32, 0..6u64, proptest::bool::weighted(0.2)).prop_map(
            |(topic, partition, by, stale)| Act::Raise { topic, partition, by, stale }
        ),
        1 => Just(Act::Restart),
    ]
}

/// The topic that a subscription reads which reads all.
const ALL: u8 = 3;

/// How far a subscription is in each partition.
type Cursors = BTreeMap<PartitionId, CursorModel>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct CursorModel {
    settled: BTreeSet<Offset>,
    routed: Offset,
    tried: BTreeSet<Offset>,
}

impl CursorModel {
    fn settle(&mut self, range: std::ops::Range<Offset>) {
        self.tried.retain(|offset| !range.contains(offset));
        self.settled.extend(range);
    }

    fn of(cursor: &PartitionCursor) -> Self {
        Self {
            settled: (0..40).filter(|offset| cursor.settled.contains(*offset)).collect(),
            routed: cursor.routed,
            tried: cursor.tried.keys().copied().collect(),
        }
    }
}

#[derive(Debug, Default)]
struct Model {
    /// Settings and ends of each topic's partitions.
    topics: BTreeMap<u8, (TopicConfig, Vec<Offset>)>,
    /// Low watermarks that are not 0.
    lows: BTreeMap<PartitionId, Offset>,
    /// Topic, policy, and settled and routed offsets of each subscription.
    subscriptions: BTreeMap<u8, (u8, bool, Cursors)>,
    modules: BTreeMap<u8, u8>,
    /// Epoch of each named producer.
    epochs: BTreeMap<u8, u32>,
    /// What each producer appended to a partition in its epoch: sequence, records and offset.
    produced: BTreeMap<(PartitionId, u8), Produced>,
}

/// Epoch, and sequence, records and offset of each batch.
type Produced = (u32, Vec<(u32, u32, Offset)>);

impl Model {
    /// Of the partitions that a subscription reads, the one at `index`.
    fn cursor(&mut self, name: u8, index: u32) -> Option<&mut CursorModel> {
        self.subscriptions.get_mut(&name)?.2.values_mut().nth(index as usize)
    }

    fn read_by(&self, name: u8, index: u32) -> PartitionId {
        let cursors =
            self.subscriptions.get(&name).and_then(|(.., cursors)| cursors.keys().nth(index as usize));
        cursors.copied().unwrap_or(PartitionId(u32::MAX))
    }
}

fn topic_name(topic: u8) -> TopicName {
    TopicName::new(format!("t{topic}")).unwrap()
}

fn subscription_name(name: u8) -> SubscriptionName {
    SubscriptionName::new(format!("s{name}")).unwrap()
}

fn batch_of(records: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.push(&Record::new("x")).unwrap();
    }
    builder.build().unwrap()
}

/// Does `act` to the model; the command for it, and whether it must be accepted.
fn model(model: &mut Model, shard: &Shard, act: &Act) -> Option<(Command, bool)> {
    let partition_of = |topic: u8, index: u32| {
        let row = shard.topics.get(&topic_name(topic));
        row.and_then(|row| row.partitions.get(index as usize)).copied().unwrap_or(PartitionId(u32::MAX))
    };
    let id_of = |name: u8| {
        let found = shard.subscriptions.iter().find(|(_, state)| state.row.name == subscription_name(name));
        found.map_or(u32::MAX, |(id, _)| *id)
    };
    Some(match *act {
        Act::Create { topic, partitions, interval } => {
            let durability = if interval { Durability::Interval } else { Durability::Sync };
            let config = TopicConfig { partitions, durability, ..TopicConfig::default() };
            let fresh = (config.clone(), vec![0; partitions as usize]);
            let new = !model.topics.contains_key(&topic);
            let found = model.topics.entry(topic).or_insert(fresh);
            let accepted = found.0 == config;
            let ids = (shard.next_partition..shard.next_partition + partitions).map(PartitionId);
            for (read, _, cursors) in model.subscriptions.values_mut() {
                if new && *read == ALL {
                    cursors.extend(ids.clone().map(|id| (id, CursorModel::default())));
                }
            }
            (Command::CreateTopic { name: topic_name(topic), config, now: 1 }, accepted)
        }
        Act::Delete { topic } => {
            for partition in (0..8).map(|index| partition_of(topic, index)) {
                model.produced.retain(|(of, _), _| *of != partition);
                model.lows.remove(&partition);
            }
            model.subscriptions.retain(|_, (read, ..)| *read != topic);
            for (.., cursors) in model.subscriptions.values_mut() {
                (0..8).for_each(|index| drop(cursors.remove(&partition_of(topic, index))));
            }
            let accepted = model.topics.remove(&topic).is_some();
            (Command::DeleteTopic { name: topic_name(topic) }, accepted)
        }
        Act::Append { topic, partition, records } => {
            let command = Command::Append {
                partition: partition_of(topic, partition),
                batch: batch_of(records),
                now: 1,
            };
            let ends = model.topics.get_mut(&topic);
            let end = ends.and_then(|(_, ends)| ends.get_mut(partition as usize));
            let accepted = end.is_some();
            end.into_iter().for_each(|end| *end += records as u64);
            (command, accepted)
        }
        Act::Produce { topic, partition, producer, records, back, ahead } => {
            let id = partition_of(topic, partition);
            let epoch = model.epochs.get(&producer).copied().unwrap_or(0);
            let ends = model.topics.get_mut(&topic);
            let end = ends.and_then(|(_, ends)| ends.get_mut(partition as usize));
            let mut fresh = (epoch, Vec::new());
            let produced = match end.is_some() {
                true => model.produced.entry((id, producer)).or_insert(fresh),
                false => &mut fresh,
            };
            if produced.0 != epoch {
                *produced = (epoch, Vec::new());
            }
            let next = produced.1.last().map_or(0, |(sequence, records, _)| sequence + records);
            let again = usize::from(back).checked_sub(1).and_then(|back| produced.1.iter().rev().nth(back));
            let (sequence, count) = match again {
                Some((sequence, records, _)) => (*sequence, *records as usize),
                None if ahead => (next + 1, records),
                None => (next, records),
            };
            let stamp = ProducerStamp { id: 100 + u64::from(producer), epoch, sequence };
            let batch = batch_of(count).with_producer(stamp);
            let accepted = end.is_some() && (again.is_some() || !ahead);
            if again.is_none()
                && !ahead
                && let Some(end) = end
            {
                produced.1.push((sequence, count as u32, *end));
                *end += count as u64;
            }
            (Command::Append { partition: id, batch, now: 1 }, accepted)
        }
        Act::AppendAll { to } => {
            let batches: Vec<_> = to
                .iter()
                .map(|(topic, partition, records)| (partition_of(*topic, *partition), batch_of(*records)))
                .collect();
            let mut ends = model.topics.clone();
            let accepted = to.iter().all(|(topic, partition, records)| {
                let end = ends.get_mut(topic).and_then(|(_, ends)| ends.get_mut(*partition as usize));
                end.map(|end| *end += *records as u64).is_some()
            });
            if accepted {
                model.topics = ends;
            }
            (Command::AppendAll { batches, now: 1 }, accepted)
        }
        Act::Rename { producer } => {
            model.epochs.entry(producer).and_modify(|epoch| *epoch += 1).or_insert(0);
            let name = ProducerName::new(format!("p{producer}")).unwrap();
            (Command::OpenProducer { name, id: 100 + u64::from(producer), resume: None, anew: false }, true)
        }
        Act::Subscribe { name, topic, skip } => {
            let read = |name: &&u8| topic == ALL || **name == topic;
            let topics = model.topics.keys().filter(read).map(|name| &shard.topics[&topic_name(*name)]);
            let ids: Vec<_> = topics.flat_map(|row| row.partitions.iter().copied()).collect();
            let on_fault = if skip { OnFault::Skip } else { OnFault::Halt };
            let module = PinnedBinding { module: "m@1".into(), sha256: [9; 32], config: "{}".into() };
            let row = SubscriptionRow {
                name: subscription_name(name),
                topic: if topic == ALL { "*".parse().unwrap() } else { topic_name(topic).into() },
                bindings: Bindings::new(vec![module], on_fault, 1),
                delivery: DeliveryConfig::default(),
                created_ms: 1,
            };
            let accepted = match model.subscriptions.get(&name) {
                Some((read, skips, _)) => (*read, *skips) == (topic, skip),
                None => topic == ALL || model.topics.contains_key(&topic),
            };
            if accepted {
                let cursors = ids.iter().map(|id| (*id, CursorModel::default())).collect();
                model.subscriptions.entry(name).or_insert((topic, skip, cursors));
            }
            // Where none is given, it is the same.
            let cursors = ids.into_iter().step_by(2).map(|id| (id, CursorRow::default())).collect();
            (Command::CreateSubscription { row: Box::new(row), cursors }, accepted)
        }
        Act::Unsubscribe { name } => {
            let accepted = model.subscriptions.remove(&name).is_some();
            (Command::DeleteSubscription { name: subscription_name(name) }, accepted)
        }
        Act::Settle { name, partition, from, to, tried } => {
            if let Some(cursor) = model.cursor(name, partition) {
                cursor.tried.extend(tried.filter(|offset| !cursor.settled.contains(offset)));
                cursor.settle(from..to);
            }
            let tried = tried.map(|offset| (offset, TriedRow::default())).into_iter().collect();
            let settlement = Settlement { tried, ..Settlement::done(from..to) };
            let settlements = vec![(model.read_by(name, partition), settlement)];
            (Command::Settle { subscription: id_of(name), settlements }, true)
        }
        Act::DeadLetter { name, offset, sink } => {
            let command = Command::DeadLetter {
                subscription: id_of(name),
                sources: vec![(model.read_by(name, 0), offset)],
                sink: partition_of(sink, 0),
                letters: batch_of(1),
                now: 1,
            };
            let open = model.cursor(name, 0).is_some_and(|cursor| !cursor.settled.contains(&offset));
            let end = model.topics.get_mut(&sink).and_then(|(_, ends)| ends.first_mut());
            let accepted = match end {
                Some(end) if open => {
                    *end += 1;
                    true
                }
                _ => false,
            };
            if accepted && let Some(cursor) = model.cursor(name, 0) {
                cursor.settle(offset..offset + 1);
            }
            (command, accepted)
        }
        Act::Close { name, letter, source } => {
            let reopen =
                source.map(|(source, offset)| (subscription_name(source), model.read_by(source, 0), offset));
            let letters = vec![Letter { partition: model.read_by(name, 0), offset: letter, reopen }];
            let command = Command::CloseLetters { subscription: id_of(name), letters };
            let open = model.cursor(name, 0).is_some_and(|cursor| !cursor.settled.contains(&letter));
            let sent_back = source.is_none_or(|(source, offset)| {
                open && model.cursor(source, 0).is_some_and(|cursor| cursor.settled.remove(&offset))
            });
            if open
                && sent_back
                && let Some(cursor) = model.cursor(name, 0)
            {
                cursor.settle(letter..letter + 1);
            }
            (command, model.subscriptions.contains_key(&name))
        }
        Act::Route { name, from, len, sink } => {
            let outputs = vec![(partition_of(sink, 0), batch_of(2))];
            let command = Command::Route {
                subscription: Some(id_of(name)),
                partition: model.read_by(name, 0),
                from,
                to: from + len,
                outputs,
                now: 1,
            };
            let sink_end = model.topics.get_mut(&sink).and_then(|(_, ends)| ends.first_mut());
            let cursor =
                model.subscriptions.get_mut(&name).and_then(|(.., cursors)| cursors.values_mut().next());
            let accepted = match (sink_end, cursor) {
                (Some(end), Some(cursor)) if cursor.routed <= from => {
                    cursor.routed = from + len;
                    *end += 2;
                    true
                }
                _ => false,
            };
            (command, accepted)
        }
        Act::PutModule { name, content } => {
            let accepted = *model.modules.entry(name).or_insert(content) == content;
            let row = ModuleRow { sha256: [content; 32], bytes: 1, stored_ms: 1, manifest: None };
            let name = ModuleName::new(format!("m{name}@1")).unwrap();
            (Command::PutModule { name: Some(name), row, wasm: vec![content].into() }, accepted)
        }
        Act::Update { topic, records } => {
            let change = match records % 3 {
                0 => TopicChange::Compact(records % 2 == 0),
                _ => TopicChange::RetentionRecords(NonZeroU64::new(records)),
            };
            let found = model.topics.get_mut(&topic);
            let accepted = found.is_some();
            found.into_iter().for_each(|(config, _)| config.apply(change));
            (Command::UpdateTopic { name: topic_name(topic), changes: vec![change] }, accepted)
        }
        Act::Raise { topic, partition, by, stale } => {
            let id = partition_of(topic, partition);
            let found = model.topics.get(&topic);
            let mut retention = found.map(|(config, _)| config.retention).unwrap_or_default();
            let mut from = model.lows.get(&id).copied().unwrap_or(0);
            let to = from + by;
            let end = found.and_then(|(_, ends)| ends.get(partition as usize)).copied().unwrap_or(0);
            match stale {
                true if by % 2 == 0 => retention.age_ms = NonZeroU64::new(7),
                true => from += 1,
                // The newest record stays.
                false if by > 0 && to < end => {
                    model.lows.insert(id, to);
                }
                false => {}
            }
            (
                Command::RaiseLowWatermark {
                    partition: id,
                    retention,
                    from,
                    to,
                    freed_bytes: 0,
                    freed_holes: 0,
                },
                true,
            )
        }
        Act::Restart => return None,
    })
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
    assert_eq!(shard.modules.len(), model.modules.len());
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

/// Runs `acts`, with a store below when `store` is given; then restarts count.
fn run(acts: &[Act], store: Option<&Store>) -> Model {
    let mut shard = match store {
        Some(store) => recover(store, Limits::default()).unwrap(),
        None => Shard::default(),
    };
    let mut expected = Model::default();
    for act in acts {
        let Some((command, accepted)) = model(&mut expected, &shard, act) else {
            if let Some(store) = store {
                shard = recover(store, Limits::default()).unwrap();
                assert_agree(&shard, &expected);
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
        let before = run(&acts, Some(&store));
        drop(store);
        // And from the directory alone.
        let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
        assert_agree(&recover(&store, Limits::default()).unwrap(), &before);
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

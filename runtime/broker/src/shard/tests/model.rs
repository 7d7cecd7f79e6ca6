//! What a shard must do, said plainly: names and partitions are small numbers, cursors are sets of offsets.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
};

use millstream_types::{
    BatchBuilder, DeliveryConfig, Durability, ModuleName, Offset, OnFault, PartitionId, ProducerName,
    ProducerStamp, Record, RecordBatch, SubscriptionName, TopicChange, TopicConfig, TopicName,
};

use super::{Act, Bound};
use crate::{
    bindings::{Bindings, PinnedBinding},
    command::{Command, Letter, Settlement},
    rows::{CursorRow, ModuleRow, SubscriptionRow, TriedRow},
    shard::{PartitionCursor, Shard},
};

impl Bound {
    pub(super) fn content(self) -> u8 {
        match self {
            Self::Stock => STOCK,
            Self::Named { content, .. } | Self::Digest { content } => content,
        }
    }

    fn pinned(self) -> PinnedBinding {
        let sha256 = [self.content(); 32];
        let module = match self {
            Self::Stock => "std/m@1".to_owned(),
            Self::Named { name, .. } => module_name(name).to_string(),
            Self::Digest { .. } => format!("sha256:{}", hex::encode(sha256)),
        };
        PinnedBinding { module, sha256, config: "{}".into() }
    }
}

/// What the module that comes with the broker is made of.
pub(super) const STOCK: u8 = 9;

/// The topic that a subscription reads which reads all.
pub(super) const ALL: u8 = 3;

/// How far a subscription is in each partition.
pub(super) type Cursors = BTreeMap<PartitionId, CursorModel>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CursorModel {
    settled: BTreeSet<Offset>,
    routed: Offset,
    tried: BTreeSet<Offset>,
    /// Reopened, and nothing of them was routed.
    unrouted: BTreeSet<Offset>,
}

impl CursorModel {
    fn reopen(&mut self, offset: Offset, unrouted: bool) -> bool {
        let reopened = self.settled.remove(&offset);
        if reopened && unrouted {
            self.tried.insert(offset);
            self.unrouted.insert(offset);
        }
        reopened
    }

    fn may_route_again(&self, again: Option<Offset>) -> bool {
        again.is_none_or(|offset| offset >= self.routed || self.unrouted.contains(&offset))
    }

    fn settle(&mut self, range: std::ops::Range<Offset>) {
        self.tried.retain(|offset| !range.contains(offset));
        self.unrouted.retain(|offset| !range.contains(offset));
        self.settled.extend(range);
    }

    pub(super) fn of(cursor: &PartitionCursor) -> Self {
        Self {
            settled: (0..40).filter(|offset| cursor.settled.contains(*offset)).collect(),
            routed: cursor.routed,
            tried: cursor.tried.keys().copied().collect(),
            unrouted: cursor
                .tried
                .iter()
                .filter(|(_, row)| row.unrouted)
                .map(|(offset, _)| *offset)
                .collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    /// Settings and ends of each topic's partitions.
    pub(super) topics: BTreeMap<u8, (TopicConfig, Vec<Offset>)>,
    /// Low watermarks that are not 0.
    pub(super) lows: BTreeMap<PartitionId, Offset>,
    /// Topic, module, and settled and routed offsets of each subscription.
    pub(super) subscriptions: BTreeMap<u8, (u8, Bound, Cursors)>,
    pub(super) modules: BTreeMap<u8, u8>,
    /// What each name meant that was deleted.
    pub(super) deleted: BTreeMap<u8, u8>,
    /// What is stored.
    pub(super) contents: BTreeSet<u8>,
    /// What ephemeral subscriptions bind.
    held: BTreeMap<u8, Bound>,
    /// What was stored without a name, once for each time that it is still to be bound.
    unbound: Vec<u8>,
    /// Epoch of each named producer.
    pub(super) epochs: BTreeMap<u8, u32>,
    /// What each producer appended to a partition in its epoch: sequence, records and offset.
    pub(super) produced: BTreeMap<(PartitionId, u8), Produced>,
}

/// Epoch, and sequence, records and offset of each batch.
pub(super) type Produced = (u32, Vec<(u32, u32, Offset)>);

impl Model {
    /// Of the partitions that a subscription reads, the one at `index`.
    fn cursor(&mut self, name: u8, index: u32) -> Option<&mut CursorModel> {
        self.subscriptions.get_mut(&name)?.2.values_mut().nth(index as usize)
    }

    pub(super) fn bindings(&self) -> impl Iterator<Item = Bound> {
        let durable = self.subscriptions.values().map(|(_, module, _)| *module);
        durable.chain(self.held.values().copied())
    }

    /// Ephemeral subscriptions end, and with them what only they need.
    pub(super) fn restart(&mut self) {
        self.held.clear();
        self.unbound.clear();
        for content in self.contents.clone() {
            self.drop_unneeded(content);
        }
    }

    fn may_bind(&self, module: Bound) -> bool {
        match module {
            Bound::Stock => true,
            Bound::Named { name, content } => {
                self.modules.contains_key(&name) && self.contents.contains(&content)
            }
            Bound::Digest { content } => self.contents.contains(&content),
        }
    }

    fn bound(&mut self, module: Bound) {
        if let Some(index) = self.unbound.iter().position(|content| *content == module.content()) {
            self.unbound.remove(index);
        }
    }

    /// `content` has lost a name or somebody who binds it.
    fn drop_unneeded(&mut self, content: u8) {
        let bound = self.bindings().any(|module| module.content() == content);
        let named = self.modules.values().any(|named| *named == content);
        if !bound && !named && !self.unbound.contains(&content) {
            self.contents.remove(&content);
        }
    }

    fn read_by(&self, name: u8, index: u32) -> PartitionId {
        let cursors =
            self.subscriptions.get(&name).and_then(|(.., cursors)| cursors.keys().nth(index as usize));
        cursors.copied().unwrap_or(PartitionId(u32::MAX))
    }
}

pub(super) fn topic_name(topic: u8) -> TopicName {
    TopicName::new(format!("t{topic}")).unwrap()
}

pub(super) fn subscription_name(name: u8) -> SubscriptionName {
    SubscriptionName::new(format!("s{name}")).unwrap()
}

pub(super) fn module_name(name: u8) -> ModuleName {
    ModuleName::new(format!("m{name}@1")).unwrap()
}

pub(super) fn batch_of(records: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.push(&Record::new("x")).unwrap();
    }
    builder.build().unwrap()
}

/// Does `act` to the model; the command for it, and whether it must be accepted.
pub(super) fn model(model: &mut Model, shard: &Shard, act: &Act) -> Option<(Command, bool)> {
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
            let ended: Vec<_> = model.subscriptions.extract_if(.., |_, (read, ..)| *read == topic).collect();
            ended.iter().for_each(|(_, (_, module, _))| model.drop_unneeded(module.content()));
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
        Act::Subscribe { name, topic, module } => {
            let read = |name: &&u8| topic == ALL || **name == topic;
            let topics = model.topics.keys().filter(read).map(|name| &shard.topics[&topic_name(*name)]);
            let ids: Vec<_> = topics.flat_map(|row| row.partitions.iter().copied()).collect();
            let row = SubscriptionRow {
                processor: None,
                name: subscription_name(name),
                topic: if topic == ALL { "*".parse().unwrap() } else { topic_name(topic).into() },
                bindings: Bindings::new(vec![module.pinned()], OnFault::Halt, 1),
                delivery: DeliveryConfig::default(),
                created_ms: 1,
            };
            let accepted = match model.subscriptions.get(&name) {
                Some((read, bound, _)) => (*read, *bound) == (topic, module),
                None => model.may_bind(module) && (topic == ALL || model.topics.contains_key(&topic)),
            };
            if accepted {
                if !model.subscriptions.contains_key(&name) {
                    model.bound(module);
                }
                let cursors = ids.iter().map(|id| (*id, CursorModel::default())).collect();
                model.subscriptions.entry(name).or_insert((topic, module, cursors));
            }
            // Where none is given, it is the same.
            let cursors = ids.into_iter().step_by(2).map(|id| (id, CursorRow::default())).collect();
            (Command::CreateSubscription { row: Box::new(row), cursors }, accepted)
        }
        Act::Unsubscribe { name } => {
            let removed = model.subscriptions.remove(&name);
            let accepted = removed.is_some();
            removed.iter().for_each(|(_, module, _)| model.drop_unneeded(module.content()));
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
        Act::Close { name, letter, source, unrouted } => {
            let reopen =
                source.map(|(source, offset)| (subscription_name(source), model.read_by(source, 0), offset));
            let letters =
                vec![Letter { partition: model.read_by(name, 0), offset: letter, reopen, unrouted }];
            let command = Command::CloseLetters { subscription: id_of(name), letters };
            let open = model.cursor(name, 0).is_some_and(|cursor| !cursor.settled.contains(&letter));
            let sent_back = source.is_none_or(|(source, offset)| {
                let cursor = model.cursor(source, 0).filter(|_| open);
                cursor.is_some_and(|cursor| cursor.reopen(offset, unrouted))
            });
            if open
                && sent_back
                && let Some(cursor) = model.cursor(name, 0)
            {
                cursor.settle(letter..letter + 1);
            }
            (command, model.subscriptions.contains_key(&name))
        }
        Act::Route { name, from, len, sink, again } => {
            let outputs = vec![(partition_of(sink, 0), batch_of(2))];
            let command = Command::Route {
                subscription: Some(id_of(name)),
                partition: model.read_by(name, 0),
                from,
                to: from + len,
                again: again.into_iter().collect(),
                outputs,
                now: 1,
            };
            let sink_end = model.topics.get_mut(&sink).and_then(|(_, ends)| ends.first_mut());
            let cursor =
                model.subscriptions.get_mut(&name).and_then(|(.., cursors)| cursors.values_mut().next());
            let accepted = match (sink_end, cursor) {
                (Some(end), Some(cursor))
                    if (len == 0 || cursor.routed <= from) && cursor.may_route_again(again) =>
                {
                    again.iter().for_each(|offset| {
                        cursor.unrouted.remove(offset);
                    });
                    cursor.routed = if len > 0 { from + len } else { cursor.routed };
                    *end += 2;
                    true
                }
                _ => false,
            };
            (command, accepted)
        }
        Act::PutModule { name, content } => {
            let same = |found: Option<&u8>| found.is_none_or(|found| *found == content);
            let accepted =
                name.is_none_or(|name| same(model.modules.get(&name)) && same(model.deleted.get(&name)));
            if accepted {
                model.contents.insert(content);
                if name.is_none() {
                    model.unbound.push(content);
                }
                name.into_iter().for_each(|name| {
                    model.deleted.remove(&name);
                    model.modules.insert(name, content);
                });
            }
            let row = ModuleRow {
                sha256: [content; 32],
                bytes: 1,
                stored_ms: 1,
                manifest: None,
                typed: None,
                capabilities: Vec::new(),
                signers: Vec::new(),
                deleted_ms: None,
            };
            (
                Command::PutModule {
                    name: name.map(module_name),
                    row: Box::new(row),
                    wasm: vec![content].into(),
                },
                accepted,
            )
        }
        Act::DeleteModule { name } => {
            let bound = |module| matches!(module, Bound::Named { name: bound, .. } if bound == name);
            let bound = model.bindings().any(bound);
            let removed = if bound { None } else { model.modules.remove(&name) };
            if let Some(content) = removed {
                model.deleted.insert(name, content);
                model.drop_unneeded(content);
            }
            (Command::DeleteModule { name: module_name(name), now: 1 }, removed.is_some())
        }
        Act::Hold { holder, module } => {
            // Each ephemeral subscription has a name of its own and binds once.
            let module = model.held.get(&holder).copied().unwrap_or(module);
            let accepted = model.may_bind(module);
            if accepted {
                model.bound(module);
                model.held.insert(holder, module);
            }
            let (holder, pipeline) = (subscription_name(100 + holder), vec![module.pinned()]);
            (Command::HoldModules { holder, pipeline }, accepted)
        }
        Act::Release { holder } => {
            if let Some(module) = model.held.remove(&holder) {
                model.drop_unneeded(module.content());
            }
            (Command::ReleaseModules { holder: subscription_name(100 + holder) }, true)
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

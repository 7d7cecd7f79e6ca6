//! The shard's subscriptions: created, deleted, settled; what their modules emit, what becomes a dead letter.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use millstream_engine::StateSize;
use millstream_store::{Batch, Cursor, RemovedState, SettledRun, Subscription, Tried};
use millstream_types::{Offset, PartitionId, RecordBatch, SubscriptionName, Timestamp, TopicName};

use super::{Effect, PartitionCursor, Shard, SubscriptionState, limit};
use crate::{
    Error,
    command::{Letter, Outcome, Settlement},
    rows::{self, CursorRow, NEXT_SUBSCRIPTION, ProcessorRow, SubscriptionRow, TriedRow},
    settled::{RunChange, Settled},
};

impl Shard {
    pub(super) fn create_subscription(
        &mut self,
        row: SubscriptionRow,
        cursors: Vec<(PartitionId, CursorRow)>,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        if let Some((id, found)) = self.subscriptions.iter().find(|(_, state)| state.row.name == row.name) {
            return match found.row.differs_from(&row) {
                Some(what) => Err(Error::SubscriptionExists { kind: found.row.kind(), name: row.name, what }),
                None => Ok(Outcome::Subscription(*id)),
            };
        }
        let mut topics = row.patterns().filter_map(|pattern| pattern.as_topic());
        if let Some(topic) = topics.find(|topic| !self.topics.contains_key(topic)) {
            return Err(Error::UnknownTopic(topic));
        }
        drop(topics);
        self.check_modules(&row.bindings.current.pipeline)?;
        limit("subscriptions", self.subscriptions.len(), self.limits.subscriptions_max)?;
        self.modules.note_bound(&row.bindings.current.pipeline);
        let id = self.next_subscription;
        self.next_subscription += 1;
        batch.put(&NEXT_SUBSCRIPTION, self.next_subscription.to_le_bytes().to_vec());
        batch.put(&Subscription(id), rows::encode(&row));
        let start: BTreeMap<_, _> = cursors.into_iter().collect();
        let topics = self.topics.iter().filter(|(topic, _)| row.reads(topic));
        let mut cursors: Vec<_> = topics
            .flat_map(|(_, topic)| &topic.partitions)
            .map(|partition| (*partition, start.get(partition).copied().unwrap_or_default()))
            .collect();
        cursors.sort_unstable_by_key(|(partition, _)| *partition);
        for (partition, cursor) in &cursors {
            batch.put(&Cursor { subscription: id, partition: *partition }, rows::encode(cursor));
        }
        let cursors: Vec<_> =
            cursors.into_iter().map(|(partition, row)| (partition, PartitionCursor::from(row))).collect();
        self.subscriptions.insert(
            id,
            SubscriptionState { row: row.clone(), cursors: cursors.clone(), state: StateSize::default() },
        );
        effects.push(Effect::SubscriptionCreated { id, row: Box::new(row), cursors });
        Ok(Outcome::Subscription(id))
    }

    pub(super) fn delete_subscription(
        &mut self,
        name: &SubscriptionName,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let found = self.subscriptions.iter().find(|(_, state)| state.row.name == *name).map(|(id, _)| *id);
        let subscription = found.ok_or_else(|| Error::UnknownSubscription(name.clone()))?;
        self.remove_subscription(subscription, batch, effects);
        Ok(Outcome::Done)
    }

    fn remove_subscription(&mut self, subscription: u32, batch: &mut Batch, effects: &mut Vec<Effect>) {
        let Some(state) = self.subscriptions.remove(&subscription) else { return };
        batch.remove(&Subscription(subscription));
        if state.row.processor.is_some() {
            batch.remove(&millstream_store::StateSize(subscription));
            batch.put(&RemovedState(subscription), Bytes::new());
        }
        for (partition, cursor) in &state.cursors {
            cursor.remove(subscription, *partition, batch);
        }
        self.drop_unneeded_of(&state.row.bindings, batch);
        effects.push(Effect::SubscriptionDeleted { name: state.row.name });
    }

    /// A topic is new: who reads it by a pattern starts at its first record.
    pub(super) fn attach_readers(
        &mut self,
        topic: &TopicName,
        partitions: &[PartitionId],
        batch: &mut Batch,
    ) {
        for (&subscription, state) in
            self.subscriptions.iter_mut().filter(|(_, state)| state.row.reads(topic))
        {
            for &partition in partitions {
                let cursor = PartitionCursor::default();
                batch.put(&Cursor { subscription, partition }, rows::encode(&cursor.row()));
                state.cursors.push((partition, cursor));
            }
        }
    }

    /// A topic goes, and with it the subscriptions that read nothing else.
    pub(super) fn detach_readers(
        &mut self,
        topic: &TopicName,
        partitions: &[PartitionId],
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) {
        let mut ended = Vec::new();
        for (&subscription, state) in
            self.subscriptions.iter_mut().filter(|(_, state)| state.row.reads(topic))
        {
            if state.row.only_topic().is_some() {
                ended.push(subscription);
                continue;
            }
            state.cursors.retain(|(partition, cursor)| {
                let gone = partitions.contains(partition);
                if gone {
                    cursor.remove(subscription, *partition, batch);
                }
                !gone
            });
        }
        for subscription in ended {
            self.remove_subscription(subscription, batch, effects);
        }
    }

    pub(super) fn settle(
        &mut self,
        subscription: u32,
        settlements: Vec<(PartitionId, Settlement)>,
        batch: &mut Batch,
    ) {
        for (partition, Settlement { done, tried }) in settlements {
            // Deleted while the settlement was on its way: there is nothing left to move.
            let Some(cursor) = self.cursor(subscription, partition) else { continue };
            for (offset, row) in tried {
                if !cursor.settled.contains(offset) {
                    let unrouted = cursor.tried.get(&offset).is_some_and(|row| row.unrouted);
                    let row = TriedRow { unrouted, ..row };
                    batch.put(&Tried { subscription, partition, offset }, rows::encode(&row));
                    cursor.tried.insert(offset, row);
                }
            }
            for range in done {
                cursor.settle(range, subscription, partition, batch);
            }
        }
    }

    /// Appends dead letters and settles what they are made of.
    #[expect(clippy::too_many_arguments, reason = "the parts of one command, passed on once")]
    pub(super) fn dead_letter(
        &mut self,
        subscription: u32,
        sources: &[(PartitionId, Offset)],
        sink: PartitionId,
        letters: RecordBatch,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        if !self.partitions.contains_key(&sink) {
            return Err(Error::Gone);
        }
        for (partition, offset) in sources {
            let cursor = self.cursor(subscription, *partition).ok_or(Error::Gone)?;
            if cursor.settled.contains(*offset) {
                return Err(Error::Overtaken);
            }
        }
        for (partition, offset) in sources {
            if let Some(cursor) = self.cursor(subscription, *partition) {
                cursor.settle(*offset..*offset + 1, subscription, *partition, batch);
            }
        }
        let name = self.subscriptions.get(&subscription).map(|state| state.row.name.clone());
        let settled = sources.to_vec();
        effects.extend(name.map(|name| Effect::Moved {
            name,
            settled,
            reopened: Vec::new(),
            unrouted: Vec::new(),
        }));
        self.append(sink, letters, now, batch, effects).map(Outcome::Appended)
    }

    /// Settles dead letters, and makes what they were made of unsettled again where that is asked for. Letters that
    /// are settled already are passed over; those whose source is gone are left.
    pub(super) fn close_letters(
        &mut self,
        subscription: u32,
        letters: Vec<Letter>,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let name = self.subscriptions.get(&subscription).ok_or(Error::Gone)?.row.name.clone();
        let ids: BTreeMap<_, _> =
            self.subscriptions.iter().map(|(id, state)| (state.row.name.clone(), *id)).collect();
        let (mut closed, mut reopened) =
            (Vec::new(), Vec::<(SubscriptionName, (PartitionId, Offset), bool)>::new());
        for letter in letters {
            let open = self.cursor(subscription, letter.partition);
            if open.is_none_or(|cursor| cursor.settled.contains(letter.offset)) {
                continue;
            }
            if let Some((source, partition, offset)) = &letter.reopen {
                let Some(&id) = ids.get(source) else { continue };
                let Some(cursor) = self.cursor(id, *partition) else { continue };
                if !cursor.reopen(*offset, id, *partition, batch) {
                    continue;
                }
                if letter.unrouted {
                    cursor.set_unrouted(*offset, id, *partition, batch);
                }
                reopened.push((source.clone(), (*partition, *offset), letter.unrouted));
            }
            if let Some(cursor) = self.cursor(subscription, letter.partition) {
                cursor.settle(letter.offset..letter.offset + 1, subscription, letter.partition, batch);
            }
            closed.push((letter.partition, letter.offset));
        }
        let count = closed.len() as u64;
        effects.push(Effect::Moved { name, settled: closed, reopened: Vec::new(), unrouted: Vec::new() });
        for (name, place, unrouted) in reopened {
            let unrouted = unrouted.then_some(place).into_iter().collect();
            effects.push(Effect::Moved { name, settled: Vec::new(), reopened: vec![place], unrouted });
        }
        Ok(Outcome::Count(count))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one command, passed on once")]
    pub(super) fn route(
        &mut self,
        subscription: Option<u32>,
        partition: PartitionId,
        source: Range<Offset>,
        again: &[Offset],
        outputs: Vec<(PartitionId, RecordBatch)>,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        // A sink that was deleted meanwhile must be seen before anything is changed.
        if outputs.iter().any(|(sink, _)| !self.partitions.contains_key(sink)) {
            return Err(Error::Gone);
        }
        if let Some(subscription) = subscription {
            let cursor = self.cursor(subscription, partition).ok_or(Error::Gone)?;
            let routed = |offset: &Offset| {
                *offset < cursor.routed && !cursor.tried.get(offset).is_some_and(|row| row.unrouted)
            };
            if (!source.is_empty() && cursor.routed > source.start) || again.iter().any(routed) {
                return Err(Error::Overtaken);
            }
            for offset in again {
                if let Some(row) = cursor.tried.get_mut(offset) {
                    row.unrouted = false;
                    batch.put(&Tried { subscription, partition, offset: *offset }, rows::encode(row));
                }
            }
            if !source.is_empty() {
                cursor.routed = source.end;
                batch.put(&Cursor { subscription, partition }, rows::encode(&cursor.row()));
            }
            let next = cursor.routed;
            let name = self.subscriptions.get(&subscription).map(|state| state.row.name.clone());
            let again = again.to_vec();
            effects.extend(name.map(|name| Effect::Routed { name, partition, next, again }));
        }
        for (sink, records) in outputs {
            self.append(sink, records, now, batch, effects)?;
        }
        Ok(())
    }

    /// Where a subscription is in a partition.
    pub(super) fn cursor(
        &mut self,
        subscription: u32,
        partition: PartitionId,
    ) -> Option<&mut PartitionCursor> {
        let cursors = &mut self.subscriptions.get_mut(&subscription)?.cursors;
        let index = cursors.binary_search_by_key(&partition, |(partition, _)| *partition).ok()?;
        cursors.get_mut(index).map(|(_, cursor)| cursor)
    }
}

impl PartitionCursor {
    pub(crate) fn row(&self) -> CursorRow {
        CursorRow { settled: self.settled.below(), routed: self.routed }
    }

    fn remove(&self, subscription: u32, partition: PartitionId, batch: &mut Batch) {
        batch.remove(&Cursor { subscription, partition });
        for run in self.settled.runs() {
            batch.remove(&SettledRun { subscription, partition, start: run.start });
        }
        for &offset in self.tried.keys() {
            batch.remove(&Tried { subscription, partition, offset });
        }
    }

    pub(super) fn settle(
        &mut self,
        range: Range<Offset>,
        subscription: u32,
        partition: PartitionId,
        batch: &mut Batch,
    ) {
        if range.is_empty() {
            return;
        }
        let before = self.settled.below();
        self.settled.insert(range.clone(), &mut |change| write(change, subscription, partition, batch));
        if self.settled.below() != before {
            batch.put(&Cursor { subscription, partition }, rows::encode(&self.row()));
        }
        while let Some((&offset, _)) = self.tried.range(range.clone()).next() {
            self.tried.remove(&offset);
            batch.remove(&Tried { subscription, partition, offset });
        }
    }

    /// A record was reopened of which nothing was routed.
    fn set_unrouted(&mut self, offset: Offset, subscription: u32, partition: PartitionId, batch: &mut Batch) {
        let row = self.tried.entry(offset).or_default();
        row.unrouted = true;
        batch.put(&Tried { subscription, partition, offset }, rows::encode(row));
    }

    pub(super) fn reopen(
        &mut self,
        offset: Offset,
        subscription: u32,
        partition: PartitionId,
        batch: &mut Batch,
    ) -> bool {
        let before = self.settled.below();
        let reopened =
            self.settled.reopen(offset, &mut |change| write(change, subscription, partition, batch));
        if self.settled.below() != before {
            batch.put(&Cursor { subscription, partition }, rows::encode(&self.row()));
        }
        reopened
    }
}

fn write(change: RunChange, subscription: u32, partition: PartitionId, batch: &mut Batch) {
    match change {
        RunChange::Put { start, end } => {
            batch.put(&SettledRun { subscription, partition, start }, end.to_le_bytes().to_vec());
        }
        RunChange::Remove { start } => batch.remove(&SettledRun { subscription, partition, start }),
    }
}

impl From<CursorRow> for PartitionCursor {
    fn from(row: CursorRow) -> Self {
        Self { settled: Settled::below_only(row.settled), routed: row.routed, ..Self::default() }
    }
}

impl SubscriptionRow {
    /// What is asked for otherwise than it is; of modules and their policy, than it ever was.
    pub(crate) fn differs_from(&self, wanted: &Self) -> Option<&'static str> {
        let differs = [
            ("topic", self.topic != wanted.topic),
            ("pipeline or fault policy", !self.bindings.had(&wanted.bindings.current)),
            ("source, sink or state limit", {
                let settings =
                    |row: &Self| row.processor.clone().map(|it| ProcessorRow { paused: false, ..it });
                settings(self) != settings(wanted)
            }),
            ("delivery mode", self.delivery.mode != wanted.delivery.mode),
            ("lease", self.delivery.lease_ms != wanted.delivery.lease_ms),
            ("number of tries", self.delivery.tries != wanted.delivery.tries),
            ("backoff", self.delivery.backoff_ms != wanted.delivery.backoff_ms),
            ("dead-letter topic", self.delivery.dead_letters != wanted.delivery.dead_letters),
        ];
        differs.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
    }
}

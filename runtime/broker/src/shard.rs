//! The shard: the state machine that all durable changes go through, in order. Deterministic: no clock, no randomness,
//! no I/O. What it decides goes into one atomic store batch and into [`Effect`]s, which are carried out after the commit.

use std::collections::{BTreeMap, HashMap};

use millstream_store::{Batch, Cursor, Module, ModuleBlob, NamedProducer, Producer, Subscription, Topic};
use millstream_types::{
    Durability, ModuleName, Offset, PartitionId, ProducerId, ProducerName, RecordBatch, Retention,
    SubscriptionName, Timestamp, TopicConfig, TopicName, limits::TOPIC_PARTITIONS_MAX,
};

use crate::{
    Error, Limits,
    command::{Appended, Command, Outcome},
    limits::PARTITION_PRODUCERS_MAX,
    producers::{Judgement, Producers},
    rows::{
        self, CursorRow, ModuleRow, NEXT_PARTITION, NEXT_SUBSCRIPTION, NamedProducerRow, SubscriptionRow,
        TopicRow,
    },
};

/// What becomes visible once the commit is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Readers may read up to here.
    End {
        partition: PartitionId,
        end: Offset,
    },
    TopicCreated {
        name: TopicName,
        row: TopicRow,
    },
    TopicUpdated {
        name: TopicName,
        config: TopicConfig,
    },
    TopicDeleted {
        name: TopicName,
        partitions: Vec<PartitionId>,
    },
    SubscriptionCreated {
        id: u32,
        row: SubscriptionRow,
        cursors: Vec<CursorRow>,
    },
    SubscriptionDeleted {
        name: SubscriptionName,
    },
    ModuleStored {
        name: ModuleName,
        row: ModuleRow,
    },
}

/// What applying a command gave.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) result: Result<Outcome, Error>,
    /// Whether it may be answered, and its effects seen, only once it is fsynced.
    pub(crate) sync: bool,
}

/// All durable state but the records.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) topics: BTreeMap<TopicName, TopicRow>,
    pub(crate) partitions: HashMap<PartitionId, PartitionState>,
    pub(crate) subscriptions: BTreeMap<u32, SubscriptionState>,
    pub(crate) modules: BTreeMap<ModuleName, ModuleRow>,
    /// Producers with a name, and the epoch of each by its id.
    pub(crate) producers: BTreeMap<ProducerName, NamedProducerRow>,
    pub(crate) epochs: HashMap<u64, u32>,
    /// Those whose rows changed since the last [`seal`](Self::seal), some of them several times.
    pub(crate) appended: Vec<Producer>,
    pub(crate) next_partition: u32,
    pub(crate) next_subscription: u32,
    pub(crate) limits: Limits,
}

#[derive(Debug, Clone)]
pub(crate) struct PartitionState {
    pub(crate) next: Offset,
    /// Nothing below it is read any more.
    pub(crate) low: Offset,
    pub(crate) retention: Retention,
    pub(crate) sync: bool,
    /// Timestamps do not run backwards within a partition, whatever the clock does.
    pub(crate) newest: Timestamp,
    pub(crate) producers: Producers,
}

#[derive(Debug, Clone)]
pub(crate) struct SubscriptionState {
    pub(crate) row: SubscriptionRow,
    pub(crate) cursors: Vec<CursorRow>,
}

impl Shard {
    /// Applies `command`: changes the state, writes what changed to `batch`, and notes what to make visible in `effects`.
    /// A refused command changes nothing.
    pub(crate) fn apply(
        &mut self,
        command: Command,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Applied {
        // Metadata is always synced; records as their topic asks; a lost settlement is only a redelivery.
        let (result, sync) = match command {
            Command::Append { partition, batch: records, now } => {
                let sync = self.partitions.get(&partition).is_some_and(|state| state.sync);
                (self.publish(partition, records, now, batch, effects), sync)
            }
            Command::OpenProducer { name, id, resume, anew } => {
                (self.open_producer(name, id, resume, anew, batch), true)
            }
            Command::ExpireProducers { before } => (Ok(self.expire_producers(before, batch)), false),
            Command::CreateTopic { name, config, now } => {
                (self.create_topic(name, config, now, batch, effects), true)
            }
            Command::UpdateTopic { name, changes } => {
                (self.update_topic(&name, &changes, batch, effects), true)
            }
            Command::RaiseLowWatermark { partition, retention, from, to, freed_bytes } => {
                (Ok(self.raise_low_watermark(partition, retention, from..to, freed_bytes, batch)), true)
            }
            Command::DeleteTopic { name } => (self.delete_topic(&name, batch, effects), true),
            Command::PutModule { name, row, wasm } => {
                (self.put_module(name, row, wasm, batch, effects), true)
            }
            Command::RemovePrivateModule { sha256 } => {
                if !self.binds(&sha256) {
                    batch.remove(&ModuleBlob(sha256));
                }
                (Ok(Outcome::Done), false)
            }
            Command::CreateSubscription { row, cursors } => {
                (self.create_subscription(row, cursors, batch, effects), true)
            }
            Command::DeleteSubscription { name } => (self.delete_subscription(&name, batch, effects), true),
            Command::Settle { subscription, next } => (Ok(self.settle(subscription, &next, batch)), false),
            Command::Route { subscription, partition, from, to, outputs, now } => {
                let sync =
                    outputs.iter().any(|(sink, _)| self.partitions.get(sink).is_some_and(|state| state.sync));
                let routed = self.route(subscription, partition, from..to, outputs, now, batch, effects);
                (routed.map(|()| Outcome::Done), sync)
            }
        };
        Applied { result, sync }
    }

    /// Appends what a producer sends, unless it did before.
    fn publish(
        &mut self,
        partition: PartitionId,
        records: RecordBatch,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let stamp = records.view().producer();
        if stamp.id == 0 {
            return self.append(partition, records, now, batch, effects).map(Outcome::Appended);
        }
        let fenced = |epoch| Error::ProducerFenced { id: stamp.id, epoch, found: stamp.epoch };
        if let Some(epoch) = self.epochs.get(&stamp.id).filter(|epoch| **epoch > stamp.epoch) {
            return Err(fenced(*epoch));
        }
        let state = self.partitions.get(&partition).ok_or(Error::Gone)?;
        match state.producers.judge(stamp) {
            Judgement::Append => {}
            Judgement::Duplicate(Some(appended)) => return Ok(Outcome::Appended(appended)),
            Judgement::Duplicate(None) => return Ok(Outcome::Duplicate { partition, stamp }),
            Judgement::Gap { expected } => {
                return Err(Error::OutOfSequence { id: stamp.id, found: stamp.sequence, expected });
            }
            Judgement::Fenced { epoch } => return Err(fenced(epoch)),
        }
        let appended = self.append(partition, records, now, batch, effects)?;
        let state = self.partitions.get_mut(&partition).ok_or(Error::Gone)?;
        for producer in state.producers.make_room_for(stamp.id, PARTITION_PRODUCERS_MAX) {
            batch.remove(&Producer { partition, producer });
        }
        state.producers.appended(stamp, appended);
        // Often the same as that of the command before.
        let producer = Producer { partition, producer: stamp.id };
        if self.appended.last() != Some(&producer) {
            self.appended.push(producer);
        }
        Ok(Outcome::Appended(appended))
    }

    /// Writes what the commands since the last time leave to be written once for all of them. Before each commit.
    pub(crate) fn seal(&mut self, batch: &mut Batch) {
        for producer in std::mem::take(&mut self.appended) {
            let state = self.partitions.get(&producer.partition);
            // Gone when its topic was deleted in the same group.
            if let Some(row) = state.and_then(|state| state.producers.row(producer.producer)) {
                batch.put(&producer, rows::encode(&row));
            }
        }
    }

    fn open_producer(
        &mut self,
        name: ProducerName,
        id: u64,
        resume: Option<ProducerId>,
        anew: bool,
        batch: &mut Batch,
    ) -> Result<Outcome, Error> {
        let row = match (self.producers.get(&name), resume) {
            (Some(row), Some(resume)) if resume != (ProducerId { id: row.id, epoch: row.epoch }) => {
                return Err(Error::ProducerFenced { id: row.id, epoch: row.epoch, found: resume.epoch });
            }
            (Some(_), Some(resume)) if !anew => return Ok(Outcome::Producer(resume)),
            (Some(row), _) => NamedProducerRow { epoch: row.epoch.saturating_add(1), ..*row },
            (None, _) => {
                limit("named producers", self.producers.len(), self.limits.producers_max)?;
                NamedProducerRow { id, epoch: 0 }
            }
        };
        batch.put(&NamedProducer(name.clone()), rows::encode(&row));
        self.producers.insert(name, row);
        self.epochs.insert(row.id, row.epoch);
        Ok(Outcome::Producer(ProducerId { id: row.id, epoch: row.epoch }))
    }

    fn expire_producers(&mut self, before: Timestamp, batch: &mut Batch) -> Outcome {
        for (partition, state) in &mut self.partitions {
            for producer in state.producers.expire(before) {
                batch.remove(&Producer { partition: *partition, producer });
            }
        }
        Outcome::Done
    }

    fn append(
        &mut self,
        partition: PartitionId,
        records: RecordBatch,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Appended, Error> {
        // The partition is gone when its topic was deleted while the batch was on its way.
        let state = self.partitions.get_mut(&partition).ok_or(Error::Gone)?;
        let count = records.view().len();
        let appended = Appended {
            base_offset: state.next,
            records: u32::try_from(count).expect("a batch has at most 65,536 records"),
            timestamp: now.max(state.newest),
        };
        state.newest = appended.timestamp;
        state.next += u64::from(appended.records);
        let stamped = records.stamped(appended.base_offset, appended.timestamp);
        batch.append(partition, appended.base_offset, state.next, stamped.into_bytes());
        effects.push(Effect::End { partition, end: state.next });
        Ok(appended)
    }

    fn create_topic(
        &mut self,
        name: TopicName,
        config: TopicConfig,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        if let Some(row) = self.topics.get(&name) {
            return if row.config == config { Ok(Outcome::Done) } else { Err(Error::TopicExists(name)) };
        }
        if config.partitions == 0 || config.partitions > TOPIC_PARTITIONS_MAX {
            return Err(Error::Partitions { partitions: config.partitions, max: TOPIC_PARTITIONS_MAX });
        }
        limit("topics", self.topics.len(), self.limits.topics_max)?;
        limit(
            "partitions",
            self.partitions.len() + config.partitions as usize - 1,
            self.limits.partitions_max,
        )?;
        let first = self.next_partition;
        self.next_partition += config.partitions;
        batch.put(&NEXT_PARTITION, self.next_partition.to_le_bytes().to_vec());
        let partitions: Vec<_> = (first..self.next_partition).map(PartitionId).collect();
        let sync = config.durability == Durability::Sync;
        for partition in &partitions {
            batch.create_partition(*partition);
            let producers = Producers::default();
            let retention = config.retention;
            let state = PartitionState { next: 0, low: 0, retention, sync, newest: 0, producers };
            self.partitions.insert(*partition, state);
        }
        let row = TopicRow { config, created_ms: now, partitions };
        batch.put(&Topic(name.clone()), rows::encode(&row));
        self.topics.insert(name.clone(), row.clone());
        effects.push(Effect::TopicCreated { name, row });
        Ok(Outcome::Done)
    }

    fn delete_topic(
        &mut self,
        name: &TopicName,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let row = self.topics.remove(name).ok_or_else(|| Error::UnknownTopic(name.clone()))?;
        let readers = self.subscriptions.values().filter(|state| state.row.topic == *name);
        let readers: Vec<_> = readers.map(|state| state.row.name.clone()).collect();
        for reader in &readers {
            self.delete_subscription_of(reader, &row.partitions, batch, effects)?;
        }
        batch.remove(&Topic(name.clone()));
        for partition in &row.partitions {
            batch.delete_partition(*partition);
            let state = self.partitions.remove(partition);
            for producer in state.iter().flat_map(|state| state.producers.ids()) {
                batch.remove(&Producer { partition: *partition, producer });
            }
        }
        effects.push(Effect::TopicDeleted { name: name.clone(), partitions: row.partitions });
        Ok(Outcome::Done)
    }

    fn put_module(
        &mut self,
        name: Option<ModuleName>,
        row: ModuleRow,
        wasm: bytes::Bytes,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        if let Some(name) = name {
            match self.modules.get(&name) {
                Some(found) if found.sha256 == row.sha256 => return Ok(Outcome::Done),
                Some(_) => return Err(Error::ModuleExists(name)),
                None => {}
            }
            batch.put(&Module(name.clone()), rows::encode(&row));
            self.modules.insert(name.clone(), row.clone());
            effects.push(Effect::ModuleStored { name, row: row.clone() });
        }
        batch.put(&ModuleBlob(row.sha256), wasm);
        Ok(Outcome::Done)
    }

    fn binds(&self, sha256: &[u8; 32]) -> bool {
        self.modules.values().any(|row| row.sha256 == *sha256)
            || self
                .subscriptions
                .values()
                .any(|state| state.row.pipeline.iter().any(|binding| binding.sha256 == *sha256))
    }

    fn create_subscription(
        &mut self,
        row: SubscriptionRow,
        cursors: Vec<CursorRow>,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        if let Some((id, found)) = self.subscriptions.iter().find(|(_, state)| state.row.name == row.name) {
            let differs = [
                ("topic", found.row.topic != row.topic),
                ("pipeline", found.row.pipeline != row.pipeline),
                ("fault policy", found.row.on_fault != row.on_fault),
            ];
            return match differs.into_iter().find(|(_, differs)| *differs) {
                Some((what, _)) => Err(Error::SubscriptionExists { name: row.name, what }),
                None => Ok(Outcome::Subscription(*id)),
            };
        }
        let topic = self.topics.get(&row.topic).ok_or_else(|| Error::UnknownTopic(row.topic.clone()))?;
        limit("subscriptions", self.subscriptions.len(), self.limits.subscriptions_max)?;
        let id = self.next_subscription;
        self.next_subscription += 1;
        batch.put(&NEXT_SUBSCRIPTION, self.next_subscription.to_le_bytes().to_vec());
        batch.put(&Subscription(id), rows::encode(&row));
        for (partition, cursor) in topic.partitions.iter().zip(&cursors) {
            batch.put(&Cursor { subscription: id, partition: *partition }, rows::encode(cursor));
        }
        self.subscriptions.insert(id, SubscriptionState { row: row.clone(), cursors: cursors.clone() });
        effects.push(Effect::SubscriptionCreated { id, row, cursors });
        Ok(Outcome::Subscription(id))
    }

    fn delete_subscription(
        &mut self,
        name: &SubscriptionName,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let topic =
            self.subscriptions.values().find(|state| state.row.name == *name).map(|state| &state.row.topic);
        let topic = topic.ok_or_else(|| Error::UnknownSubscription(name.clone()))?;
        let partitions = self.topics.get(topic).map(|row| row.partitions.clone()).unwrap_or_default();
        self.delete_subscription_of(name, &partitions, batch, effects)?;
        Ok(Outcome::Done)
    }

    fn delete_subscription_of(
        &mut self,
        name: &SubscriptionName,
        partitions: &[PartitionId],
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let found = self.subscriptions.iter().find(|(_, state)| state.row.name == *name).map(|(id, _)| *id);
        let id = found.ok_or_else(|| Error::UnknownSubscription(name.clone()))?;
        let state = self.subscriptions.remove(&id);
        batch.remove(&Subscription(id));
        for partition in partitions {
            batch.remove(&Cursor { subscription: id, partition: *partition });
        }
        for binding in state.iter().flat_map(|state| &state.row.pipeline) {
            if !self.binds(&binding.sha256) {
                batch.remove(&ModuleBlob(binding.sha256));
            }
        }
        effects.push(Effect::SubscriptionDeleted { name: name.clone() });
        Ok(())
    }

    fn settle(&mut self, subscription: u32, next: &[(u32, Offset)], batch: &mut Batch) -> Outcome {
        // Deleted while the ack was on its way: there is nothing left to move.
        let Some(state) = self.subscriptions.get_mut(&subscription) else { return Outcome::Done };
        let Some(topic) = self.topics.get(&state.row.topic) else { return Outcome::Done };
        for (index, next) in next {
            let place = (state.cursors.get_mut(*index as usize), topic.partitions.get(*index as usize));
            let (Some(cursor), Some(partition)) = place else { continue };
            if *next > cursor.settled {
                cursor.settled = *next;
                batch.put(&Cursor { subscription, partition: *partition }, rows::encode(cursor));
            }
        }
        Outcome::Done
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one command, passed on once")]
    fn route(
        &mut self,
        subscription: Option<u32>,
        partition: u32,
        source: std::ops::Range<Offset>,
        outputs: Vec<(PartitionId, RecordBatch)>,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        // A sink that was deleted meanwhile must be seen before anything is changed.
        if outputs.iter().any(|(sink, _)| !self.partitions.contains_key(sink)) {
            return Err(Error::Gone);
        }
        if let Some(id) = subscription {
            let state = self.subscriptions.get_mut(&id).ok_or(Error::Gone)?;
            let topic = self.topics.get(&state.row.topic).ok_or(Error::Gone)?;
            let index = partition as usize;
            let place = (state.cursors.get_mut(index), topic.partitions.get(index));
            let (Some(cursor), Some(source_partition)) = place else { return Err(Error::Gone) };
            if cursor.routed > source.start {
                let (routed, start) = (cursor.routed, source.start);
                return Err(Error::Internal(format!("offset {start} was routed already, up to {routed}")));
            }
            cursor.routed = source.end;
            batch.put(&Cursor { subscription: id, partition: *source_partition }, rows::encode(cursor));
        }
        for (sink, records) in outputs {
            self.append(sink, records, now, batch, effects)?;
        }
        Ok(())
    }
}

fn limit(what: &'static str, found: usize, max: usize) -> Result<(), Error> {
    if found >= max { Err(Error::LimitReached { what, found }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;

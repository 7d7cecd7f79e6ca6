//! The shard: the state machine that all durable changes go through, in order. Deterministic: no clock, no randomness,
//! no I/O. What it decides goes into one atomic store batch and into [`Effect`]s, which are carried out after the commit.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use millstream_engine::StateSize;
use millstream_store::{Batch, IdentifiedBatch, NamedProducer, Producer, Receipt, Topic};
use millstream_types::{
    Compaction, Durability, ModuleName, Offset, PartitionId, ProcessorChange, ProducerId, ProducerName,
    ProducerStamp, RecordBatch, Retention, SubscriptionName, Timestamp, TopicConfig, TopicName,
    UnstoredRecords, limits::TOPIC_PARTITIONS_MAX,
};

use crate::{
    Error, Limits,
    bindings::Bindings,
    command::{Appended, Command, Outcome},
    limits::PARTITION_PRODUCERS_MAX,
    message_ids::MessageIds,
    producers::{Judgement, Producers},
    receipts::Receipts,
    rows::{
        self, IngestRow, ModuleRow, NEXT_PARTITION, NamedProducerRow, SubscriptionRow, TopicRow, TriedRow,
    },
    settled::Settled,
};

pub(crate) use modules::Modules;

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
    /// Other modules are on a topic's ingest from now on, or none.
    IngestSet {
        name: TopicName,
        ingest: IngestRow,
    },
    TopicDeleted {
        name: TopicName,
        partitions: Vec<PartitionId>,
    },
    SubscriptionCreated {
        id: u32,
        row: Box<SubscriptionRow>,
        cursors: Vec<(PartitionId, PartitionCursor)>,
    },
    SubscriptionDeleted {
        name: SubscriptionName,
    },
    /// Other modules judge a subscription's records from now on, or run beside.
    Rebound {
        name: SubscriptionName,
        bindings: Box<Bindings>,
    },
    /// What a subscription's modules emitted for records below is appended.
    Routed {
        name: SubscriptionName,
        partition: PartitionId,
        next: Offset,
        /// Records before, for which it is as well.
        again: Vec<Offset>,
    },
    /// Records of a subscription were settled, or are to be delivered again, by others than its consumers.
    Moved {
        name: SubscriptionName,
        settled: Vec<(PartitionId, Offset)>,
        reopened: Vec<(PartitionId, Offset)>,
        /// Of those, records of which nothing was routed.
        unrouted: Vec<(PartitionId, Offset)>,
    },
    /// A processor is done with `range`.
    Processed {
        name: SubscriptionName,
        partition: PartitionId,
        range: Range<Offset>,
        size: StateSize,
    },
    /// A processor is to be otherwise from now on.
    ProcessorChanged {
        name: SubscriptionName,
        change: ProcessorChange,
    },
    ModuleStored {
        name: ModuleName,
        row: ModuleRow,
    },
    ModuleDeleted {
        name: ModuleName,
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
    pub(crate) modules: Modules,
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
    pub(crate) compaction: Compaction,
    pub(crate) sync: bool,
    /// Timestamps do not run backwards within a partition, whatever the clock does.
    pub(crate) newest: Timestamp,
    pub(crate) producers: Producers,
    pub(crate) receipts: Receipts,
    pub(crate) ids: MessageIds,
}

#[derive(Debug, Clone)]
pub(crate) struct SubscriptionState {
    pub(crate) row: SubscriptionRow,
    /// Of each partition that it reads, ascending.
    pub(crate) cursors: Vec<(PartitionId, PartitionCursor)>,
    /// Of a processor's state.
    pub(crate) state: StateSize,
}

/// How far a subscription is in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PartitionCursor {
    pub(crate) settled: Settled,
    /// What modules emitted to other topics for records below is appended there.
    pub(crate) routed: Offset,
    /// Records that were delivered in vain.
    pub(crate) tried: BTreeMap<Offset, TriedRow>,
}

impl PartitionState {
    /// Removes the rows of a producer that is known no longer.
    fn forget_producer(&mut self, partition: PartitionId, producer: u64, batch: &mut Batch) {
        batch.remove(&Producer { partition, producer });
        for sequence in self.receipts.forget(producer) {
            batch.remove(&Receipt { partition, producer, sequence });
        }
    }
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
            Command::AppendAll { batches, now } => {
                let sync =
                    |(id, _): &(PartitionId, _)| self.partitions.get(id).is_some_and(|state| state.sync);
                let sync = batches.iter().any(sync);
                (self.append_all(batches, now, batch, effects).map(Outcome::AllAppended), sync)
            }
            Command::AppendJudged { partition, judged, now } => {
                let sync = self.partitions.get(&partition).is_some_and(|state| state.sync);
                (self.publish_judged(partition, judged, now, batch, effects), sync)
            }
            Command::AppendAllJudged { parts, now } => {
                let sync =
                    parts.iter().any(|(id, _)| self.partitions.get(id).is_some_and(|state| state.sync));
                (self.append_all_judged(parts, now, batch, effects).map(Outcome::AllAppended), sync)
            }
            Command::CreateJudgedTopic { name, config, pipeline, now } => {
                (self.create_judged_topic(name, *config, pipeline, now, batch, effects), true)
            }
            Command::SetIngest { name, pipeline, now } => {
                (self.set_ingest(&name, pipeline, now, batch, effects), true)
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
            Command::RaiseLowWatermark { partition, retention, from, to, freed_bytes, freed_holes } => {
                let freed = (freed_bytes, freed_holes);
                (Ok(self.raise_low_watermark(partition, retention, from..to, freed, batch)), true)
            }
            Command::Compact { partition, compaction, low, compacted, identified } => {
                let done = self.compact(partition, compaction, low, compacted, &identified, batch);
                (Ok(Outcome::Count(done.into())), false)
            }
            Command::DeleteTopic { name } => (self.delete_topic(&name, batch, effects), true),
            Command::PutModule { name, row, wasm } => {
                (self.put_module(name, *row, wasm, batch, effects), true)
            }
            Command::DeleteModule { name, now } => (self.delete_module(&name, now, batch, effects), true),
            Command::HoldModules { holder, pipeline } => (self.hold_modules(holder, pipeline), false),
            Command::ReleaseModules { holder } => (Ok(self.release_modules(&holder, batch)), false),
            Command::CreateSubscription { row, cursors } => {
                (self.create_subscription(*row, cursors, batch, effects), true)
            }
            Command::Rebind { name, expected, pipeline, on_fault, now } => {
                (self.rebind(&name, expected, pipeline, on_fault, now, batch, effects), true)
            }
            Command::SetShadow { name, pipeline } => (self.set_shadow(&name, pipeline, batch, effects), true),
            Command::DeleteSubscription { name } => (self.delete_subscription(&name, batch, effects), true),
            Command::Settle { subscription, settlements } => {
                self.settle(subscription, settlements, batch);
                (Ok(Outcome::Done), false)
            }
            Command::DeadLetter { subscription, sources, sink, letters, now } => {
                let sync = self.partitions.get(&sink).is_some_and(|state| state.sync);
                (self.dead_letter(subscription, &sources, sink, letters, now, batch, effects), sync)
            }
            Command::CloseLetters { subscription, letters } => {
                (self.close_letters(subscription, letters, batch, effects), true)
            }
            Command::Route { subscription, partition, from, to, again, outputs, now } => {
                let sync =
                    outputs.iter().any(|(sink, _)| self.partitions.get(sink).is_some_and(|state| state.sync));
                let routed =
                    self.route(subscription, partition, from..to, &again, outputs, now, batch, effects);
                (routed.map(|()| Outcome::Done), sync)
            }
            Command::ChangeProcessor { name, change } => {
                (self.change_processor(&name, change, batch, effects), true)
            }
            Command::Process(processed) => {
                let mut sinks = processed.outputs.iter();
                let sync = sinks.any(|(sink, _)| self.partitions.get(sink).is_some_and(|state| state.sync));
                (self.process(*processed, batch, effects), sync)
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
        if let Some(known) = self.appended_before(partition, stamp, records.view().len())? {
            return Ok(known);
        }
        let appended = self.append_fresh(partition, records, now, batch, effects)?;
        self.note_appended(partition, stamp, &appended, batch);
        Ok(Outcome::Appended(appended))
    }

    /// What is known of the batch of so many `records` that `stamp` marks, if it was appended before.
    fn appended_before(
        &self,
        partition: PartitionId,
        stamp: ProducerStamp,
        records: usize,
    ) -> Result<Option<Outcome>, Error> {
        if stamp.id == 0 {
            return Ok(None);
        }
        let fenced = |epoch| Error::ProducerFenced { id: stamp.id, epoch, found: stamp.epoch };
        if let Some(epoch) = self.epochs.get(&stamp.id).filter(|epoch| **epoch > stamp.epoch) {
            return Err(fenced(*epoch));
        }
        let state = self.partitions.get(&partition).ok_or(Error::Gone)?;
        match state.producers.judge(stamp) {
            Judgement::Append => Ok(None),
            Judgement::Duplicate(Some(appended)) => Ok(Some(Outcome::Appended(appended))),
            Judgement::Duplicate(None) => Ok(Some(Outcome::Duplicate { partition, stamp, records })),
            Judgement::Gap { expected } => {
                Err(Error::OutOfSequence { id: stamp.id, found: stamp.sequence, expected })
            }
            Judgement::Fenced { epoch } => Err(fenced(epoch)),
        }
    }

    fn note_appended(
        &mut self,
        partition: PartitionId,
        stamp: ProducerStamp,
        appended: &Appended,
        batch: &mut Batch,
    ) {
        if stamp.id == 0 {
            return;
        }
        let Some(state) = self.partitions.get_mut(&partition) else { return };
        for producer in state.producers.make_room_for(stamp.id, PARTITION_PRODUCERS_MAX) {
            state.forget_producer(partition, producer, batch);
        }
        state.producers.appended(stamp, appended.clone());
        // Often the same as that of the command before.
        let producer = Producer { partition, producer: stamp.id };
        if self.appended.last() != Some(&producer) {
            self.appended.push(producer);
        }
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
                state.forget_producer(*partition, producer, batch);
            }
        }
        Outcome::Done
    }

    fn append_all(
        &mut self,
        batches: Vec<(PartitionId, RecordBatch)>,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Vec<Appended>, Error> {
        // Whatever could be refused is seen before anything is changed.
        for (partition, records) in &batches {
            let state = self.partitions.get(partition).ok_or(Error::Gone)?;
            if state.ids.concern(records) {
                records.decompressed()?;
            }
        }
        let appended = batches
            .into_iter()
            .map(|(partition, records)| self.append_fresh(partition, records, now, batch, effects));
        appended.collect()
    }

    /// Appends what was not appended before by its message ids.
    fn append_fresh(
        &mut self,
        partition: PartitionId,
        records: RecordBatch,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Appended, Error> {
        self.append_fresh_of(partition, records, |_, _| false, now, batch, effects)
    }

    /// The same for a batch in which some records may be made of one, `siblings` by their positions.
    fn append_fresh_of(
        &mut self,
        partition: PartitionId,
        records: RecordBatch,
        siblings: impl Fn(usize, usize) -> bool,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Appended, Error> {
        let state = self.partitions.get(&partition).ok_or(Error::Gone)?;
        if !state.ids.concern(&records) {
            return self.append(partition, records, now, batch, effects);
        }
        let count = u32::try_from(records.view().len()).expect("a batch has at most 65,536 records");
        let Some(fresh) = state.ids.fresh_of(&records, siblings)? else {
            let appended = self.append(partition, records.clone(), now, batch, effects)?;
            self.remember_ids(partition, &records, &appended, batch);
            return Ok(appended);
        };
        let appended = match &fresh.batch {
            Some(rest) => {
                let appended = self.append(partition, rest.clone(), now, batch, effects)?;
                self.remember_ids(partition, rest, &appended, batch);
                appended
            }
            None => Appended {
                base_offset: 0,
                records: 0,
                timestamp: now.max(state.newest),
                offsets: Arc::default(),
                unstored: UnstoredRecords::default(),
            },
        };
        let offsets = fresh.offsets(appended.base_offset);
        let base_offset = offsets.first().copied().unwrap_or_default();
        Ok(Appended { base_offset, records: count, offsets: offsets.into(), ..appended })
    }

    fn remember_ids(
        &mut self,
        partition: PartitionId,
        records: &RecordBatch,
        appended: &Appended,
        batch: &mut Batch,
    ) {
        let Some(state) = self.partitions.get_mut(&partition) else { return };
        let base_offset = appended.base_offset;
        batch.put(&IdentifiedBatch { partition, base_offset }, Vec::new());
        for base_offset in state.ids.appended(records, base_offset, appended.timestamp) {
            batch.remove(&IdentifiedBatch { partition, base_offset });
        }
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
            offsets: Arc::default(),
            unstored: UnstoredRecords::default(),
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
        config.rate.check()?;
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
            let (producers, receipts) = (Producers::default(), Receipts::default());
            let ids = MessageIds::new(config.dedup_window_ms);
            let TopicConfig { retention, compaction, .. } = config;
            let (next, low, newest) = (0, 0, 0);
            let state =
                PartitionState { next, low, retention, compaction, sync, newest, producers, receipts, ids };
            self.partitions.insert(*partition, state);
        }
        let row = TopicRow { config, created_ms: now, partitions, ingest: IngestRow::default() };
        batch.put(&Topic(name.clone()), rows::encode(&row));
        self.topics.insert(name.clone(), row.clone());
        self.attach_readers(&name, &row.partitions, batch);
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
        self.detach_readers(name, &row.partitions, batch, effects);
        batch.remove(&Topic(name.clone()));
        for partition in &row.partitions {
            batch.delete_partition(*partition);
            let Some(mut state) = self.partitions.remove(partition) else { continue };
            for producer in state.producers.ids().collect::<Vec<_>>() {
                state.forget_producer(*partition, producer, batch);
            }
            for base_offset in state.ids.batches() {
                batch.remove(&IdentifiedBatch { partition: *partition, base_offset });
            }
        }
        for binding in &row.ingest.pipeline {
            self.drop_unneeded(&binding.sha256, batch);
        }
        effects.push(Effect::TopicDeleted { name: name.clone(), partitions: row.partitions });
        Ok(Outcome::Done)
    }
}

fn limit(what: &'static str, found: usize, max: usize) -> Result<(), Error> {
    if found >= max { Err(Error::LimitReached { what, found }) } else { Ok(()) }
}

mod ingest;
mod modules;
mod processing;
mod rebinding;
mod subscriptions;
#[cfg(test)]
mod tests;

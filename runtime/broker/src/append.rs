//! Appending what producers send: handed in, on its way, answered with a receipt.

use std::{collections::BTreeMap, sync::Arc};

use millstream_store::Store;
use millstream_types::{
    Check, PartitionId, ProducerStamp, RecordBatch, Timestamp, TopicName, limits::ATOMIC_BYTES_MAX,
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    Allowance, Broker, Error, Room, Topic,
    admission::weight,
    broker::now,
    command::{Appended, Command, Outcome, Reply},
    committer::answer,
    limits::SCHEDULE_AHEAD_MAX,
    rate::Weight,
};

impl Broker {
    /// Hands in `batch`, which was checked in full, for `partition` of `topic`, with its room. The receipt comes once the batch is
    /// as durable as the topic asks.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`], [`Error::SparseBatch`], [`Error::ScheduledTooFar`], [`Error::Stopping`].
    pub fn append_in(
        &self,
        room: Room,
        topic: &Topic,
        partition: u32,
        batch: RecordBatch,
    ) -> Result<PendingAppend, Error> {
        let partition = topic.partition(partition)?;
        if !batch.view().is_dense() {
            return Err(Error::SparseBatch);
        }
        let now = now();
        check_schedule(&batch, now)?;
        let command = Command::Append { partition, batch, now };
        let reply = self.shared.submitter.hand_in(command, room)?;
        Ok(PendingAppend { store: self.shared.store.clone(), answer: PendingAnswer::Commit(reply) })
    }

    /// [`append_in`](Self::append_in) for a connection that has nothing else on its way.
    #[cfg(test)]
    pub(crate) async fn append(
        &self,
        topic: &Topic,
        partition: u32,
        batch: RecordBatch,
    ) -> Result<PendingAppend, Error> {
        let connection = Allowance::new(&self.shared.limits);
        let room = self.room_for(&batch, &connection, topic, |_| {}).await?;
        self.append_in(room, topic, partition, batch)
    }

    /// Appends batches, each checked in full, to partitions of any topics: all of them or none. Not cancel-safe: they may be
    /// appended all the same.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], [`Error::SparseBatch`], [`Error::WrongProducer`] for a batch that
    /// is marked, [`Error::TooLarge`], [`Error::SlowDown`] when there is no room for them soon, [`Error::ScheduledTooFar`], [`Error::Gone`] when a topic was deleted meanwhile;
    /// nothing is appended then.
    pub async fn append_all(
        &self,
        connection: &Allowance,
        batches: Vec<(TopicName, u32, RecordBatch)>,
    ) -> Result<Vec<Appended>, Error> {
        let (now, mut bytes) = (now(), 0);
        let mut weights: BTreeMap<TopicName, (Arc<Topic>, Weight)> = BTreeMap::new();
        let placed = batches.into_iter().map(|(topic, partition, batch)| {
            let view = batch.view();
            if !view.is_dense() {
                return Err(Error::SparseBatch);
            }
            if view.producer().id != 0 {
                return Err(Error::WrongProducer { found: view.producer().id, expected: 0 });
            }
            check_schedule(&batch, now)?;
            bytes += batch.as_bytes().len();
            let (of, weight) = (self.topic(&topic)?, weight(&batch));
            let place = of.partition(partition)?;
            let (_, sum) = weights.entry(topic).or_insert((of, Weight::default()));
            *sum += weight;
            Ok((place, batch))
        });
        let batches = placed.collect::<Result<Vec<_>, _>>()?;
        if bytes > ATOMIC_BYTES_MAX {
            return Err(Error::TooLarge { what: "an atomic publish", bytes, max: ATOMIC_BYTES_MAX });
        }
        let weights: Vec<_> = weights.values().map(|(topic, weight)| (topic.as_ref(), *weight)).collect();
        let room = self.room_at_once(connection, &weights).await?;
        let appended = self.shared.submitter.hand_in(Command::AppendAll { batches, now }, room)?;
        match answer(appended).await? {
            Outcome::AllAppended(appended) => Ok(appended),
            other => Err(Error::Internal(format!("an atomic publish was answered by {other:?}"))),
        }
    }
}

/// Whether no record of `batch` is to be delivered too far ahead.
fn check_schedule(batch: &RecordBatch, now: Timestamp) -> Result<(), Error> {
    let view = batch.view();
    if !view.is_timed() {
        return Ok(());
    }
    let last =
        now.saturating_add(Timestamp::try_from(SCHEDULE_AHEAD_MAX.as_millis()).unwrap_or(Timestamp::MAX));
    let too_far = view.records().filter_map(|record| record.deliver_at).find(|at| *at > last);
    too_far.map_or(Ok(()), |deliver_at| Err(Error::ScheduledTooFar { deliver_at, last }))
}

/// An append that was handed in.
#[derive(Debug)]
pub struct PendingAppend {
    pub(crate) store: Store,
    pub(crate) answer: PendingAnswer,
}

/// What an append waits for.
#[derive(Debug)]
pub(crate) enum PendingAnswer {
    Commit(oneshot::Receiver<Reply>),
    /// It was appended before, longer ago than the shard remembers where.
    Search(JoinHandle<Result<Appended, Error>>),
}

impl PendingAppend {
    /// Waits until the batch is as durable as its topic asks; a duplicate is told where the original stands. Cancel-safe:
    /// cancelling gives up the receipt alone.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the write failed, [`Error::Gone`] when the topic was deleted meanwhile,
    /// [`Error::OutOfSequence`] and [`Error::ProducerFenced`] for batches of idempotent producers.
    pub async fn receipt(self) -> Result<Appended, Error> {
        let searching = match self.answer {
            PendingAnswer::Commit(reply) => match self::settle(&self.store, answer(reply).await) {
                Ok(settled) => return settled,
                Err(searching) => searching,
            },
            PendingAnswer::Search(searching) => searching,
        };
        searching.await.map_err(|error| Error::Internal(error.to_string()))?
    }

    /// The receipt if it is there by now; nothing more comes after it.
    pub fn try_receipt(&mut self) -> Option<Result<Appended, Error>> {
        let PendingAnswer::Commit(reply) = &mut self.answer else { return None };
        let reply = match reply.try_recv() {
            Ok(reply) => reply,
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => Err(Error::Stopping),
        };
        match settle(&self.store, reply) {
            Ok(settled) => Some(settled),
            Err(searching) => {
                self.answer = PendingAnswer::Search(searching);
                None
            }
        }
    }
}

/// What `reply` says; or the search that will tell.
fn settle(
    store: &Store,
    reply: Reply,
) -> Result<Result<Appended, Error>, JoinHandle<Result<Appended, Error>>> {
    match reply {
        Ok(Outcome::Appended(appended)) => Ok(Ok(appended)),
        Ok(Outcome::Duplicate { partition, stamp, records }) => {
            let store = store.clone();
            Err(tokio::task::spawn_blocking(move || search(&store, partition, stamp, records)))
        }
        Ok(other) => Ok(Err(Error::Internal(format!("an append was answered by {other:?}")))),
        Err(error) => Ok(Err(error)),
    }
}

/// Where the batch that `stamp` marks stands, looked for from the end of the log.
fn search(
    store: &Store,
    partition: PartitionId,
    stamp: ProducerStamp,
    records: usize,
) -> Result<Appended, Error> {
    let row = store.partition(partition).ok_or(Error::Gone)?;
    let mut end = row.next_offset;
    while let Some(last) = end.checked_sub(1)
        && last >= row.low_watermark
        && let Some(stored) = store.batch_at(partition, last)?
    {
        let batch = RecordBatch::new(stored.bytes, Check::Header)?;
        let view = batch.view();
        let found = view.producer();
        if found == stamp {
            // Cut otherwise than it was, or some of it was left out by its message ids.
            if view.len() != records {
                break;
            }
            return Ok(Appended {
                base_offset: stored.base_offset,
                records: u32::try_from(view.len()).unwrap_or(u32::MAX),
                timestamp: view.timestamp(),
                offsets: Arc::default(),
            });
        }
        // Its batches are in order: what is not behind the ones before it is not there.
        let before = found.sequence.wrapping_sub(stamp.sequence) > u32::MAX / 2;
        if (found.id, found.epoch) == (stamp.id, stamp.epoch) && before {
            break;
        }
        end = stored.base_offset;
    }
    Err(Error::DuplicateGone { id: stamp.id, sequence: stamp.sequence })
}

//! Appending what producers send: handed in, on its way, answered with a receipt.

use std::{collections::BTreeMap, sync::Arc};

use millstream_store::{Receipt, Store};
use millstream_types::{
    Check, PartitionId, ProducerStamp, RecordBatch, Timestamp, TopicName, UnstoredRecords,
    limits::ATOMIC_BYTES_MAX,
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::{
    Allowance, Broker, Error, Room, Topic,
    admission::weight,
    broker::now,
    command::{Appended, Command, Outcome, Reply},
    committer::answer,
    ingest::{Judged, first_refused},
    limits::{ONE_SHOT_WAIT, SCHEDULE_AHEAD_MAX},
    rate::Weight,
    receipts::ReceiptRow,
    rows,
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
        let (index, partition) = (partition, topic.partition(partition)?);
        if !batch.view().is_dense() {
            return Err(Error::SparseBatch);
        }
        let now = now();
        check_schedule(&batch, now)?;
        let pending = |reply| {
            Ok(PendingAppend { store: self.shared.store.clone(), answer: PendingAnswer::Commit(reply) })
        };
        let (batch, room) = match topic.ingest() {
            None => (batch, room),
            Some(ingest) => match ingest.offer(&self.shared, index, batch, room) {
                Ok(reply) => return pending(reply),
                Err(back) => back,
            },
        };
        let command = Command::Append { partition, batch, now };
        pending(self.shared.submitter.hand_in(command, room)?)
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
    /// is marked, [`Error::TooLarge`], [`Error::SlowDown`] when there is no room for them soon, [`Error::ScheduledTooFar`],
    /// [`Error::Gone`] when a topic was deleted meanwhile, [`Error::RecordRefused`] and [`Error::IngestFaulted`] by modules on the
    /// ingest of one of the topics; nothing is appended then.
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
            let (of, sum) = weights.entry(topic).or_insert((of, Weight::default()));
            *sum += weight;
            Ok(Part { topic: Arc::clone(of), index: partition, partition: place, batch })
        });
        let parts = placed.collect::<Result<Vec<_>, _>>()?;
        if bytes > ATOMIC_BYTES_MAX {
            return Err(Error::TooLarge { what: "an atomic publish", bytes, max: ATOMIC_BYTES_MAX });
        }
        let weights: Vec<_> = weights.values().map(|(topic, weight)| (topic.as_ref(), *weight)).collect();
        let room = self.room_at_once(connection, &weights).await?;
        let appended = match parts.iter().any(|part| part.topic.judging().is_some()) {
            true => self.hand_in_judged(parts, room).await?,
            false => {
                let batches = parts.into_iter().map(|part| (part.partition, part.batch)).collect();
                self.shared.submitter.hand_in(Command::AppendAll { batches, now }, room)?
            }
        };
        match answer(appended).await? {
            Outcome::AllAppended(appended) => Ok(appended),
            other => Err(Error::Internal(format!("an atomic publish was answered by {other:?}"))),
        }
    }
}

/// A batch of an atomic publish.
struct Part {
    topic: Arc<Topic>,
    /// Of the partition within the topic.
    index: u32,
    partition: PartitionId,
    batch: RecordBatch,
}

impl Broker {
    /// Has the batches judged whose topics have modules on their ingest, and hands all of them in, unless one is refused.
    async fn hand_in_judged(&self, parts: Vec<Part>, room: Room) -> Result<oneshot::Receiver<Reply>, Error> {
        let room = Arc::new(room);
        // All are on their way before the first is waited for.
        let judging: Vec<_> = parts
            .into_iter()
            .map(|Part { topic, index, partition, batch }| {
                let pending = match topic.judging() {
                    Some(ingest) => Err(ingest.judge(&self.shared, index, batch, Arc::clone(&room))),
                    None => Ok(Judged::untouched(batch)),
                };
                (topic, partition, pending)
            })
            .collect();
        let mut parts = Vec::with_capacity(judging.len());
        for (part, (topic, partition, pending)) in judging.into_iter().enumerate() {
            let judged = match pending {
                Ok(judged) => judged,
                Err(answer) => answer.await.unwrap_or(Err(Error::Stopping))?,
            };
            if let Some((record, why)) = first_refused(&judged) {
                let (topic, why) = (topic.name().clone(), why.clone());
                return Err(Error::RecordRefused { part, record, topic, why });
            }
            parts.push((partition, judged));
        }
        let command = Command::AppendAllJudged { parts, now: now() };
        let (submitter, bytes) = (&self.shared.submitter, command.size_bytes());
        let room = timeout(ONE_SHOT_WAIT, Room::from(room).widened(submitter.backlog(), bytes)).await;
        submitter.hand_in(command, room.unwrap_or_else(|_| Err(self.backlog_is_full()))?)
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
    let told = Receipt { partition, producer: stamp.id, sequence: stamp.sequence };
    if let Some(row) = store.get(&told)? {
        let row: ReceiptRow = rows::decode("receipt", &row)?;
        if let Some(appended) = row.into_appended(stamp, records) {
            return Ok(appended);
        }
    }
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
                unstored: UnstoredRecords::default(),
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

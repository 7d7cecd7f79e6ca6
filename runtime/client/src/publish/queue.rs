//! What a publisher holds: batches that fill, batches that wait to be sent, batches that wait for their receipt.
//! Free of I/O and clocks. Batches leave in the order in which they filled, and again in that order after a reconnect.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use millstream_types::{
    BatchBuilder, Compression, ProducerId, ProducerStamp, Record, RecordBatch, limits, partition_for_key,
};
use millstream_wire::{Answer, ErrorCode, Receipt, WireError};
use tokio::time::Instant;

use super::outcome::{Outcome, Pending, PendingBatch, refused_by};
use crate::{
    CallError, PublishError, Reconnect,
    backoff::Spell,
    limits::{EAGER_BATCHES, RETRY_AFTER_MAX},
};

/// What fixes how a queue behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) partitions: u32,
    /// A batch is full at this size.
    pub(super) batch_bytes: usize,
    /// How long a batch may wait to fill while others are on the way; zero: as little as possible.
    pub(super) linger: Duration,
    pub(super) compression: Compression,
    /// Most batches without receipt.
    pub(super) in_flight_max: usize,
    pub(super) retry: Reconnect,
    /// With what batches are marked.
    pub(super) producer: ProducerId,
}

/// What a publisher has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublishCounts {
    /// Records that are stored, as their receipts say.
    pub records: u64,
    /// Records that modules on the topic's ingest dropped.
    pub dropped: u64,
    /// Records that they rejected, or failed on.
    pub rejected: u64,
    /// Batches with a receipt.
    pub batches: u64,
    /// Bytes of those batches.
    pub bytes: u64,
    /// Batches that failed.
    pub failed_batches: u64,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this, and tell [`Queue::sent`] before.
    Send(Unsent),
    /// Nothing to do before this time, unless something is pushed or answered.
    At(Instant),
    /// Nothing to do until something is pushed or answered.
    Idle,
    /// A batch is given up for good, so that those behind it would be refused: the producer must begin anew.
    Renew,
    /// Closed, and all is answered.
    Done,
}

/// A batch to be sent, not yet encoded if it is new: that is done outside the queue's lock.
#[derive(Debug)]
pub(super) struct Unsent {
    /// In the order in which batches filled.
    rank: u64,
    partition: u32,
    content: Content,
    mark: Option<Mark>,
    outcome: Arc<Outcome>,
    cost: usize,
}

/// How a batch is marked so that the broker knows it again.
#[derive(Debug, Clone, Copy)]
struct Mark {
    stamp: ProducerStamp,
    /// It may be stored: it must go again just so.
    unknown: bool,
}

#[derive(Debug)]
enum Content {
    Open(BatchBuilder),
    Built(RecordBatch),
}

/// A batch as it goes over the wire, kept until its receipt.
#[derive(Debug)]
pub(super) struct Sealed {
    rank: u64,
    pub(super) partition: u32,
    pub(super) batch: RecordBatch,
    mark: Mark,
    outcome: Arc<Outcome>,
    cost: usize,
}

impl Unsent {
    fn records(&self) -> u32 {
        let records = match &self.content {
            Content::Open(builder) => builder.len(),
            Content::Built(batch) => batch.view().len(),
        };
        u32::try_from(records).expect("a batch has at most 65,536 records")
    }

    fn is_unknown(&self) -> bool {
        self.mark.is_some_and(|mark| mark.unknown)
    }

    /// Encodes the batch.
    pub(super) fn seal(self) -> Result<Sealed, Failed> {
        let Self { rank, partition, content, mark, outcome, cost } = self;
        let mark = mark.expect("set as it was handed out");
        let built = match content {
            Content::Built(batch) if batch.view().producer() == mark.stamp => Ok(batch),
            Content::Built(batch) => Ok(batch.with_producer(mark.stamp)),
            Content::Open(builder) => builder.with_producer(mark.stamp).build(),
        };
        match built {
            Ok(batch) => Ok(Sealed { rank, partition, batch, mark, outcome, cost }),
            Err(error) => Err(Failed { outcome, cost, error: error.into() }),
        }
    }
}

/// A batch that will get no receipt.
#[derive(Debug)]
pub(super) struct Failed {
    outcome: Arc<Outcome>,
    cost: usize,
    error: PublishError,
}

#[derive(Debug)]
struct Filling {
    partition: u32,
    builder: BatchBuilder,
    outcome: Arc<Outcome>,
    cost: usize,
    since: Instant,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Queue {
    settings: Settings,
    /// Partition of the records without key, until its batch is closed.
    keyless: u32,
    /// At most one a partition, oldest first.
    filling: VecDeque<Filling>,
    ready: VecDeque<Unsent>,
    sent: VecDeque<Sealed>,
    /// Refused for now, in the order they were sent; go first once all that was sent is answered.
    refused: VecDeque<Sealed>,
    /// Since the broker began to refuse, and when to try again.
    refusing: Option<(Spell, Instant)>,
    /// What fills is sent at once, as someone waits for it.
    flushing: bool,
    closing: bool,
    /// First failure since the last flush.
    failure: Option<PublishError>,
    ended: Option<PublishError>,
    counts: PublishCounts,
    /// Of the batch that is being encoded.
    encoding: Option<Arc<Outcome>>,
    /// Batches that filled so far.
    filled: u64,
    /// Number of the next record of each partition.
    sequences: Vec<u32>,
    /// The producer must begin anew, once nothing is left that may be stored.
    renew: bool,
}

impl Queue {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            sequences: vec![0; settings.partitions as usize],
            filled: 0,
            renew: false,
            settings,
            keyless: 0,
            filling: VecDeque::new(),
            ready: VecDeque::new(),
            sent: VecDeque::new(),
            refused: VecDeque::new(),
            refusing: None,
            flushing: false,
            closing: false,
            failure: None,
            ended: None,
            counts: PublishCounts::default(),
            encoding: None,
        }
    }

    /// Adds a record to the batch of its partition: `partition`, or that of its key, or the next in turn. The second
    /// value says whether the sender should look. `cost` is returned by [`answer`](Self::answer) once it is done.
    pub(super) fn push(
        &mut self,
        partition: Option<u32>,
        record: &Record,
        cost: usize,
        now: Instant,
    ) -> Result<(Pending, bool), PublishError> {
        self.check_open()?;
        let mut closed_one = false;
        let mut partition_now = self.choose(partition, record);
        if self.close_if_full(partition_now, cost) {
            closed_one = true;
            // A record without key goes on to the next partition.
            partition_now = self.choose(partition, record);
            self.close_if_full(partition_now, cost);
        }
        let partition = partition_now;
        let position = self.filling.iter().position(|batch| batch.partition == partition);
        let batch = match position.and_then(|position| self.filling.get_mut(position)) {
            Some(batch) => {
                batch.builder.push(record)?;
                batch
            }
            None => {
                let mut builder = BatchBuilder::new().with_compression(self.settings.compression);
                builder.push(record)?;
                let outcome = Outcome::new();
                self.filling.push_back(Filling { partition, builder, outcome, cost: 0, since: now });
                self.filling.back_mut().expect("pushed in the line above")
            }
        };
        batch.cost += cost;
        let index = u32::try_from(batch.builder.len() - 1).expect("a batch has at most 65,536 records");
        let pending = batch.outcome.record(index);
        let full = self.close_if_full(partition, 1);
        let first = self.filling.len() == 1 && self.sent.len() < EAGER_BATCHES;
        Ok((pending, closed_one || full || first || !self.settings.linger.is_zero()))
    }

    /// Adds a whole batch behind what fills for its partition.
    pub(super) fn push_batch(
        &mut self,
        partition: u32,
        batch: RecordBatch,
        cost: usize,
    ) -> Result<PendingBatch, PublishError> {
        self.check_open()?;
        if let Some(position) = self.filling.iter().position(|batch| batch.partition == partition) {
            self.close(position);
        }
        let outcome = Outcome::new();
        let pending = outcome.batch();
        self.fill(partition, Content::Built(batch), outcome, cost);
        Ok(pending)
    }

    /// What to do next at the time `now`.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.sent.len() >= self.settings.in_flight_max {
            return Next::Idle;
        }
        if self.renew && !self.is_empty() {
            return self.next_before_renewal(now);
        }
        if !self.refused.is_empty() {
            // What was sent behind a refused batch is answered first, so that all refused ones go again in order.
            let retry_at = self.refusing.as_ref().map_or(now, |(_, at)| *at);
            if !self.sent.is_empty() {
                return Next::Idle;
            }
            if now < retry_at {
                return Next::At(retry_at);
            }
            self.requeue();
        }
        if let Some(unsent) = self.ready.pop_front() {
            return self.hand_out(unsent);
        }
        let Some(oldest) = self.filling.front() else {
            self.flushing = false;
            let done = self.closing && self.sent.is_empty();
            return if done { Next::Done } else { Next::Idle };
        };
        let due = oldest.since + self.settings.linger;
        let hurry = self.flushing || self.closing;
        if self.settings.linger.is_zero() && !hurry && self.sent.len() >= EAGER_BATCHES {
            return Next::Idle;
        }
        if now < due && !hurry {
            return Next::At(due);
        }
        self.close(0);
        match self.ready.pop_front() {
            Some(unsent) => self.hand_out(unsent),
            None => Next::Idle,
        }
    }

    /// What may be stored goes again as it was; when nothing is left of that, the producer begins anew.
    fn next_before_renewal(&mut self, now: Instant) -> Next {
        if !self.sent.is_empty() {
            return Next::Idle;
        }
        if let Some((_, retry_at)) = self.refusing.as_ref().filter(|_| !self.refused.is_empty())
            && now < *retry_at
        {
            return Next::At(*retry_at);
        }
        self.requeue();
        let unknown = self.ready.iter().position(Unsent::is_unknown);
        match unknown.and_then(|position| self.ready.remove(position)) {
            Some(unsent) => self.hand_out(unsent),
            None => Next::Renew,
        }
    }

    /// While it is encoded it is in no queue, and a flush must wait for it all the same.
    fn hand_out(&mut self, mut unsent: Unsent) -> Next {
        self.encoding = Some(unsent.outcome.clone());
        let ProducerId { id, epoch } = self.settings.producer;
        let marked = unsent.mark.filter(|mark| mark.stamp.id == id && mark.stamp.epoch == epoch);
        if marked.is_none()
            && let Some(sequence) = self.sequences.get_mut(unsent.partition as usize)
        {
            let stamp = ProducerStamp { id, epoch, sequence: *sequence };
            *sequence = sequence.wrapping_add(unsent.records());
            unsent.mark = Some(Mark { stamp, unknown: false });
        }
        Next::Send(unsent)
    }

    /// The identity to go on with when the stream is opened again, and whether to begin anew.
    pub(super) fn identity(&self) -> (ProducerId, bool) {
        (self.settings.producer, self.renew && !self.in_doubt())
    }

    /// Whether something may be stored of which that is not known.
    fn in_doubt(&self) -> bool {
        self.sent.iter().chain(&self.refused).any(|batch| batch.mark.unknown)
            || self.ready.iter().any(Unsent::is_unknown)
    }

    /// The stream is open, for `producer`.
    pub(super) fn opened(&mut self, producer: ProducerId) {
        if producer != self.settings.producer {
            self.settings.producer = producer;
            self.sequences.fill(0);
            self.renew = false;
        }
    }

    /// `sealed` is about to be sent.
    pub(super) fn sent(&mut self, sealed: Sealed) {
        self.encoding = None;
        self.sent.push_back(sealed);
    }

    /// A batch that could not even be encoded. Returns its cost.
    pub(super) fn failed(&mut self, failed: Failed) -> usize {
        self.encoding = None;
        self.renew = true;
        self.fail(&failed.outcome, failed.error);
        failed.cost
    }

    /// The answer to the oldest batch sent. Returns the cost that is free again; `None` when nothing was asked.
    /// `chance` is random, for the wait when the broker refuses for now.
    pub(super) fn answer(
        &mut self,
        answer: Answer<Receipt>,
        now: Instant,
        chance: impl FnOnce() -> u32,
    ) -> Option<usize> {
        let mut batch = self.sent.pop_front()?;
        match answer {
            Answer::Ok(receipt) => {
                self.refusing = None;
                self.count(&receipt, batch.batch.view().len());
                self.counts.batches += 1;
                self.counts.bytes += batch.batch.as_bytes().len() as u64;
                batch.outcome.settle(Ok(receipt));
                Some(batch.cost)
            }
            Answer::Err(error) if error.retryable => {
                // Other refusals say nothing of an attempt before.
                match error.code {
                    ErrorCode::OutcomeUnknown => batch.mark.unknown = true,
                    ErrorCode::OutOfSequence => batch.mark.unknown = false,
                    _ => {}
                }
                // Nothing of ours is missing before it: the broker has forgotten us.
                let partition = batch.partition;
                self.renew |= error.code == ErrorCode::OutOfSequence
                    && !self.refused.iter().any(|refused| refused.partition == partition);
                Some(self.refuse(batch, error, now, chance))
            }
            Answer::Err(error) => {
                self.renew = true;
                self.fail(&batch.outcome, PublishError::Refused(error));
                Some(batch.cost)
            }
        }
    }

    /// The stream is gone: everything without a receipt is to be sent again, in order.
    pub(super) fn disconnected(&mut self) {
        for batch in &mut self.sent {
            batch.mark.unknown = true;
        }
        self.requeue();
    }

    /// Sends what fills without waiting for more, and returns all that has no receipt yet.
    pub(super) fn flush(&mut self) -> Vec<PendingBatch> {
        self.flushing = !self.filling.is_empty();
        let refused = self.refused.iter().map(|batch| &batch.outcome);
        let sent = self.sent.iter().map(|batch| &batch.outcome);
        let ready = self.ready.iter().map(|batch| &batch.outcome);
        let filling = self.filling.iter().map(|batch| &batch.outcome);
        refused.chain(sent).chain(&self.encoding).chain(ready).chain(filling).map(Outcome::batch).collect()
    }

    /// The first failure since this was last asked.
    pub(super) fn take_failure(&mut self) -> Option<PublishError> {
        self.failure.take()
    }

    /// What was done so far.
    pub(super) fn counts(&self) -> PublishCounts {
        self.counts
    }

    /// No more is taken; what is there is sent.
    pub(super) fn close_down(&mut self) {
        self.closing = true;
    }

    /// Everything that is left fails with `error`, and so does everything to come.
    pub(super) fn end(&mut self, error: &PublishError) {
        self.requeue();
        while !self.filling.is_empty() {
            self.close(0);
        }
        for batch in std::mem::take(&mut self.ready) {
            self.fail(&batch.outcome, error.clone());
        }
        self.ended = Some(error.clone());
    }

    /// Whether there is nothing without a receipt.
    pub(super) fn is_empty(&self) -> bool {
        self.filling.is_empty() && self.ready.is_empty() && self.sent.is_empty() && self.refused.is_empty()
    }

    /// Why nothing is taken any more.
    pub(super) fn check_open(&self) -> Result<(), PublishError> {
        match &self.ended {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(PublishError::Closed),
            None => Ok(()),
        }
    }

    fn choose(&self, partition: Option<u32>, record: &Record) -> u32 {
        // Without a key, the same message id goes to the same partition, which remembers it.
        match (partition, record.key.as_ref().or(record.message_id.as_ref())) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, self.settings.partitions),
            (None, None) => self.keyless,
        }
    }

    fn refuse(
        &mut self,
        batch: Sealed,
        error: WireError,
        now: Instant,
        chance: impl FnOnce() -> u32,
    ) -> usize {
        // A batch refused behind another belongs to the same spell, and does not lengthen its wait.
        if self.refused.is_empty() && error.code != ErrorCode::OutOfSequence {
            let mut spell = match self.refusing.take() {
                Some((spell, _)) => spell,
                None => Spell::behind_a_failure(self.settings.retry, now),
            };
            // Not before the broker asks for it.
            let after = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
            match spell.failed(now, chance()) {
                Ok(at) => self.refusing = Some((spell, at.max(now + after))),
                Err(after) => {
                    // The spell lasts until something is accepted: what follows gets one attempt each.
                    self.refusing = Some((spell, now));
                    self.renew = true;
                    let last = Box::new(CallError::Refused(error));
                    self.fail(&batch.outcome, PublishError::GaveUp { after, last });
                    return batch.cost;
                }
            }
        }
        self.refused.push_back(batch);
        0
    }

    /// Counts the records of a batch, and notes the first that was not let in.
    fn count(&mut self, receipt: &Receipt, records: usize) {
        let mut stored = records as u64;
        for (_, why) in receipt.unstored.iter().take(records) {
            stored -= 1;
            match refused_by(why) {
                None => self.counts.dropped += 1,
                Some(refused) => {
                    self.counts.rejected += 1;
                    self.failure.get_or_insert(refused);
                }
            }
        }
        self.counts.records += stored;
    }

    fn fail(&mut self, outcome: &Outcome, error: PublishError) {
        self.counts.failed_batches += 1;
        outcome.settle(Err(error.clone()));
        // That of a single record says less.
        match &self.failure {
            Some(known) if !known.is_of_record() => {}
            _ => self.failure = Some(error),
        }
    }

    fn requeue(&mut self) {
        for batch in self.refused.drain(..).chain(self.sent.drain(..)) {
            let Sealed { rank, partition, batch, mark, outcome, cost } = batch;
            let content = Content::Built(batch);
            self.ready.push_back(Unsent { rank, partition, content, mark: Some(mark), outcome, cost });
        }
        self.ready.make_contiguous().sort_by_key(|unsent| unsent.rank);
    }

    /// Closes the batch of `partition` when `more` bytes would overfill it. Says whether it did.
    fn close_if_full(&mut self, partition: u32, more: usize) -> bool {
        let full = self.filling.iter().position(|batch| {
            batch.partition == partition
                && (batch.builder.bytes_len() + more > self.settings.batch_bytes
                    || batch.builder.len() >= limits::BATCH_RECORDS_MAX)
        });
        full.inspect(|&position| self.close(position)).is_some()
    }

    fn close(&mut self, position: usize) {
        let Some(batch) = self.filling.remove(position) else { return };
        if batch.partition == self.keyless {
            self.keyless = (self.keyless + 1) % self.settings.partitions.max(1);
        }
        let Filling { partition, builder, outcome, cost, .. } = batch;
        self.fill(partition, Content::Open(builder), outcome, cost);
    }

    fn fill(&mut self, partition: u32, content: Content, outcome: Arc<Outcome>, cost: usize) {
        self.filled += 1;
        self.ready.push_back(Unsent { rank: self.filled, partition, content, mark: None, outcome, cost });
    }
}

/// Bytes of a batch that holds `record` alone.
pub(super) fn alone_bytes(record: &Record) -> usize {
    /// Header, row, flags and timestamp, with room for the optional numbers.
    const FIXED: usize = 64 + 12 + 5 + 16;
    let headers = record.headers.iter().map(|header| 6 + header.name.len() + header.value.len());
    FIXED
        + record.key.as_ref().map_or(0, |key| 4 + key.len())
        + record.message_id.as_ref().map_or(0, |id| 1 + id.len())
        + headers.fold(2usize, usize::saturating_add)
        + record.payload.as_ref().map_or(0, |payload| payload.len())
}

#[cfg(test)]
mod tests;

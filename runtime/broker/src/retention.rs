//! Retention: which batches of a partition its topic's limits let go, and the thread that lets them.
//!
//! The thread looks at the log, since only that knows where batches begin; the shard raises the low watermark. So nothing is
//! kept in memory for it, the committer reads nothing, and the thread may take its time. It also has the store take back
//! the disk space.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use millstream_store::{Batch, PartitionRow, Store, Topic as TopicKey};
use millstream_types::{
    BatchView, Check, Offset, PartitionId, RecordBatch, Retention, Timestamp, TopicChange, TopicName,
};
use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    Error, Place, Topic,
    broker::now,
    catalog::Catalog,
    command::{Command, Outcome, Reply},
    committer::{Submitter, answer},
    fetch::{Fetched, Source},
    limits::{CUT_BATCHES_MAX, CUTS_MAX, RETENTION_STOP},
    rows,
    shard::{Effect, Shard},
};

impl Shard {
    pub(crate) fn update_topic(
        &mut self,
        name: &TopicName,
        changes: &[TopicChange],
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let row = self.topics.get_mut(name).ok_or_else(|| Error::UnknownTopic(name.clone()))?;
        let mut config = row.config.clone();
        changes.iter().for_each(|change| config.apply(*change));
        config.rate.check()?;
        if row.config == config {
            return Ok(Outcome::Done);
        }
        row.config = config;
        batch.put(&TopicKey(name.clone()), rows::encode(row));
        for partition in &row.partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.retention = row.config.retention;
            }
        }
        effects.push(Effect::TopicUpdated { name: name.clone(), config: row.config.clone() });
        Ok(Outcome::Done)
    }

    pub(crate) fn raise_low_watermark(
        &mut self,
        partition: PartitionId,
        retention: Retention,
        gone: Range<Offset>,
        freed_bytes: u64,
        batch: &mut Batch,
    ) -> Outcome {
        let Some(state) = self.partitions.get_mut(&partition) else { return Outcome::Done };
        // Decided before something changed: it is decided anew.
        let holds = state.retention == retention && state.low == gone.start;
        if holds && gone.start < gone.end && gone.end < state.next {
            state.low = gone.end;
            batch.raise_low_watermark(partition, gone.end, freed_bytes);
        }
        Outcome::Done
    }
}

/// Batches of a partition that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The low watermark, from which on they go.
    pub(crate) from: Offset,
    /// Base offset of the first batch that stays.
    pub(crate) to: Offset,
    pub(crate) freed_bytes: u64,
    /// Whether more may go: a step is bounded.
    pub(crate) more: bool,
}

/// When the oldest batch kept of each partition was appended, with its offset: so that what is not due costs no read.
type Oldest = HashMap<PartitionId, (Offset, Timestamp)>;

/// The oldest batches of `partition` that `retention` lets go at `now`: each of them is too old, or has enough bytes or
/// records behind it. The newest batch stays.
pub(crate) fn cut(
    store: &Store,
    partition: PartitionId,
    retention: Retention,
    now: Timestamp,
    oldest: &mut Oldest,
) -> Result<Option<Cut>, Error> {
    let Some(row) = store.partition(partition) else { return Ok(None) };
    let from = row.low_watermark;
    let Some(newest) = row.newest.filter(|newest| *newest > from) else { return Ok(None) };
    let by_age = match retention.age_ms {
        Some(age_ms) => {
            let age_ms = Timestamp::try_from(age_ms.get()).unwrap_or(Timestamp::MAX);
            too_old(store, partition, &row, from..newest, now.saturating_sub(age_ms), oldest)?
        }
        None => from,
    };
    let by_records = match retention.records.and_then(|keep| row.next_offset.checked_sub(keep.get())) {
        Some(end) if end > from => store.batch_at(partition, end)?.map_or(from, |batch| batch.base_offset),
        _ => from,
    };
    let sure = by_age.max(by_records).min(newest);
    let spare_bytes = retention.bytes.map_or(0, |keep| row.bytes.saturating_sub(keep.get()));
    if sure <= from && spare_bytes == 0 {
        return Ok(None);
    }
    let mut cut = Cut { from, to: from, freed_bytes: 0, more: false };
    for (step, size) in store.sizes(partition, from, newest + 1).enumerate() {
        let (base_offset, bytes) = size?;
        cut.to = base_offset;
        let goes = base_offset < newest && (base_offset < sure || cut.freed_bytes + bytes <= spare_bytes);
        cut.more = goes && step >= CUT_BATCHES_MAX;
        if !goes || cut.more {
            break;
        }
        cut.freed_bytes += bytes;
    }
    Ok((cut.to > from).then_some(cut))
}

/// Base offset of the first batch in `within` that was appended at `before` or later.
fn too_old(
    store: &Store,
    partition: PartitionId,
    row: &PartitionRow,
    within: Range<Offset>,
    before: Timestamp,
    oldest: &mut Oldest,
) -> Result<Offset, Error> {
    let oldest_ms = match oldest.get(&partition) {
        Some((offset, appended_ms)) if *offset == within.start => *appended_ms,
        _ => match store.read(partition, within.start, Offset::MAX, 0)?.first() {
            Some(batch) => BatchView::new(&batch.bytes, Check::Header)?.timestamp(),
            None => return Ok(within.start),
        },
    };
    oldest.insert(partition, (within.start, oldest_ms));
    if oldest_ms >= before {
        Ok(within.start)
    } else if row.newest_ms < before {
        Ok(within.end)
    } else {
        offset_at_time(store, partition, within, before)
    }
}

/// The first batch in `within` appended at or after `time`, by bisection: timestamps do not run backwards within a
/// partition.
pub(crate) fn offset_at_time(
    store: &Store,
    partition: PartitionId,
    within: Range<Offset>,
    time: Timestamp,
) -> Result<Offset, Error> {
    let (mut low, mut high) = (within.start, within.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(stored) = store.batch_at(partition, middle)? else { return Ok(high) };
        let batch = RecordBatch::new(stored.bytes, Check::Header)?;
        if batch.view().timestamp() < time {
            low = batch.view().next_offset().max(middle + 1);
        } else {
            high = stored.base_offset.max(low);
        }
    }
    Ok(high)
}

/// Tells a reader, and the log, that records were deleted before they were read. `found` is where there are records.
pub(crate) fn note_missed(fetched: &mut Fetched, store: &Store, source: &Source, found: Offset) {
    let (Place { topic, partition, index, id, .. }, from) = (&source.place, source.from);
    // Looked up after the read: so that all that it left out for this reason is counted.
    let to = store.partition(*id).map_or(0, |row| row.low_watermark).min(found);
    if to <= from {
        return;
    }
    tracing::warn!(topic = %topic.name(), partition, from, to, "retention deleted records before they were read");
    fetched.counted.missed += to - from;
    fetched.progress(*index, to);
}

/// The thread, as long as this lives.
#[derive(Debug)]
pub(crate) struct Thread {
    stop: Mutex<Option<Stop>>,
}

#[derive(Debug)]
struct Stop {
    /// Dropping it ends the thread.
    running: Sender<()>,
    /// Closed by the thread when it has ended.
    ended: Receiver<()>,
}

impl Thread {
    pub(crate) fn start(
        store: &Store,
        catalog: &Arc<Catalog>,
        submitter: &Submitter,
        interval: Duration,
    ) -> Result<Self, Error> {
        let failed = |error| Error::Internal(format!("no thread for retention: {error}"));
        let (running, stopped) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        let sweeper = Sweeper {
            store: store.clone(),
            catalog: Arc::clone(catalog),
            submitter: submitter.clone(),
            // For the committer's answers alone: it drives neither sockets nor timers.
            runtime: tokio::runtime::Builder::new_current_thread().build().map_err(failed)?,
            oldest: Oldest::new(),
        };
        let work = move || {
            sweeper.run(&stopped, interval);
            drop(ending);
        };
        std::thread::Builder::new().name("retention".into()).spawn(work).map_err(failed)?;
        Ok(Self { stop: Mutex::new(Some(Stop { running, ended })) })
    }

    /// Ends the thread, and waits for that, though not for a long compaction: the process may end in its middle.
    pub(crate) fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Stop { running, ended }) = stop else { return };
        drop(running);
        if ended.recv_timeout(RETENTION_STOP) == Err(RecvTimeoutError::Timeout) {
            tracing::info!("disk space is still being taken back; that goes on after the next start");
        }
    }
}

/// A shorter interval would keep a core busy.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// The thread's state.
struct Sweeper {
    store: Store,
    catalog: Arc<Catalog>,
    submitter: Submitter,
    runtime: Runtime,
    oldest: Oldest,
}

impl Sweeper {
    fn run(mut self, stopped: &Receiver<()>, interval: Duration) {
        let interval = interval.max(INTERVAL_MIN);
        let mut wait = interval;
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let swept = self.sweep(now());
            match swept {
                Ok(true) => {
                    wait = Duration::ZERO;
                    continue;
                }
                Ok(false) => {}
                Err(Error::Stopping) => return,
                Err(error) => tracing::warn!(%error, "retention failed; it is tried again"),
            }
            wait = interval;
            match self.store.reclaim() {
                Ok(0) => {}
                Ok(bytes) => tracing::info!(bytes, "the disk space of deleted records was taken back"),
                Err(error) => {
                    tracing::warn!(%error, "disk space was not taken back; it is tried again");
                }
            }
        }
    }

    /// Lets go what may go; `true` when there may be more.
    fn sweep(&mut self, now: Timestamp) -> Result<bool, Error> {
        let mut before = std::mem::take(&mut self.oldest);
        let (mut waiting, mut more) = (Vec::new(), false);
        for topic in self.catalog.topics() {
            let retention = topic.retention();
            if retention.keeps_all() {
                continue;
            }
            for partition in topic.partitions() {
                let cut = cut(&self.store, *partition, retention, now, &mut before);
                // Only what is still there is remembered.
                self.oldest.extend(before.remove_entry(partition));
                match cut {
                    Ok(Some(cut)) => {
                        more |= cut.more;
                        waiting.push(self.submit(&topic, *partition, retention, cut)?);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(topic = %topic.name(), %error, "retention passed over a partition")
                    }
                }
                if waiting.len() >= CUTS_MAX {
                    self.wait_for(&mut waiting)?;
                }
            }
        }
        self.wait_for(&mut waiting)?;
        Ok(more)
    }

    fn submit(
        &self,
        topic: &Topic,
        partition: PartitionId,
        retention: Retention,
        cut: Cut,
    ) -> Result<oneshot::Receiver<Reply>, Error> {
        let Cut { from, to, freed_bytes, .. } = cut;
        tracing::debug!(topic = %topic.name(), %partition, from, to, freed_bytes, "retention deletes records");
        let command = Command::RaiseLowWatermark { partition, retention, from, to, freed_bytes };
        self.runtime.block_on(self.submitter.submit(command))
    }

    fn wait_for(&self, waiting: &mut Vec<oneshot::Receiver<Reply>>) -> Result<(), Error> {
        for reply in waiting.drain(..) {
            self.runtime.block_on(answer(reply))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

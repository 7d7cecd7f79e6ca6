//! One fetch: records of one partition, from the store through the modules, as steps for the consumer.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_engine::{Delivery, Outcome, Pipeline, Reject, Stop};
use millstream_store::Store;
use millstream_types::{Check, Counters, Offset, OnFault, RecordBatch};
use tokio::sync::oneshot;

use crate::{
    Error, Place, Subscription,
    broker::Shared,
    dead_letter,
    limits::{
        BUSY_WAIT, FAULT_RETRIES, FETCH_BYTES, JOINED_BYTES, JUDGED_STEP_BYTES, JUDGED_TURN, SMALL_BYTES,
    },
    reading::Step,
    retention, routing,
};

/// What to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) place: Place,
    pub(crate) from: Offset,
    /// Records from here on are not fetched.
    pub(crate) end: Offset,
    /// Fetches through modules read about so many bytes at most.
    pub(crate) judged_bytes: usize,
}

/// What came of a fetch.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) steps: Vec<Step>,
    /// Where the next fetch goes on.
    pub(crate) next: Offset,
    pub(crate) counted: Counters,
    /// Given back.
    pub(crate) pipeline: Option<Pipeline>,
    /// Why nothing more can be fetched, once the steps are handed out.
    pub(crate) failure: Option<Error>,
}

/// Fetches up to about `bytes_max` without modules. Blocks while the disk reads.
pub(crate) fn plain(store: &Store, source: &Source, bytes_max: usize) -> Result<Fetched, Error> {
    let mut fetched = Fetched { next: source.from, ..Fetched::default() };
    let batches = fetched.read(store, source, bytes_max)?;
    for batch in batches {
        let view = batch.view();
        // Compaction may have joined batches across the end.
        let next = view.next_offset().min(source.end);
        let within = view.index_of(source.from)..view.index_of(source.end);
        if within.is_empty() {
            fetched.progress(source.place.index, next);
            continue;
        }
        let batch = if within.len() == view.len() { batch.clone() } else { slice(&batch, within)? };
        let (records, bytes) = (batch.view().len() as u64, batch.as_bytes().len() as u64);
        fetched.counted.records_in += records;
        fetched.counted.records_out += records;
        fetched.counted.bytes_in += bytes;
        fetched.counted.bytes_out += bytes;
        fetched.deliver(source.place.index, next, batch);
    }
    Ok(fetched)
}

/// Fetches through the modules of `subscription`, on a module thread, and appends what they emit to topics. Not
/// cancel-safe for its caller, but harmless: what was appended is known to the shard and not appended again.
pub(crate) async fn judged(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    source: Source,
    pipeline: Pipeline,
) -> Result<Fetched, Error> {
    let fetched = Fetched { next: source.from, ..Fetched::default() };
    let mut work = Work {
        source,
        subscription: Arc::clone(subscription),
        batches: VecDeque::new(),
        bytes_read: 0,
        pipeline,
        fetched,
        routes: Vec::new(),
        rejects: Vec::new(),
        tries: 0,
    };
    loop {
        let (returned, pause) = on_module_thread(shared, work).await?;
        work = returned;
        for outcome in std::mem::take(&mut work.routes) {
            routing::append(shared, subscription, &work.source.place, &outcome).await?;
        }
        for (batch, rejects) in std::mem::take(&mut work.rejects) {
            dead_letter::reject(shared, subscription, work.source.place.index, &batch, &rejects).await?;
        }
        match pause? {
            Pause::Done => break,
            Pause::Turn => {}
            Pause::Wait(time) => tokio::time::sleep(time).await,
        }
    }
    let Work { mut fetched, pipeline, .. } = work;
    fetched.pipeline = Some(pipeline);
    Ok(fetched)
}

/// A fetch in progress, moved between module threads and the network's.
struct Work {
    source: Source,
    subscription: Arc<Subscription>,
    batches: VecDeque<RecordBatch>,
    bytes_read: usize,
    pipeline: Pipeline,
    fetched: Fetched,
    /// With records for topics, still to be appended.
    routes: Vec<Outcome>,
    /// With the batch that they are of, still to become dead letters.
    rejects: Vec<(RecordBatch, Vec<Reject>)>,
    /// How often the record at `fetched.next` was tried in vain.
    tries: usize,
}

/// Why a module thread gave a fetch back.
enum Pause {
    /// Everything is judged, or nothing more can be.
    Done,
    /// It had its turn; others wait.
    Turn,
    /// Again after this time.
    Wait(Duration),
}

async fn on_module_thread(
    shared: &Arc<Shared>,
    mut work: Work,
) -> Result<(Work, Result<Pause, Error>), Error> {
    let (sender, receiver) = oneshot::channel();
    let store = shared.store.clone();
    let job = move || {
        let pause = work.advance(&store);
        // Nobody waits when the reader is gone.
        let _ = sender.send((work, pause));
    };
    shared.workers.submit(job).map_err(|full| Error::Internal(full.to_string()))?;
    receiver.await.map_err(|_| Error::Internal("a module thread lost its job; see the log".into()))
}

impl Work {
    fn advance(&mut self, store: &Store) -> Result<Pause, Error> {
        let started = Instant::now();
        loop {
            let Some(batch) = self.batches.front().cloned() else {
                if !self.read_on(store)? {
                    self.fetched.steps = joined(std::mem::take(&mut self.fetched.steps));
                    return Ok(Pause::Done);
                }
                continue;
            };
            let view = batch.view();
            let first = view.index_of(self.fetched.next);
            let end = view.index_of(self.source.end);
            if first >= end {
                self.fetched.next = view.next_offset().min(self.source.end);
                self.batches.pop_front();
                continue;
            }
            // After a fault the record at fault is tried alone.
            let range = if self.tries == 0 { first..end } else { first..first + 1 };
            let outcome = self.run(&batch, range.clone())?;
            if let Some(pause) = self.take(&batch, outcome)? {
                return Ok(pause);
            }
            if started.elapsed() > JUDGED_TURN {
                return Ok(Pause::Turn);
            }
        }
    }

    /// Reads the next few batches: they are judged while they are in the processor's cache. `false` when the fetch has
    /// read enough, or everything.
    fn read_on(&mut self, store: &Store) -> Result<bool, Error> {
        self.source.from = self.fetched.next;
        let source = &self.source;
        let enough = self.bytes_read >= self.source.judged_bytes
            || self.fetched.counted.bytes_out >= FETCH_BYTES as u64;
        if source.from >= source.end || enough {
            return Ok(false);
        }
        self.batches = self.fetched.read(store, source, JUDGED_STEP_BYTES)?.into();
        self.bytes_read += self.batches.iter().map(|batch| batch.as_bytes().len()).sum::<usize>();
        Ok(true)
    }

    fn run(&mut self, batch: &RecordBatch, range: Range<usize>) -> Result<Outcome, Error> {
        self.pipeline.run(batch, range).map_err(|cause| Error::CorruptBatch {
            topic: self.source.place.topic.name().clone(),
            partition: self.source.place.partition,
            offset: batch.view().base_offset(),
            cause,
        })
    }

    /// Takes in what a run brought. `Some` when the thread must be given back.
    fn take(&mut self, batch: &RecordBatch, outcome: Outcome) -> Result<Option<Pause>, Error> {
        let halt = self.subscription.row().on_fault == OnFault::Halt;
        if let Some(fault) = outcome.faults.first().filter(|_| halt) {
            let index = batch.view().index_of(fault.offset);
            if index > outcome.done.start {
                // Those before it are judged again, without it: nothing of this run was used yet.
                let before = self.run(batch, outcome.done.start..index)?;
                if before.faults.is_empty() {
                    return self.take(batch, before);
                }
            }
            return Ok(Some(self.again_or_fail(fault.offset, fault.stage, &fault.fault.to_string())));
        }
        let stop = outcome.stop.clone();
        let made_a_break = outcome.done.end < batch.view().index_of(self.source.end) && self.tries == 0;
        let moved = !outcome.done.is_empty();
        self.use_outcome(batch, outcome)?;
        if moved {
            self.tries = 0;
        }
        let at = self.fetched.next;
        Ok(match stop {
            None if made_a_break => Some(Pause::Turn),
            None => None,
            Some(Stop::Busy { .. }) => Some(Pause::Wait(BUSY_WAIT)),
            Some(Stop::Retry { stage, text }) => {
                Some(self.again_or_fail(at, stage, &format!("it asks to be tried again: {text}")))
            }
            Some(Stop::Unusable { stage, fault }) => Some(self.fail(at, stage, &fault.to_string())),
            Some(Stop::FaultsInRow { stage, fault }) => {
                Some(self.fail(at, stage, &format!("too many records in a row: {fault}")))
            }
        })
    }

    fn use_outcome(&mut self, batch: &RecordBatch, outcome: Outcome) -> Result<(), Error> {
        let view = batch.view();
        let index = self.source.place.index;
        let next = view.record(outcome.done.end).map_or(view.next_offset(), |record| record.offset);
        let next = next.min(self.source.end);
        let counted = &outcome.counters;
        self.fetched.counted += Counters {
            records_in: counted.records_in,
            records_out: counted.delivered,
            dropped: counted.dropped,
            routed: counted.routed,
            rejected: counted.rejected,
            faulted: counted.faulted,
            missed: 0,
            bytes_in: (batch.as_bytes().len() * outcome.done.len() / view.len().max(1)) as u64,
            bytes_out: 0,
            module_ns: counted.guest_ns,
            module_calls: counted.calls,
        };
        self.warn_of(&outcome);
        let batches = match &outcome.delivery {
            Delivery::Nothing => Vec::new(),
            Delivery::Untouched if outcome.done.len() == view.len() => vec![batch.clone()],
            Delivery::Untouched if outcome.done.is_empty() => Vec::new(),
            Delivery::Untouched => vec![slice(batch, outcome.done.clone())?],
            Delivery::Batches(batches) => batches.clone(),
        };
        let mut batches = batches.into_iter().peekable();
        while let Some(batch) = batches.next() {
            self.fetched.counted.bytes_out += batch.as_bytes().len() as u64;
            // What one source record became may be split over batches: it is scanned with the last of them.
            let upto = batches.peek().and_then(first_offset).unwrap_or(next);
            self.fetched.deliver(index, upto, batch);
        }
        self.fetched.progress(index, next);
        if !outcome.rejects.is_empty() {
            self.rejects.push((batch.clone(), outcome.rejects.clone()));
        }
        if outcome.routed().next().is_some() {
            self.routes.push(outcome);
        }
        Ok(())
    }

    fn warn_of(&self, outcome: &Outcome) {
        let (subscription, topic) = (self.subscription.name(), self.source.place.topic.name());
        let partition = self.source.place.partition;
        if let Some(reject) = outcome.rejects.first() {
            let (offset, reason, records) = (reject.offset, &reject.reason, outcome.rejects.len());
            tracing::warn!(%subscription, %topic, partition, offset, reason, records, "module rejected records");
        }
        if let Some(fault) = outcome.faults.first() {
            let (offset, cause, records) = (fault.offset, &fault.fault, outcome.faults.len());
            tracing::warn!(%subscription, %topic, partition, offset, %cause, records, "module failed on records; passed over");
        }
    }

    fn again_or_fail(&mut self, offset: Offset, stage: usize, cause: &str) -> Pause {
        match FAULT_RETRIES.get(self.tries) {
            Some(wait) => {
                self.tries += 1;
                Pause::Wait(*wait)
            }
            None => self.fail(offset, stage, cause),
        }
    }

    fn fail(&mut self, offset: Offset, stage: usize, cause: &str) -> Pause {
        let subscription = &self.subscription;
        let module = subscription.pipeline().get(stage).map_or("?", |binding| binding.module.as_str());
        self.fetched.failure = Some(Error::ModuleFault(format!(
            "subscription {} is faulted: module {module} failed on topic {} partition {} offset {offset}: {cause}; \
             its backlog is kept: subscribe again to try again, or subscribe with on-fault skip to pass over such records",
            subscription.name(),
            self.source.place.topic.name(),
            self.source.place.partition,
        )));
        self.batches.clear();
        Pause::Done
    }
}

impl Fetched {
    /// The batches that hold the first records of `source`, each checked. Where there are none any more, that is passed over.
    fn read(&mut self, store: &Store, source: &Source, bytes_max: usize) -> Result<Vec<RecordBatch>, Error> {
        let batches = read(store, source, bytes_max)?;
        let found = batches.first().map_or(source.end, |batch| batch.view().base_offset());
        retention::note_missed(self, store, source, found);
        if batches.is_empty() {
            self.pass_over(source);
        }
        Ok(batches)
    }

    fn deliver(&mut self, partition: u32, next: Offset, batch: RecordBatch) {
        self.next = next;
        self.steps.push(Step::Batch { partition, next, batch });
    }

    /// Nothing is stored in all of `source`: a gap, left by an accepted data loss.
    fn pass_over(&mut self, source: &Source) {
        self.progress(source.place.index, source.end);
    }

    /// Everything below `next` is scanned: told with the last batch, or by itself when there is none.
    pub(crate) fn progress(&mut self, partition: u32, next: Offset) {
        self.next = next;
        match self.steps.last_mut() {
            Some(Step::Batch { next: told, .. } | Step::Progress { next: told, .. }) => *told = next,
            Some(Step::Gone { .. }) | None => self.steps.push(Step::Progress { partition, next }),
        }
    }
}

/// The steps, with the small batches of one run as one: each costs its reader as much as a large one.
fn joined(steps: Vec<Step>) -> Vec<Step> {
    let mut out = Vec::with_capacity(steps.len());
    let mut run = Run::default();
    for step in steps {
        match step {
            Step::Batch { partition, next, batch } if batch.as_bytes().len() < SMALL_BYTES => {
                run.add(partition, next, batch);
                if run.bytes >= JOINED_BYTES {
                    run.end(&mut out);
                }
            }
            step => {
                run.end(&mut out);
                out.push(step);
            }
        }
    }
    run.end(&mut out);
    out
}

/// Small batches of one partition, one behind the other.
#[derive(Default)]
struct Run {
    partition: u32,
    batches: Vec<RecordBatch>,
    /// Of each, what is scanned with it.
    nexts: Vec<Offset>,
    bytes: usize,
}

impl Run {
    fn add(&mut self, partition: u32, next: Offset, batch: RecordBatch) {
        self.partition = partition;
        self.bytes += batch.as_bytes().len();
        self.batches.push(batch);
        self.nexts.push(next);
    }

    fn end(&mut self, out: &mut Vec<Step>) {
        let Self { partition, batches, nexts, .. } = std::mem::take(self);
        let joined = if batches.len() > 1 { RecordBatch::join(&batches) } else { None };
        match (joined, nexts.last()) {
            (Some(batch), Some(&next)) => out.push(Step::Batch { partition, next, batch }),
            _ => out.extend(nexts.into_iter().zip(batches).map(|(next, batch)| Step::Batch {
                partition,
                next,
                batch,
            })),
        }
    }
}

/// The batches that hold the source's first records, each checked.
pub(crate) fn read(store: &Store, source: &Source, bytes_max: usize) -> Result<Vec<RecordBatch>, Error> {
    let stored = store.read(source.place.id, source.from, source.end, bytes_max)?;
    let checked = stored.into_iter().map(|stored| {
        RecordBatch::new(stored.bytes, Check::Crc).map_err(|cause| Error::CorruptBatch {
            topic: source.place.topic.name().clone(),
            partition: source.place.partition,
            offset: stored.base_offset,
            cause,
        })
    });
    checked.collect()
}

fn slice(batch: &RecordBatch, records: Range<usize>) -> Result<RecordBatch, Error> {
    Ok(batch.decompressed()?.view().subset(&[records])?)
}

fn first_offset(batch: &RecordBatch) -> Option<Offset> {
    batch.view().record(0).map(|record| record.offset)
}

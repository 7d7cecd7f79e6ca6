//! Fetching through modules: on module threads, in turns; what happens to records that modules reject or fail on.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_engine::{Delivery, Fault, Outcome, Pipeline, Stop};
use millstream_types::{Counters, ModuleLogLevel, Offset, OnFault, RecordBatch};
use tokio::sync::oneshot;

use crate::{
    Error, Subscription,
    bindings::Revision,
    breaker::Admission,
    broker::Shared,
    dead_letter::{self, Refused},
    fetch::{Fetched, Source, first_offset, joined, slice},
    limits::{BUSY_WAIT, FAULT_RETRIES, FETCH_BYTES, JUDGED_STEP_BYTES, JUDGED_TURN},
    routing,
};

/// Fetches through a `pipeline` of `revision` of the modules of `subscription`, and appends what they emit to topics. Ends
/// early where it waits for modules that fail, and others were bound meanwhile. Not cancel-safe for its caller, but
/// harmless: what was appended is known to the shard and not appended again.
pub(crate) async fn judged(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    revision: &Arc<Revision>,
    source: Source,
    pipeline: Pipeline,
) -> Result<Fetched, Error> {
    let fetched = Fetched { next: source.from, ..Fetched::default() };
    let mut work = Work {
        source,
        shared: Arc::clone(shared),
        subscription: Arc::clone(subscription),
        revision: Arc::clone(revision),
        on_fault: subscription.on_fault(revision),
        batches: VecDeque::new(),
        bytes_read: 0,
        pipeline,
        fetched,
        routes: Vec::new(),
        refused: Vec::new(),
        tries: 0,
    };
    loop {
        let (returned, pause) = on_module_thread(shared, work).await?;
        work = returned;
        for outcome in std::mem::take(&mut work.routes) {
            routing::append(shared, subscription, &work.source.place, &outcome).await?;
        }
        for (batch, refused) in std::mem::take(&mut work.refused) {
            let place = &work.source.place;
            dead_letter::refuse(shared, subscription, revision, place, &batch, &refused).await?;
        }
        match pause? {
            Pause::Done => break,
            Pause::Turn => {}
            Pause::Wait(time) => tokio::select! {
                () = tokio::time::sleep(time) => {}
                // These modules are not waited for any more.
                () = subscription.rebound(revision.number) => {
                    work.fetched.given_up = true;
                    break;
                }
            },
        }
    }
    let Work { mut fetched, pipeline, .. } = work;
    fetched.pipeline = Some(pipeline);
    Ok(fetched)
}

/// A fetch in progress, moved between module threads and the network's.
struct Work {
    source: Source,
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    revision: Arc<Revision>,
    on_fault: OnFault,
    batches: VecDeque<RecordBatch>,
    bytes_read: usize,
    pipeline: Pipeline,
    fetched: Fetched,
    /// With records for topics, still to be appended.
    routes: Vec<Arc<Outcome>>,
    /// With the batch that they are of, still to become dead letters.
    refused: Vec<(RecordBatch, Vec<Refused>)>,
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
    let flow = work.subscription.flow();
    let job = move || {
        let pause = work.advance();
        // Nobody waits when the reader is gone.
        let _ = sender.send((work, pause));
    };
    shared.workers.submit(flow, job).map_err(|full| Error::Internal(full.to_string()))?;
    receiver.await.map_err(|_| Error::Internal("a module thread lost its job; see the log".into()))
}

impl Work {
    fn advance(&mut self) -> Result<Pause, Error> {
        let started = Instant::now();
        loop {
            let Some(batch) = self.batches.front().cloned() else {
                if !self.read_on()? {
                    return Ok(self.end());
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
            let admission = self.subscription.breaker.admit(Instant::now());
            let range = match admission {
                // What is there is handed out before.
                Admission::Wait(_) if !self.fetched.steps.is_empty() => return Ok(self.end()),
                Admission::Wait(time) => {
                    self.pipeline.rest();
                    return Ok(Pause::Wait(time));
                }
                Admission::Probe => first..first + 1,
                // After a fault the record at fault is tried alone.
                Admission::Go if self.tries > 0 => first..first + 1,
                Admission::Go => first..end,
            };
            let outcome = self.run(&batch, range)?;
            if let Some(pause) = self.take(&batch, outcome, admission)? {
                return Ok(pause);
            }
            if started.elapsed() > JUDGED_TURN {
                return Ok(Pause::Turn);
            }
        }
    }

    /// Reads the next few batches: they are judged while they are in the processor's cache. `false` when the fetch has
    /// read enough, or everything.
    fn read_on(&mut self) -> Result<bool, Error> {
        self.source.from = self.fetched.next;
        let source = &self.source;
        let enough = self.bytes_read >= self.source.judged_bytes
            || self.fetched.counted.bytes_out >= FETCH_BYTES as u64;
        if source.from >= source.end || enough {
            return Ok(false);
        }
        self.batches = self.fetched.read(&self.shared.store, source, JUDGED_STEP_BYTES)?.into();
        self.bytes_read += self.batches.iter().map(|batch| batch.as_bytes().len()).sum::<usize>();
        Ok(true)
    }

    fn run(&mut self, batch: &RecordBatch, range: Range<usize>) -> Result<Outcome, Error> {
        let outcome = self.pipeline.run(batch, range).map_err(|cause| Error::CorruptBatch {
            topic: self.source.place.topic.name().clone(),
            partition: self.source.place.partition,
            offset: batch.view().base_offset(),
            cause,
        })?;
        // Counted whatever comes of it.
        self.fetched.counted.module_ns += outcome.counters.guest_ns;
        self.fetched.counted.module_calls += outcome.counters.calls;
        Ok(outcome)
    }

    /// Takes in what a run brought. `Some` when the thread must be given back.
    fn take(
        &mut self,
        batch: &RecordBatch,
        outcome: Outcome,
        admission: Admission,
    ) -> Result<Option<Pause>, Error> {
        let probe = admission == Admission::Probe;
        let may_try_again = !probe && self.tries < FAULT_RETRIES.len();
        let halts = self.on_fault == OnFault::Halt;
        // One that the policy does not apply to yet, or that nothing goes past.
        let held = |fault: &Fault| halts || (may_try_again && fault.kind.may_pass());
        if let Some(found) = outcome.faults.iter().find(|found| held(&found.fault)) {
            let index = batch.view().index_of(found.offset);
            if index > outcome.done.start {
                // Those before it are judged again, without it: nothing of this run was used yet.
                let before = self.run(batch, outcome.done.start..index)?;
                return self.take(batch, before, admission);
            }
            return Ok(Some(self.again_or_fail(found.offset, found.stage, &found.fault.to_string())));
        }
        let stop = outcome.stop.clone();
        let failed = outcome.faults.last().map(|found| (found.stage, found.fault.to_string()));
        let made_a_break = outcome.done.end < batch.view().index_of(self.source.end) && self.tries == 0;
        let moved = !outcome.done.is_empty();
        self.use_outcome(batch, outcome)?;
        if moved {
            self.tries = 0;
            match failed {
                Some((stage, fault)) if probe => return Ok(Some(self.trip(stage, &fault))),
                None if self.subscription.breaker.close() => self.recovered(),
                _ => {}
            }
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
        let outcome = Arc::new(outcome);
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
            bytes_in: (batch.as_bytes().len() * outcome.done.len() / view.len().max(1)) as u64,
            ..Counters::default()
        };
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
        let refused = self.refused(&outcome);
        if !refused.is_empty() {
            self.refused.push((batch.clone(), refused));
        }
        if let Some(shadow) = self.subscription.shadow().filter(|_| !outcome.done.is_empty()) {
            shadow.offer(&self.shared, &self.subscription, &self.source.place, batch, &outcome);
        }
        if outcome.routed().next().is_some() {
            self.routes.push(outcome);
        }
        Ok(())
    }

    /// What is to become dead letters, by offset; the first of each kind is told.
    fn refused(&self, outcome: &Outcome) -> Vec<Refused> {
        let mut refused: Vec<_> = outcome.rejects.iter().map(Refused::rejected).collect();
        if let Some(first) = refused.first() {
            let text = format!("rejected {} records, the first", refused.len());
            self.tell(first.stage, ModuleLogLevel::Warn, first.offset, &format!("{text}: {}", first.text));
        }
        let faults: Vec<_> = outcome.faults.iter().map(Refused::fault).collect();
        if let Some(first) = faults.first() {
            let then = match self.on_fault {
                OnFault::DeadLetter => "which become dead letters",
                OnFault::Skip | OnFault::Halt => "which are passed over",
            };
            let text = format!("failed on {} records, {then}, the first", faults.len());
            self.tell(first.stage, ModuleLogLevel::Error, first.offset, &format!("{text}: {}", first.text));
        }
        if self.on_fault == OnFault::DeadLetter {
            refused.extend(faults);
            refused.sort_by_key(|refused| refused.offset);
        }
        refused
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

    /// The modules cannot go on at `offset`: they are let alone for a while, or the subscription halts.
    fn fail(&mut self, offset: Offset, stage: usize, cause: &str) -> Pause {
        if self.on_fault != OnFault::Halt {
            return self.trip(stage, cause);
        }
        let subscription = &self.subscription;
        // Others were bound while these failed.
        if subscription.revision().number != self.revision.number {
            self.fetched.given_up = true;
            return self.end();
        }
        let fault = format!(
            "subscription {} is faulted: module {} failed on topic {} partition {} offset {offset}: {cause}; \
             its backlog is kept: bind another module, subscribe again to try again, or have such records become dead \
             letters or be passed over with `millstream module bind {0} --on-fault dead-letter|skip`",
            subscription.name(),
            self.module(stage),
            self.source.place.topic.name(),
            self.source.place.partition,
        );
        self.tell(
            stage,
            ModuleLogLevel::Error,
            offset,
            &format!("failed, and the subscription halts: {cause}"),
        );
        self.fetched.failure = Some(Error::ModuleFault(fault));
        self.end()
    }

    fn end(&mut self) -> Pause {
        self.batches.clear();
        self.fetched.steps = joined(std::mem::take(&mut self.fetched.steps));
        Pause::Done
    }

    fn trip(&mut self, stage: usize, cause: &str) -> Pause {
        let (wait, is_news) = self.subscription.breaker.trip(Instant::now());
        let offset = self.fetched.next;
        let fault = format!(
            "module {} fails on topic {} partition {} before offset {offset}: {cause}; its backlog is kept, and a record is \
             tried every {} s; bind another module with `millstream module bind {}`",
            self.module(stage),
            self.source.place.topic.name(),
            self.source.place.partition,
            wait.as_secs(),
            self.subscription.name(),
        );
        if is_news {
            let text = "fails too often, and is let alone: one record is tried now and then";
            self.tell(stage, ModuleLogLevel::Error, offset, &format!("{text}: {cause}"));
        }
        self.subscription.set_fault(fault);
        // The next fetch waits.
        self.end()
    }

    fn recovered(&self) {
        self.subscription.clear_fault();
        self.tell(0, ModuleLogLevel::Info, self.fetched.next, "judges records again");
    }

    fn module(&self, stage: usize) -> &str {
        self.revision.pipeline.get(stage).map_or("?", |binding| binding.module.as_str())
    }

    /// Tells operators and whoever follows the module.
    fn tell(&self, stage: usize, level: ModuleLogLevel, offset: Offset, what: &str) {
        let place = &self.source.place;
        let (topic, partition) = (place.topic.name(), place.partition);
        let text = format!("topic {topic} partition {partition} offset {offset}: {what}");
        self.shared.tail.write(self.subscription.name(), self.module(stage), level, &text, 0);
    }
}

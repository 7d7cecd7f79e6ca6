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
    breaker::{Admission, News},
    broker::Shared,
    dead_letter::{self, Refused},
    fetch::{Fetched, Source, first_offset, joined, slice},
    limits::{
        BUSY_WAIT, FAULT_RETRIES, FETCH_BYTES, JUDGED_FETCH, JUDGED_STEP_BYTES, JUDGED_TURN,
        PROCESSOR_STEP_BYTES,
    },
    processing,
    reading::Step,
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
        begun: Instant::now(),
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
    let processes = subscription.processing();
    let mut committed = work.source.from;
    loop {
        let (returned, pause) = on_module_thread(shared, work).await?;
        work = returned;
        if processes.is_some() {
            let (made, state) = (work.take_made(), work.pipeline.state());
            // Before anybody sees how far it came.
            subscription.count(std::mem::take(&mut work.fetched.counted));
            let place = &work.source.place;
            processing::commit(shared, subscription, revision, place, committed, &made, state.as_ref())
                .await?;
            committed = made.next;
        }
        for outcome in std::mem::take(&mut work.routes) {
            routing::append(shared, subscription, &work.source.place, &outcome).await?;
        }
        let refused = std::mem::take(&mut work.refused);
        dead_letter::refuse(shared, subscription, revision, &work.source.place, &refused).await?;
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
                () = processing::paused(processes), if processes.is_some() => {
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
    begun: Instant,
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

/// What a processor made of records, to be committed.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) steps: Vec<Step>,
    pub(crate) routes: Vec<Arc<Outcome>>,
    pub(crate) refused: Vec<(RecordBatch, Vec<Refused>)>,
    /// Of the records below this.
    pub(crate) next: Offset,
}

/// What a run brought.
struct Run {
    outcome: Outcome,
    /// Of the pipeline, before it.
    faults_before: u32,
    /// Whether it is to show if the modules work again.
    probe: bool,
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
            let admission = self.subscription.breaker.admit(self.revision.number, Instant::now());
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
            let faults_before = self.pipeline.faults_in_row();
            let outcome = self.run(&batch, range)?;
            let run = Run { outcome, faults_before, probe: admission == Admission::Probe };
            if let Some(pause) = self.take(&batch, run)? {
                return Ok(pause);
            }
            let changed =
                self.pipeline.state().is_some_and(|state| state.kept_bytes() > PROCESSOR_STEP_BYTES);
            if changed || started.elapsed() > JUDGED_TURN {
                return Ok(self.turn_over());
            }
        }
    }

    /// Others may have the module thread now. What there is for the reader does not wait for all that is read where judging
    /// takes long.
    fn turn_over(&mut self) -> Pause {
        match self.begun.elapsed() > JUDGED_FETCH && !self.fetched.steps.is_empty() {
            true => self.end(),
            false => Pause::Turn,
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
        if let Some(cause) = self.pipeline.state().and_then(|state| state.broken()) {
            return Err(Error::Read(cause));
        }
        // Counted whatever comes of it.
        self.fetched.counted.module_ns += outcome.counters.guest_ns;
        self.fetched.counted.module_calls += outcome.counters.calls;
        let limits = &self.shared.registry.limits;
        self.subscription.used().count(&self.revision.pipeline, limits, self.pipeline.take_usage());
        Ok(outcome)
    }

    /// Takes in what a run brought. `Some` when the thread must be given back.
    fn take(&mut self, batch: &RecordBatch, run: Run) -> Result<Option<Pause>, Error> {
        let Run { outcome, faults_before, probe } = run;
        let may_try_again = !probe && self.tries < FAULT_RETRIES.len();
        let halts = self.on_fault == OnFault::Halt;
        // One that the policy does not apply to yet, or that nothing goes past.
        let held = |fault: &Fault| halts || (may_try_again && fault.kind.may_pass());
        if let Some(found) = outcome.faults.iter().find(|found| held(&found.fault)) {
            // Nothing of this run is used: what it counts comes again.
            self.pipeline.set_faults_in_row(faults_before);
            let index = batch.view().index_of(found.offset);
            if index > outcome.done.start {
                // Those before it are judged again, without it.
                let outcome = self.run(batch, outcome.done.start..index)?;
                return self.take(batch, Run { outcome, faults_before, probe });
            }
            return Ok(Some(self.again_or_fail(found.offset, found.stage, &found.fault.to_string(), probe)));
        }
        let stop = outcome.stop.clone();
        let made_a_break = outcome.done.end < batch.view().index_of(self.source.end) && self.tries == 0;
        let (done, faults) = (outcome.done.len(), outcome.faults.len());
        let last_fault = outcome.faults.last().map(|found| (found.stage, found.fault.to_string()));
        self.use_outcome(batch, outcome)?;
        if done > 0 {
            self.tries = 0;
        }
        if done > faults {
            self.succeeded();
        } else if let Some((stage, fault)) = last_fault
            && let Some(pause) = self.failed(stage, faults, &fault, probe)
        {
            return Ok(Some(pause));
        }
        let at = self.fetched.next;
        Ok(match stop {
            // Whether there were too many in a row of all that run these modules is counted by the breaker.
            None | Some(Stop::FaultsInRow { .. }) if made_a_break => Some(self.turn_over()),
            None | Some(Stop::FaultsInRow { .. }) => None,
            Some(Stop::Busy { .. }) => {
                if probe {
                    self.subscription.breaker.release(self.revision.number, Instant::now());
                }
                Some(Pause::Wait(BUSY_WAIT))
            }
            Some(Stop::Retry { stage, text }) => {
                let cause = format!("it asks to be tried again: {text}");
                match halts || may_try_again {
                    true => Some(self.again_or_fail(at, stage, &cause, probe)),
                    // It was tried alone, as often as is done.
                    false => self.give_up(batch, stage, cause, probe)?,
                }
            }
            Some(Stop::Unusable { stage, fault }) => Some(self.fail(at, stage, &fault.to_string(), probe)),
        })
    }

    /// The record at `fetched.next` is at fault, though no module says so by a trap.
    fn give_up(
        &mut self,
        batch: &RecordBatch,
        stage: usize,
        text: String,
        probe: bool,
    ) -> Result<Option<Pause>, Error> {
        let (view, offset) = (batch.view(), self.fetched.next);
        let index = view.index_of(offset);
        let Some(record) = view.record(index) else { return Ok(None) };
        let next =
            view.record(index + 1).map_or(view.next_offset(), |record| record.offset).min(self.source.end);
        let refused = Refused::given_up(record.offset, stage, text.clone());
        self.fetched.counted += Counters { records_in: 1, faulted: 1, ..Counters::default() };
        self.tell_faults(std::slice::from_ref(&refused));
        if self.on_fault == OnFault::DeadLetter {
            self.refused.push((batch.clone(), vec![refused]));
        }
        self.fetched.progress(self.source.place.index, next);
        self.tries = 0;
        Ok(self.failed(stage, 1, &text, probe))
    }

    /// What is to be committed now.
    fn take_made(&mut self) -> Made {
        Made {
            steps: std::mem::take(&mut self.fetched.steps),
            routes: std::mem::take(&mut self.routes),
            refused: std::mem::take(&mut self.refused),
            next: self.fetched.next,
        }
    }

    fn use_outcome(&mut self, batch: &RecordBatch, outcome: Outcome) -> Result<(), Error> {
        if let Some(state) = self.pipeline.state() {
            state.keep();
        }
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
        self.tell_faults(&faults);
        if self.on_fault == OnFault::DeadLetter {
            refused.extend(faults);
            refused.sort_by_key(|refused| refused.offset);
        }
        refused
    }

    fn tell_faults(&self, faults: &[Refused]) {
        let Some(first) = faults.first() else { return };
        let then = match self.on_fault {
            OnFault::DeadLetter => "which become dead letters",
            OnFault::Skip | OnFault::Halt => "which are passed over",
        };
        let text = format!("failed on {} records, {then}, the first: {}", faults.len(), first.text);
        self.tell(first.stage, ModuleLogLevel::Error, first.offset, &text);
    }

    fn again_or_fail(&mut self, offset: Offset, stage: usize, cause: &str, probe: bool) -> Pause {
        match FAULT_RETRIES.get(self.tries) {
            Some(wait) if !probe => {
                self.tries += 1;
                Pause::Wait(*wait)
            }
            _ => self.fail(offset, stage, cause, probe),
        }
    }

    /// The modules cannot go on at `offset`: they are let alone for a while, or the subscription halts.
    fn fail(&mut self, offset: Offset, stage: usize, cause: &str, probe: bool) -> Pause {
        if self.on_fault != OnFault::Halt {
            let fault = self.fault(stage, cause);
            let news = self.subscription.breaker.trip(self.revision.number, probe, Instant::now(), fault);
            return self.tripped(news, stage, cause);
        }
        let subscription = &self.subscription;
        // Others were bound while these failed.
        if !self.is_current() {
            self.fetched.given_up = true;
            return self.end();
        }
        let name = subscription.name();
        let (kind, again) = match subscription.processing() {
            Some(_) => ("processor", format!("try again with `millstream processor resume {name}`")),
            None => ("subscription", "subscribe again to try again".to_owned()),
        };
        let remedy = match (subscription.is_durable(), subscription.has_dead_letters()) {
            (false, _) => {
                "subscribe again with another module, or with --on-fault skip to pass over such records"
                    .to_owned()
            }
            (true, true) => format!(
                "bind another module, {again}, or have such records become dead letters or be passed \
                 over with `millstream module bind {name} --on-fault dead-letter|skip`"
            ),
            (true, false) => format!(
                "bind another module, {again}, or have such records be passed over with `millstream \
                 module bind {name} --on-fault skip`"
            ),
        };
        let fault = format!(
            "{kind} {name} is faulted: module {} failed on topic {} partition {} offset {offset}: {cause}; its backlog \
             is kept: {remedy}",
            self.module(stage),
            self.source.place.topic.name(),
            self.source.place.partition,
        );
        self.tell(stage, ModuleLogLevel::Error, offset, &format!("failed, and the {kind} halts: {cause}"));
        self.fetched.failure = Some(Error::ModuleFault(fault));
        self.end()
    }

    fn end(&mut self) -> Pause {
        self.batches.clear();
        self.fetched.steps = joined(std::mem::take(&mut self.fetched.steps));
        Pause::Done
    }

    fn succeeded(&self) {
        if self.subscription.breaker.succeeded(self.revision.number) == News::Closed {
            self.subscription.tell_readers();
            self.tell(0, ModuleLogLevel::Info, self.fetched.next, "judges records again");
        }
    }

    /// So many records are at fault, and none was judged. `Some` when that is too much.
    fn failed(&mut self, stage: usize, faults: usize, cause: &str, probe: bool) -> Option<Pause> {
        let faults = u32::try_from(faults).unwrap_or(u32::MAX);
        let (revision, now) = (self.revision.number, Instant::now());
        let cause = format!("too many records in a row: {cause}");
        let fault = || self.fault(stage, &cause);
        match self.subscription.breaker.failed(revision, faults, probe, now, fault) {
            News::None | News::Closed => None,
            news => Some(self.tripped(news, stage, &cause)),
        }
    }

    /// The modules are let alone: the next fetch waits.
    fn tripped(&mut self, news: News, stage: usize, cause: &str) -> Pause {
        if news == News::Opened {
            self.subscription.tell_readers();
            let text = format!("is let alone, and one record is tried now and then: {cause}");
            self.tell(stage, ModuleLogLevel::Error, self.fetched.next, &text);
        }
        // Those that were bound since are not held up by these.
        self.fetched.given_up |= !self.is_current();
        self.tries = 0;
        self.end()
    }

    fn is_current(&self) -> bool {
        self.subscription.revision().number == self.revision.number
    }

    /// What the subscription shows while its modules are let alone.
    fn fault(&self, stage: usize, cause: &str) -> String {
        format!(
            "module {} fails on topic {} partition {} before offset {}: {cause}; its backlog is kept, and one record is tried \
             now and then; bind another module with `millstream module bind {}`",
            self.module(stage),
            self.source.place.topic.name(),
            self.source.place.partition,
            self.fetched.next,
            self.subscription.name(),
        )
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

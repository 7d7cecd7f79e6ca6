//! Judging one batch on module threads, in turns; what happens when modules refuse its records, or fail on them.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_engine::{Delivery, Outcome, Pipeline, Stop};
use millstream_types::{ModuleLogLevel, ProducerStamp, RecordBatch, Unstored};
use tokio::sync::oneshot;

use super::{Ingest, Judged, bind, judged::put_together};
use crate::{
    Error,
    breaker::{Admission, News},
    broker::{Shared, blocking},
    limits::{BUSY_WAIT, FAULT_RETRIES, INGEST_BUSY_MAX, INGEST_MADE_BYTES_MAX, JUDGED_TURN},
    rows::IngestRow,
};

/// What a lane keeps from one batch to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The modules, and of which revision they are.
    pub(super) modules: Option<(u64, Pipeline)>,
    /// Of the batch that was given back last.
    pub(super) found: Option<Found>,
}

/// Records of a batch that modules were found to fail on before it was given back: when it comes again, they are not tried again,
/// so that those behind them get their turn.
#[derive(Debug)]
pub(super) struct Found {
    revision: u64,
    stamp: ProducerStamp,
    faulted: BTreeMap<u32, Unstored>,
}

/// Judges `batch`, of partition `index`, by what is on the topic's ingest now.
///
/// # Errors
/// [`Error::IngestFaulted`] while the modules are let alone, [`Error::InstancesBusy`], [`Error::TooLarge`] when they make too much
/// of it; nothing of it is to be stored then.
pub(super) async fn judge(
    shared: &Arc<Shared>,
    ingest: &Arc<Ingest>,
    index: usize,
    batch: RecordBatch,
    memory: &mut Memory,
) -> Result<Judged, Error> {
    let row = ingest.row();
    if row.pipeline.is_empty() {
        *memory = Memory::default();
        return Ok(Judged::untouched(batch));
    }
    let stamp = batch.view().producer();
    let found = memory.found.take().filter(|found| (found.revision, found.stamp) == (row.revision, stamp));
    let mut work = Work {
        shared: Arc::clone(shared),
        ingest: Arc::clone(ingest),
        row: Arc::clone(&row),
        index,
        plain: batch.clone(),
        batch,
        pipeline: Pipeline::new(Vec::new()),
        admission: None,
        at: 0,
        runs: Vec::new(),
        made_bytes: 0,
        faulted: found.map(|found| found.faulted).unwrap_or_default(),
        rejected: BTreeMap::new(),
        tries: 0,
        busy: 0,
    };
    let kept = memory.modules.take().filter(|(revision, _)| *revision == row.revision);
    let bound = match kept {
        Some((_, pipeline)) => Ok(pipeline),
        None => work.bind().await,
    };
    let result = match bound {
        Ok(pipeline) => {
            work.pipeline = pipeline;
            let (returned, result) = judge_in_turns(shared, work).await?;
            work = returned;
            if result.is_err() {
                work.pipeline.rest();
            }
            memory.modules = Some((row.revision, work.pipeline));
            result
        }
        Err(error) => Err(error),
    };
    if matches!(result, Err(Error::IngestFaulted { .. })) && stamp.id != 0 {
        // Without a mark it could not be known again.
        memory.found = Some(Found { revision: row.revision, stamp, faulted: work.faulted });
    }
    result
}

async fn judge_in_turns(
    shared: &Arc<Shared>,
    mut work: Work,
) -> Result<(Work, Result<Judged, Error>), Error> {
    loop {
        let (returned, pause) = on_module_thread(shared, work).await?;
        work = returned;
        match pause {
            Pause::Done(judged) => return Ok((work, Ok(judged))),
            Pause::Turn => {}
            Pause::Wait(time) => tokio::time::sleep(time).await,
            Pause::GiveBack(error) => return Ok((work, Err(error))),
        }
    }
}

/// A batch that is being judged, moved between module threads and the network's.
struct Work {
    shared: Arc<Shared>,
    ingest: Arc<Ingest>,
    row: Arc<IngestRow>,
    index: usize,
    batch: RecordBatch,
    /// The same, with payloads that can be read where that is needed.
    plain: RecordBatch,
    pipeline: Pipeline,
    /// Given before there were modules to run.
    admission: Option<Admission>,
    /// Records before are judged.
    at: usize,
    /// What became of them.
    runs: Vec<(Range<usize>, Delivery)>,
    made_bytes: usize,
    /// Records that modules fail on, some of them behind `at`.
    faulted: BTreeMap<u32, Unstored>,
    rejected: BTreeMap<u32, Unstored>,
    /// How often the record at `at` was tried in vain.
    tries: usize,
    /// How often there was no instance.
    busy: u32,
}

/// Why a module thread gave a batch back.
enum Pause {
    /// It is judged.
    Done(Judged),
    /// It had its turn; others wait.
    Turn,
    /// Again after this time.
    Wait(Duration),
    /// It is not judged, and nothing of it is stored.
    GiveBack(Error),
}

async fn on_module_thread(shared: &Shared, mut work: Work) -> Result<(Work, Pause), Error> {
    let (sender, receiver) = oneshot::channel();
    let flow = work.ingest.flow;
    let job = move || {
        let pause = work.advance().unwrap_or_else(Pause::GiveBack);
        // Nobody waits when the broker is gone.
        let _ = sender.send((work, pause));
    };
    shared.workers.submit(flow, job).map_err(|_| Error::InstancesBusy)?;
    receiver.await.map_err(|_| Error::Internal("a module thread lost its job; see the log".into()))
}

impl Work {
    /// Makes instances of the modules.
    async fn bind(&mut self) -> Result<Pipeline, Error> {
        let admission = self.ingest.breaker.admit(self.row.revision, Instant::now());
        if let Admission::Wait(time) = admission {
            return Err(self.let_alone(time));
        }
        self.admission = Some(admission);
        let (shared, topic, row) =
            (Arc::clone(&self.shared), self.ingest.topic.clone(), Arc::clone(&self.row));
        match blocking(move || bind(&shared.registry, &topic, &row.pipeline)).await? {
            Ok(modules) => Ok(Pipeline::new(modules)),
            Err(Error::InstancesBusy) => {
                self.ingest.breaker.release(self.row.revision, Instant::now());
                Err(Error::InstancesBusy)
            }
            Err(error) => Err(self.trip(0, &error.to_string(), admission == Admission::Probe)),
        }
    }

    fn advance(&mut self) -> Result<Pause, Error> {
        let started = Instant::now();
        let reads = self.pipeline.modules().any(|module| module.spec().reads_payload);
        if self.at == 0 && (reads || self.pipeline.emits()) {
            self.plain = self.batch.decompressed()?;
        }
        let records = self.plain.view().len();
        loop {
            let Some(range) = self.next(records) else { return self.finish().map(Pause::Done) };
            let admission = self.admission.take();
            let admission =
                admission.unwrap_or_else(|| self.ingest.breaker.admit(self.row.revision, Instant::now()));
            let range = match admission {
                Admission::Wait(time) => return Ok(Pause::GiveBack(self.let_alone(time))),
                Admission::Probe => range.start..range.start + 1,
                // After a fault the record at fault is tried alone.
                Admission::Go if self.tries > 0 => range.start..range.start + 1,
                Admission::Go => range,
            };
            let outcome = self.pipeline.run(&self.plain, range)?;
            if let Some(pause) = self.take(outcome, admission == Admission::Probe)? {
                return Ok(pause);
            }
            if started.elapsed() > JUDGED_TURN {
                return Ok(Pause::Turn);
            }
        }
    }

    /// The next records that are not judged, up to one that modules are known to fail on.
    fn next(&mut self, records: usize) -> Option<Range<usize>> {
        while self.at < records && self.faulted.contains_key(&position(self.at)) {
            self.at += 1;
            self.tries = 0;
        }
        let end =
            self.faulted.range(position(self.at)..).next().map_or(records, |(known, _)| *known as usize);
        (self.at < records).then(|| self.at..end.min(records))
    }

    /// Takes in what a run brought. `Some` when the thread must be given back.
    fn take(&mut self, outcome: Outcome, probe: bool) -> Result<Option<Pause>, Error> {
        let (limits, used) = (&self.shared.registry.limits, self.pipeline.take_usage());
        self.ingest.count(self.row.revision, |counts| counts.modules.count(&self.row.pipeline, limits, used));
        self.made_bytes += outcome.bytes();
        if self.made_bytes > INGEST_MADE_BYTES_MAX {
            let what = "what the modules on the topic's ingest make of the batch (publish smaller batches)";
            return Err(Error::TooLarge { what, bytes: self.made_bytes, max: INGEST_MADE_BYTES_MAX });
        }
        let Outcome { done, delivery, rejects, faults, stop, .. } = outcome;
        for reject in &rejects {
            let module = self.module(reject.stage).to_owned();
            let why = Unstored::Rejected { module, reason: reject.reason.clone() };
            self.rejected.insert(u32::try_from(reject.offset).unwrap_or(u32::MAX), why);
        }
        for found in &faults {
            self.fault(found.offset, found.stage, found.fault.to_string());
        }
        let (judged, failed) = (done.len(), faults.len());
        if judged > 0 {
            self.tries = 0;
            self.at = done.end;
            self.runs.push((done, delivery));
        }
        if judged > failed {
            self.succeeded();
        } else if let Some(last) = faults.last()
            && let Some(error) = self.failed(last.stage, failed, &last.fault.to_string(), probe)
        {
            return Ok(self.unless_done(error));
        }
        Ok(match stop {
            // Whether there were too many in a row of all that run these modules is counted by the breaker.
            None | Some(Stop::FaultsInRow { .. }) => None,
            Some(Stop::Busy { .. }) => {
                if probe {
                    self.ingest.breaker.release(self.row.revision, Instant::now());
                }
                self.busy += 1;
                Some(match self.busy > INGEST_BUSY_MAX {
                    true => Pause::GiveBack(Error::InstancesBusy),
                    false => Pause::Wait(BUSY_WAIT),
                })
            }
            Some(Stop::Retry { stage, text }) => {
                if let Some(wait) = FAULT_RETRIES.get(self.tries).filter(|_| !probe) {
                    self.tries += 1;
                    return Ok(Some(Pause::Wait(*wait)));
                }
                // It was tried alone, as often as is done.
                let cause = format!("it asks to be tried again: {text}");
                self.fault(self.at as u64, stage, cause.clone());
                let error = self.failed(stage, 1, &cause, probe);
                error.and_then(|error| self.unless_done(error))
            }
            Some(Stop::Unusable { stage, fault }) => {
                Some(Pause::GiveBack(self.trip(stage, &fault.to_string(), probe)))
            }
        })
    }

    /// The batch is given back, unless all of it is judged.
    fn unless_done(&mut self, error: Error) -> Option<Pause> {
        let records = self.plain.view().len();
        self.next(records).is_some().then_some(Pause::GiveBack(error))
    }

    fn fault(&mut self, offset: u64, stage: usize, cause: String) {
        let module = self.module(stage).to_owned();
        self.faulted.insert(u32::try_from(offset).unwrap_or(u32::MAX), Unstored::Faulted { module, cause });
    }

    fn finish(&mut self) -> Result<Judged, Error> {
        let runs = std::mem::take(&mut self.runs);
        let (faulted, rejected) = (self.faulted.len() as u64, self.rejected.len() as u64);
        self.tell_refused();
        let all_kept = self.faulted.is_empty()
            && self.rejected.is_empty()
            && runs.iter().all(|(_, delivery)| *delivery == Delivery::Untouched);
        let (judged, changed) = if all_kept {
            (Judged::untouched(self.batch.clone()), 0)
        } else {
            let mut refused = std::mem::take(&mut self.faulted);
            refused.append(&mut self.rejected);
            put_together(&self.batch, &self.plain, runs, refused.into_iter().collect())?
        };
        let dropped =
            judged.unstored.iter().filter(|refused| refused.why == Unstored::Dropped).count() as u64;
        self.ingest.count(self.row.revision, |counts| {
            counts.records_in += u64::from(judged.records);
            counts.rejected += rejected;
            counts.faulted += faulted;
            counts.dropped += dropped;
            counts.changed += changed;
        });
        Ok(judged)
    }

    /// The modules are let alone for so long.
    fn let_alone(&self, time: Duration) -> Error {
        let after_ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX).saturating_add(1);
        let fault = self.ingest.breaker.fault().unwrap_or_default();
        Error::IngestFaulted { topic: self.ingest.topic.clone(), fault, after_ms }
    }

    fn succeeded(&self) {
        if self.ingest.breaker.succeeded(self.row.revision) == News::Closed {
            self.tell(0, ModuleLogLevel::Info, "judges records again".into());
        }
    }

    /// So many records are at fault, and none was judged. The error when that is too much.
    fn failed(&self, stage: usize, faults: usize, cause: &str, probe: bool) -> Option<Error> {
        let faults = u32::try_from(faults).unwrap_or(u32::MAX);
        let cause = format!("too many records in a row: {cause}");
        let fault = || self.fails(stage, &cause);
        match self.ingest.breaker.failed(self.row.revision, faults, probe, Instant::now(), fault) {
            News::None | News::Closed => None,
            news => Some(self.tripped(news, stage, &cause)),
        }
    }

    /// The modules cannot go on at all.
    fn trip(&self, stage: usize, cause: &str, probe: bool) -> Error {
        let fault = self.fails(stage, cause);
        let news = self.ingest.breaker.trip(self.row.revision, probe, Instant::now(), fault);
        self.tripped(news, stage, cause)
    }

    fn tripped(&self, news: News, stage: usize, cause: &str) -> Error {
        if news == News::Opened {
            let text = format!(
                "is let alone, publishers are told to wait, and one record is tried now and then: {cause}"
            );
            self.tell(stage, ModuleLogLevel::Error, text);
        }
        let wait = self.ingest.breaker.wait(self.row.revision, Instant::now());
        self.let_alone(wait.unwrap_or_default())
    }

    /// What the topic shows while its modules are let alone.
    fn fails(&self, stage: usize, cause: &str) -> String {
        format!("module {} fails: {cause}", self.module(stage))
    }

    /// The first of each kind is told.
    fn tell_refused(&self) {
        if let Some((position, Unstored::Rejected { module, reason })) = self.rejected.first_key_value() {
            let text = format!(
                "rejected {} records, the first, {position} of a batch: {reason}",
                self.rejected.len()
            );
            self.tell_of(module, ModuleLogLevel::Warn, text);
        }
        if let Some((position, Unstored::Faulted { module, cause })) = self.faulted.first_key_value() {
            let many = self.faulted.len();
            let text = format!(
                "failed on {many} records, which are refused, the first, {position} of a batch: {cause}"
            );
            self.tell_of(module, ModuleLogLevel::Error, text);
        }
    }

    fn tell(&self, stage: usize, level: ModuleLogLevel, what: String) {
        self.tell_of(self.module(stage), level, what);
    }

    fn tell_of(&self, module: &str, level: ModuleLogLevel, what: String) {
        let (topic, partition) = (&self.ingest.topic, self.index);
        let text = format!("ingest of topic {topic} partition {partition}: {what}");
        self.ingest.tell(&self.shared.tail, module, level, text);
    }

    fn module(&self, stage: usize) -> &str {
        self.row.pipeline.get(stage).map_or("?", |binding| binding.module.as_str())
    }
}

fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

//! Modules that run beside those of a subscription, on the same records, so that what they would do otherwise is known
//! before they take over. Nothing comes of their verdicts, and nobody waits for them: where they are too slow, records
//! are left out and counted.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use millstream_engine::{Differences, FaultKind, Outcome, Pipeline, Stop};
use millstream_types::{RecordBatch, ShadowInfo, VerdictChange, VerdictSample};

use crate::{
    Error, Place, Subscription,
    bindings::PinnedBinding,
    breaker::{Admission, Breaker},
    broker::Shared,
    limits::{JUDGED_TURN, SHADOW_BYTES_MAX, SHADOW_SAMPLES_MAX, SHADOW_TEXT_BYTES},
    subscription::new_flow,
};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Shadow {
    pipeline: Vec<PinnedBinding>,
    tally: Mutex<Tally>,
    idle: Mutex<Vec<Pipeline>>,
    /// Of batches that wait to be judged.
    waiting_bytes: AtomicUsize,
    breaker: Breaker,
    /// Its turns on the module threads are its own.
    flow: u64,
}

#[derive(Debug, Default)]
struct Tally {
    differences: Differences,
    left_out: u64,
    samples: Vec<VerdictSample>,
    fault: Option<String>,
    module_ns: u64,
}

/// Records of a batch that were judged, and are to be judged by the shadow.
struct Comparison {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    shadow: Arc<Shadow>,
    place: Place,
    batch: RecordBatch,
    outcome: Arc<Outcome>,
    /// The first record that is not compared.
    at: usize,
    /// Until it is dropped these count as waiting.
    bytes: usize,
}

impl Shadow {
    pub(crate) fn new(pipeline: Vec<PinnedBinding>) -> Self {
        Self {
            pipeline,
            tally: Mutex::default(),
            idle: Mutex::default(),
            waiting_bytes: AtomicUsize::new(0),
            breaker: Breaker::default(),
            flow: new_flow(),
        }
    }

    pub(crate) fn pipeline(&self) -> &[PinnedBinding] {
        &self.pipeline
    }

    /// Has the records of `batch` that are done in `outcome` judged as well, later.
    pub(crate) fn offer(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        subscription: &Arc<Subscription>,
        place: &Place,
        batch: &RecordBatch,
        outcome: &Arc<Outcome>,
    ) {
        let bytes = batch.as_bytes().len();
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        let comparison = Comparison {
            shared: Arc::clone(shared),
            subscription: Arc::clone(subscription),
            shadow: Arc::clone(self),
            place: place.clone(),
            batch: batch.clone(),
            outcome: Arc::clone(outcome),
            at: outcome.done.start,
            bytes,
        };
        // One batch always may.
        if waiting > 0 && waiting + bytes > SHADOW_BYTES_MAX {
            return comparison.leave_out();
        }
        comparison.submit();
    }

    pub(crate) fn info(&self) -> ShadowInfo {
        let tally = self.tally();
        let changes = tally.differences.changes.iter().map(|((from, to), records)| VerdictChange {
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            records: *records,
        });
        ShadowInfo {
            pipeline: self.pipeline.iter().map(PinnedBinding::to_binding).collect(),
            compared: tally.differences.compared,
            same: tally.differences.same,
            left_out: tally.left_out,
            changes: changes.collect(),
            samples: tally.samples.clone(),
            fault: tally.fault.clone(),
            module_ns: tally.module_ns,
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Pipeline>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Comparison {
    fn submit(self) {
        let (shared, shadow) = (Arc::clone(&self.shared), Arc::clone(&self.shadow));
        let records = self.left();
        if shared.workers.submit(shadow.flow, move || self.run()).is_err() {
            shadow.tally().left_out += records;
        }
    }

    /// One turn on a module thread.
    fn run(mut self) {
        let idle = self.shadow.idle().pop();
        let pipeline = idle.map_or_else(
            || self.shared.registry.bind(&self.subscription, self.shadow.pipeline()).map(Pipeline::new),
            Ok,
        );
        let mut pipeline = match pipeline {
            Ok(pipeline) => pipeline,
            Err(error) => {
                if !matches!(error, Error::InstancesBusy) {
                    self.shadow.tally().fault = Some(error.to_string());
                }
                return self.leave_out();
            }
        };
        let done = self.compare(&mut pipeline);
        // Instances are few, and whether there will be more records is not known here.
        if self.shadow.waiting_bytes.load(Ordering::Acquire) <= self.bytes {
            pipeline.rest();
        }
        self.shadow.idle().push(pipeline);
        match done {
            true => {}
            false if self.shadow.is_current(&self.subscription) => self.submit(),
            false => self.leave_out(),
        }
    }

    /// Compares what can be in one turn; whether nothing is left.
    fn compare(&mut self, pipeline: &mut Pipeline) -> bool {
        let started = Instant::now();
        let end = self.outcome.done.end;
        while self.at < end {
            if started.elapsed() > JUDGED_TURN {
                return false;
            }
            let upto = match self.shadow.breaker.admit(Instant::now()) {
                Admission::Go => end,
                Admission::Probe => self.at + 1,
                Admission::Wait(_) => break,
            };
            let Ok(other) = pipeline.run(&self.batch, self.at..upto) else { break };
            let moved = !other.done.is_empty();
            if moved && self.note(&other).is_none() {
                break;
            }
            self.at = other.done.end;
            let failed = match &other.stop {
                Some(Stop::FaultsInRow { fault, .. } | Stop::Unusable { fault, .. }) => {
                    Some(fault.to_string())
                }
                Some(Stop::Retry { text, .. }) => Some(format!("{}: {text}", FaultKind::Retry)),
                None | Some(Stop::Busy { .. }) => other
                    .faults
                    .first()
                    .filter(|_| upto - other.done.start == 1)
                    .map(|it| it.fault.to_string()),
            };
            match failed {
                Some(fault) => {
                    self.shadow.breaker.trip(Instant::now());
                    self.shadow.tally().fault = Some(fault);
                }
                None if moved => {
                    if self.shadow.breaker.close() {
                        self.shadow.tally().fault = None;
                    }
                }
                None => break,
            }
        }
        let left = self.left();
        self.shadow.tally().left_out += left;
        true
    }

    /// Notes where `other` differs; `None` when that cannot be told.
    fn note(&self, other: &Outcome) -> Option<()> {
        let records = other.done.clone();
        let made = self.outcome.made(&self.batch, records.clone()).ok()?;
        let others = other.made(&self.batch, records.clone()).ok()?;
        let mut tally = self.shadow.tally();
        let Tally { differences, samples, module_ns, .. } = &mut *tally;
        *module_ns += other.counters.guest_ns;
        let mut told = Vec::new();
        for index in differences.add(&made, &others) {
            if samples.len() + told.len() < SHADOW_SAMPLES_MAX {
                told.push(index);
            }
        }
        for at in told {
            let (Some(from), Some(to)) = (made.get(at), others.get(at)) else { continue };
            let index = records.start + at;
            let words =
                |outcome: &Outcome, made| outcome.made_in_words(made, &self.batch, index, SHADOW_TEXT_BYTES);
            samples.push(VerdictSample {
                topic: self.place.topic.name().clone(),
                partition: self.place.partition,
                offset: self.batch.view().record(index)?.offset,
                from: words(&self.outcome, *from),
                to: words(other, *to),
            });
        }
        Some(())
    }

    fn left(&self) -> u64 {
        (self.outcome.done.end - self.at) as u64
    }

    fn leave_out(self) {
        let left = self.left();
        self.shadow.tally().left_out += left;
    }
}

impl Shadow {
    fn is_current(self: &Arc<Self>, subscription: &Subscription) -> bool {
        subscription.shadow().is_some_and(|shadow| Arc::ptr_eq(&shadow, self))
    }
}

impl Drop for Comparison {
    fn drop(&mut self) {
        self.shadow.waiting_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

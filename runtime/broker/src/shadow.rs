//! Modules that run beside those of a subscription, on the same records, so that what they would do otherwise is known
//! before they take over. Nothing comes of their verdicts, and nobody waits for them: where they are too slow, records
//! are left out and counted.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use millstream_engine::{Differences, Outcome, Pipeline, Stop};
use millstream_types::{RecordBatch, ShadowInfo, VerdictChange, VerdictSample};

use crate::{
    Error, Place, Subscription,
    bindings::PinnedBinding,
    breaker::{Admission, Breaker},
    broker::Shared,
    limits::{
        JUDGED_TURN, SHADOW_BATCH_BYTES, SHADOW_BYTES_MAX, SHADOW_SAMPLES_MAX, SHADOW_TEXT_BYTES,
        SHADOW_VAIN_MAX,
    },
    subscription::new_flow,
};

/// A shadow is not bound anew: its breaker knows one revision.
const REVISION: u64 = 0;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Shadow {
    pipeline: Vec<PinnedBinding>,
    tally: Mutex<Tally>,
    queue: Mutex<Queue>,
    breaker: Breaker,
    /// Its turns on the module threads are its own.
    flow: u64,
}

#[derive(Debug, Default)]
struct Tally {
    differences: Differences,
    left_out: u64,
    samples: Vec<VerdictSample>,
    module_ns: u64,
}

/// What waits to be judged: by one job at a time.
#[derive(Debug, Default)]
struct Queue {
    comparisons: VecDeque<Comparison>,
    bytes: usize,
    /// Whether a job is on its way or running.
    running: bool,
}

/// Records of a batch that were judged, and are to be judged by the shadow.
#[derive(Debug)]
struct Comparison {
    place: Place,
    batch: RecordBatch,
    outcome: Arc<Outcome>,
    /// The first record that is not compared.
    at: usize,
    /// Turns that came to nothing.
    vain: u32,
    bytes: usize,
}

/// A turn on a module thread.
struct Job {
    shadow: Arc<Shadow>,
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    pipeline: Option<Pipeline>,
}

impl Shadow {
    pub(crate) fn new(pipeline: Vec<PinnedBinding>) -> Self {
        Self {
            pipeline,
            tally: Mutex::default(),
            queue: Mutex::default(),
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
        let comparison = Comparison {
            place: place.clone(),
            batch: batch.clone(),
            outcome: Arc::clone(outcome),
            at: outcome.done.start,
            vain: 0,
            bytes: batch.as_bytes().len() + outcome.bytes() + SHADOW_BATCH_BYTES,
        };
        let start = {
            let mut queue = self.queue();
            // One always may.
            if !queue.comparisons.is_empty() && queue.bytes + comparison.bytes > SHADOW_BYTES_MAX {
                drop(queue);
                return self.leave_out(&comparison);
            }
            queue.bytes += comparison.bytes;
            queue.comparisons.push_back(comparison);
            !std::mem::replace(&mut queue.running, true)
        };
        if start {
            let (shadow, shared, subscription) =
                (Arc::clone(self), Arc::clone(shared), Arc::clone(subscription));
            Job { shadow, shared, subscription, pipeline: None }.submit();
        }
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
            fault: self.breaker.fault(),
            module_ns: tally.module_ns,
        }
    }

    fn leave_out(&self, comparison: &Comparison) {
        self.tally().left_out += comparison.left();
    }

    fn is_current(self: &Arc<Self>, subscription: &Subscription) -> bool {
        subscription.shadow().is_some_and(|shadow| Arc::ptr_eq(&shadow, self))
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn submit(self) {
        let (shadow, shared) = (Arc::clone(&self.shadow), Arc::clone(&self.shared));
        if shared.workers.submit(shadow.flow, move || self.run()).is_err() {
            // Nobody else runs while this one does.
            let all = std::mem::take(&mut *shadow.queue());
            all.comparisons.iter().for_each(|comparison| shadow.leave_out(comparison));
        }
    }

    fn run(mut self) {
        let started = Instant::now();
        while let Some(mut comparison) = self.next() {
            if !self.compare(&mut comparison, started) {
                // The rest in another turn.
                let mut queue = self.shadow.queue();
                queue.bytes += comparison.bytes;
                queue.comparisons.push_front(comparison);
                drop(queue);
                return self.submit();
            }
            self.shadow.leave_out(&comparison);
        }
        // Its instances go with the pipeline: they are few, and whether more records come is not known here.
    }

    /// What is next; `None`, and the next that comes starts a job, when there is nothing.
    fn next(&self) -> Option<Comparison> {
        let mut queue = self.shadow.queue();
        let next = queue.comparisons.pop_front();
        match &next {
            Some(comparison) => queue.bytes -= comparison.bytes,
            None => queue.running = false,
        }
        next
    }

    /// Compares what can be, up to where the turn that `started` is over: `false` then. What is left otherwise is left out.
    fn compare(&mut self, comparison: &mut Comparison, started: Instant) -> bool {
        let end = comparison.outcome.done.end;
        while comparison.at < end && self.shadow.is_current(&self.subscription) {
            if started.elapsed() > JUDGED_TURN {
                return false;
            }
            let admission = self.shadow.breaker.admit(REVISION, Instant::now());
            let (upto, probe) = match admission {
                Admission::Go => (end, false),
                Admission::Probe => (comparison.at + 1, true),
                Admission::Wait(_) => return true,
            };
            let Some(pipeline) = self.bound(probe) else { return true };
            let Ok(other) = pipeline.run(&comparison.batch, comparison.at..upto) else { return true };
            let (done, faults) = (other.done.len(), other.faults.len());
            if self.note(comparison, &other).is_none() {
                return true;
            }
            comparison.at = other.done.end;
            let fault = other.faults.last().map(|found| found.fault.to_string());
            let (breaker, now) = (&self.shadow.breaker, Instant::now());
            if done > faults {
                breaker.succeeded(REVISION);
            } else if let Some(fault) = fault {
                breaker.failed(REVISION, u32::try_from(faults).unwrap_or(u32::MAX), probe, now, || fault);
            }
            match other.stop {
                Some(Stop::Unusable { fault, .. }) => {
                    breaker.trip(REVISION, probe, now, fault.to_string());
                    return true;
                }
                // It will not be asked again for these.
                Some(Stop::Retry { .. } | Stop::Busy { .. }) => {
                    breaker.release(REVISION, now);
                    return true;
                }
                // Those at fault are divided over several runs.
                None | Some(Stop::FaultsInRow { .. }) if done == 0 => {
                    comparison.vain += 1;
                    if comparison.vain > SHADOW_VAIN_MAX {
                        return true;
                    }
                }
                None | Some(Stop::FaultsInRow { .. }) => comparison.vain = 0,
            }
        }
        true
    }

    /// The shadow's modules; `None` when they cannot be bound now.
    fn bound(&mut self, probe: bool) -> Option<&mut Pipeline> {
        if self.pipeline.is_none() {
            match self.shared.registry.bind(&self.subscription, self.shadow.pipeline()) {
                Ok(bound) => self.pipeline = Some(Pipeline::new(bound)),
                Err(Error::InstancesBusy) => self.shadow.breaker.release(REVISION, Instant::now()),
                Err(error) => {
                    self.shadow.breaker.trip(REVISION, probe, Instant::now(), error.to_string());
                }
            }
        }
        self.pipeline.as_mut()
    }

    /// Notes where `other` differs; `None` when that cannot be told.
    fn note(&self, comparison: &Comparison, other: &Outcome) -> Option<()> {
        let Comparison { batch, outcome, place, .. } = comparison;
        let records = other.done.clone();
        let made = outcome.made(batch, records.clone()).ok()?;
        let others = other.made(batch, records.clone()).ok()?;
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
                |outcome: &Outcome, made| outcome.made_in_words(made, batch, index, SHADOW_TEXT_BYTES);
            samples.push(VerdictSample {
                topic: place.topic.name().clone(),
                partition: place.partition,
                offset: batch.view().record(index)?.offset,
                from: words(outcome, *from),
                to: words(other, *to),
            });
        }
        Some(())
    }
}

impl Comparison {
    fn left(&self) -> u64 {
        (self.outcome.done.end - self.at) as u64
    }
}

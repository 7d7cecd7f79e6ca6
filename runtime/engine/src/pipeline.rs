//! A pipeline: bound modules run one after the other over the records of a batch.
//!
//! The batch is taken in chunks of at most 256 records. A chunk goes through all modules; what is kept stays a list of
//! ranges of the source batch, until a module emits: from there on it is a batch of its own, whose records keep the
//! offset of their source. What happens to a source record is all or nothing: once one of its outputs is rejected or at
//! fault, the others go nowhere. What a module with a state wrote for it stays, unless it was that module's call that failed.

mod chunk;
mod counters;
mod flow;
mod gather;
mod outcome;
mod picks;
mod stage;

use std::ops::Range;
use std::time::{Duration, Instant};

use millstream_types::{BatchError, RecordBatch};

pub use counters::{Counters, Usage};
pub use outcome::{Delivery, Outcome, RecordFault, Reject, RoutedRecord, Stop};

use crate::limits::{CALL_RECORDS_MAX, RUN_EMIT_BYTES, RUN_TURN};
use crate::state::Layer;
use crate::{Bound, Fault, FaultKind, State};
use chunk::{Chunk, Overflow};
use gather::Gather;
use stage::Stage;

/// Bound modules, run one after the other. Not shared: one thread at a time runs it.
#[derive(Debug)]
pub struct Pipeline {
    stages: Vec<Stage>,
    counters: Counters,
    faults_in_row: u32,
    turn: Duration,
}

/// How long a run may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    started: Instant,
    length: Duration,
}

impl Turn {
    pub(crate) fn is_over(self) -> bool {
        self.started.elapsed() > self.length
    }
}

impl Pipeline {
    /// A pipeline of `modules`, in that order, of which one at most has a state. Without any, every record goes on.
    pub fn new(modules: Vec<Bound>) -> Self {
        let stages = modules.into_iter().map(Stage::new).collect();
        Self { stages, counters: Counters::default(), faults_in_row: 0, turn: RUN_TURN }
    }

    /// The same with runs that end early after about `turn`, instead of 10 ms.
    #[must_use]
    pub fn with_turn(self, turn: Duration) -> Self {
        Self { turn, ..self }
    }

    /// The modules, in order.
    pub fn modules(&self) -> impl ExactSizeIterator<Item = &Bound> {
        self.stages.iter().map(Stage::bound)
    }

    /// What one of the modules remembers. After a run it is to be told whether what that wrote is kept.
    pub fn state(&self) -> Option<State> {
        self.state_and_place().map(|(state, _)| state)
    }

    /// With whether its module is the last.
    fn state_and_place(&self) -> Option<(State, bool)> {
        let place = self.stages.iter().position(|stage| stage.bound().state().is_some())?;
        let state = self.stages.get(place)?.bound().state()?;
        Some((state.clone(), place + 1 == self.stages.len()))
    }

    /// Whether some module may emit, to its reader or to topics.
    pub fn emits(&self) -> bool {
        self.stages.iter().any(|stage| stage.bound().spec().verdicts.emit)
    }

    /// What happened since the pipeline was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What each module has used since this was asked last, in order.
    pub fn take_usage(&mut self) -> impl ExactSizeIterator<Item = Usage> {
        self.stages.iter_mut().map(Stage::take_usage)
    }

    /// Records at fault in a row up to now, over all runs.
    pub fn faults_in_row(&self) -> u32 {
        self.faults_in_row
    }

    /// Takes faults back of a run that nothing is made of: they are counted when it is run again.
    pub fn set_faults_in_row(&mut self, faults: u32) {
        self.faults_in_row = faults;
    }

    /// Gives the instances up, with the memory they hold. The next run makes others.
    pub fn rest(&mut self) {
        for stage in &mut self.stages {
            stage.rest();
        }
    }

    /// The same as [`run`](Self::run) where whatever is done counts: what is written to a state is kept.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_for_good(
        &mut self,
        batch: &RecordBatch,
        records: Range<usize>,
    ) -> Result<Outcome, BatchError> {
        let outcome = self.run(batch, records)?;
        if let Some(state) = self.state() {
            state.keep();
        }
        Ok(outcome)
    }

    /// Runs the records at indices `records` of `batch` through the modules. May end early, so that no run takes too
    /// long or holds too much: [`Outcome::done`] says how far it came. Takes long: not for a thread that serves others.
    ///
    /// # Errors
    /// [`BatchError`] when the batch itself cannot be read; nothing is done then.
    pub fn run(&mut self, batch: &RecordBatch, records: Range<usize>) -> Result<Outcome, BatchError> {
        let turn = Turn { started: Instant::now(), length: self.turn };
        let records = records.start..records.end.min(batch.view().len());
        // Emitted records take over payloads; kept ones do only in a batch that another module's emits rebuild.
        let plain = self.emits() || self.stages.iter().any(|stage| stage.bound().spec().reads_payload);
        let source = if plain { batch.decompressed()? } else { batch.clone() };
        let view = source.view();

        let state = self.state_and_place();
        if let Some((state, _)) = &state {
            state.give_up();
        }
        let mut counters = Counters::default();
        let mut gather = Gather::default();
        let mut at = records.start;
        let mut chunk_records = CALL_RECORDS_MAX;
        while at < records.end && gather.stop().is_none() {
            if at > records.start && (gather.emitted_bytes() > RUN_EMIT_BYTES || turn.is_over()) {
                break;
            }
            let range = at..records.end.min(at + chunk_records);
            let faults_before = self.faults_in_row;
            if let Some((state, _)) = &state {
                state.discard(Layer::Chunk);
            }
            let mut chunk = Chunk::new(view, range.clone(), turn, &mut self.faults_in_row, &mut counters);
            match chunk.run(&mut self.stages) {
                Ok(()) => {
                    let done = chunk.done().len();
                    chunk_records = CALL_RECORDS_MAX;
                    match &state {
                        // A module behind it did not come so far as what was written: again, without the rest.
                        Some((_, false)) if (1..range.len()).contains(&done) => {
                            chunk_records = done;
                            self.faults_in_row = faults_before;
                            continue;
                        }
                        Some((_, false)) if done == 0 => {}
                        Some((state, _)) => state.merge(Layer::Chunk),
                        None => {}
                    }
                }
                Err(Overflow) if range.len() > 1 => {
                    chunk_records = range.len() / 2;
                    self.faults_in_row = faults_before;
                    continue;
                }
                Err(Overflow) => {
                    let text = "what it emits for this one record is larger than allowed";
                    chunk.fail(Fault::new(FaultKind::OutputTooLarge, text));
                }
            }
            at = gather.add(chunk)?;
        }
        let outcome = gather.finish(batch, &source, records.start..at, counters)?;
        self.counters += outcome.counters;
        Ok(outcome)
    }
}

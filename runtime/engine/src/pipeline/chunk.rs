//! One chunk of a batch on its way through all modules.

use std::collections::BTreeSet;
use std::ops::Range;

use millstream_types::{
    BatchBuilder, BatchError, BatchView, Offset, OutputsView, TopicName, Verdict, VerdictsView,
};

use super::flow::{Flow, Passed, Through, bytes_of, delta, parts};
use super::picks::Picks;
use super::stage::Stage;
use super::{Counters, RecordFault, Reject, Stop, Turn};
use crate::limits::{EMIT_BYTES_MAX, EMIT_RECORDS_MAX, FAULTS_IN_ROW_MAX};
use crate::{Fault, FaultKind};

/// The modules emit more for this chunk than is held at once: it must be smaller.
pub(crate) struct Overflow;

/// One chunk of a batch on its way through all modules.
pub(crate) struct Chunk<'a, 'b> {
    pub(crate) source: BatchView<'a>,
    pub(crate) range: Range<usize>,
    pub(crate) flow: Flow,
    /// Outputs to topics, in the order they came, and the topic of each.
    pub(crate) routed: BatchBuilder,
    pub(crate) topics: Vec<TopicName>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) faults: Vec<RecordFault>,
    /// Source offsets of rejects and faults.
    pub(crate) bad: BTreeSet<Offset>,
    /// Records from here on are not done.
    pub(crate) cut: Option<Offset>,
    pub(crate) stop: Option<Stop>,
    pub(crate) emitted_bytes: usize,
    emitted_records: usize,
    /// Of the run that it is part of.
    turn: Turn,
    faults_in_row: &'b mut u32,
    pub(crate) counters: &'b mut Counters,
}

impl<'a, 'b> Chunk<'a, 'b> {
    pub(crate) fn new(
        source: BatchView<'a>,
        range: Range<usize>,
        turn: Turn,
        faults_in_row: &'b mut u32,
        counters: &'b mut Counters,
    ) -> Self {
        Self {
            source,
            flow: Flow::Source(Picks::of(range.clone())),
            range,
            routed: BatchBuilder::new().with_stamp(source.base_offset(), source.timestamp()),
            topics: Vec::new(),
            rejects: Vec::new(),
            faults: Vec::new(),
            bad: BTreeSet::new(),
            cut: None,
            stop: None,
            emitted_bytes: 0,
            emitted_records: 0,
            turn,
            faults_in_row,
            counters,
        }
    }

    /// Takes the chunk through `stages`.
    pub(crate) fn run(&mut self, stages: &mut [Stage]) -> Result<(), Overflow> {
        for (index, stage) in stages.iter_mut().enumerate() {
            let flow = std::mem::replace(&mut self.flow, Flow::Source(Picks::default()));
            let passed = {
                let view = flow.view(self.source);
                let picks = match self.cut {
                    Some(cut) => flow.picks().below(view.index_of(cut)),
                    None => flow.picks().clone(),
                };
                self.pass(index, stage, view, picks)?
            };
            self.flow = match passed {
                Passed::Picked(picks) => flow.with_picks(picks),
                Passed::Built(batch) => {
                    let all = Picks::of(0..batch.view().len());
                    Flow::Built(batch, all)
                }
            };
        }
        Ok(())
    }

    /// The source records that are done, by index.
    pub(crate) fn done(&self) -> Range<usize> {
        let end = self.cut.map_or(self.range.end, |cut| self.source.index_of(cut));
        self.range.start..end.clamp(self.range.start, self.range.end)
    }

    /// Gives the only record of the chunk up because of `fault`, in the first module, and what was made of it.
    pub(crate) fn fail(&mut self, fault: Fault) {
        let offset = offset_of(&self.source, Some(self.range.start));
        self.flow = Flow::Source(Picks::default());
        self.routed = BatchBuilder::new();
        self.topics.clear();
        self.emitted_bytes = 0;
        self.fault(offset, 0, fault);
    }

    /// Takes the `picks` of `view` through one module: in portions, and in ever smaller ones where it fails.
    fn pass(
        &mut self,
        index: usize,
        stage: &mut Stage,
        view: BatchView<'_>,
        picks: Picks,
    ) -> Result<Passed, Overflow> {
        let mut through = Through::new(view);
        let mut work = vec![picks];
        while let Some(mut rest) = work.pop() {
            if rest.is_empty() {
                continue;
            }
            let offset = offset_of(&view, rest.first());
            if self.may_break_at(offset) {
                // The thread is others' as well.
                self.cut_at(offset);
                break;
            }
            let mut portion = stage.portion(&view, &mut rest);
            work.push(rest);
            let Err(fault) = self.judge(index, stage, &view, &portion, &mut through)? else {
                stage.succeeded(portion.len());
                *self.faults_in_row = 0;
                continue;
            };
            self.counters.call_faults += 1;
            stage.usage.faults += 1;
            let offset = offset_of(&view, portion.first());
            match fault.kind {
                FaultKind::Retry | FaultKind::Busy | FaultKind::Unusable => {
                    self.stop_at(offset, Stop::from_fault(index, fault));
                    break;
                }
                kind if portion.len() > 1 => {
                    stage.failed(portion.len(), kind);
                    if self.may_break_at(offset) {
                        stage.slow_down(portion.len());
                        self.cut_at(offset);
                        break;
                    }
                    let first = portion.take_first(portion.len() / 2);
                    work.push(portion);
                    work.push(first);
                }
                FaultKind::Reject => {
                    self.reject(offset, index, fault.text);
                }
                // What an earlier call left behind may be the cause: once more, with an instance of its own.
                _ if !fault.fresh => work.push(portion),
                kind => {
                    stage.failed(1, kind);
                    if self.fault(offset, index, fault) {
                        break;
                    }
                }
            }
        }
        through.finish().map_err(|_| Overflow)
    }

    /// One call, and what its verdicts say done.
    fn judge(
        &mut self,
        index: usize,
        stage: &mut Stage,
        view: &BatchView<'_>,
        portion: &Picks,
        through: &mut Through<'_>,
    ) -> Result<Result<(), Fault>, Overflow> {
        let answer = match stage.call(view, portion, self.counters) {
            Ok(Ok(answer)) => answer,
            Ok(Err(fault)) => return Ok(Err(fault)),
            Err(error) => return Ok(Err(Fault::new(FaultKind::Unusable, error.to_string()))),
        };
        let verdicts = match stage.bound_mut().check(&answer, portion.len()) {
            Ok(verdicts) => verdicts,
            Err(fault) => return Ok(Err(fault)),
        };
        self.apply(index, stage, view, portion, &verdicts, through).map(Ok)
    }

    fn apply(
        &mut self,
        index: usize,
        stage: &mut Stage,
        view: &BatchView<'_>,
        portion: &Picks,
        verdicts: &VerdictsView<'_>,
        through: &mut Through<'_>,
    ) -> Result<(), Overflow> {
        if verdicts.all_kept() {
            return through.keep(portion).map_err(|_| Overflow);
        }
        for (record, verdict) in portion.indices().zip(verdicts.iter()) {
            match verdict {
                Verdict::Keep => through.keep_one(record).map_err(|_| Overflow)?,
                Verdict::Drop => {}
                Verdict::Reject(reason) => {
                    self.reject(offset_of(view, Some(record)), index, reason.to_owned());
                }
                Verdict::Emit(outputs) => self.emit(stage, view, record, &outputs, through)?,
            }
        }
        Ok(())
    }

    fn emit(
        &mut self,
        stage: &mut Stage,
        view: &BatchView<'_>,
        record: usize,
        outputs: &OutputsView<'_>,
        through: &mut Through<'_>,
    ) -> Result<(), Overflow> {
        let Some(source) = view.record(record) else { return Ok(()) };
        for output in outputs.iter() {
            let parts = parts(&source, &output);
            let bytes = bytes_of(&parts);
            self.emitted_bytes += bytes;
            self.emitted_records += 1;
            if self.emitted_bytes > EMIT_BYTES_MAX
                || self.emitted_records > EMIT_RECORDS_MAX
                || bytes > millstream_types::limits::BATCH_BYTES_MAX
            {
                return Err(Overflow);
            }
            let pushed: Result<(), BatchError> = match output.topic {
                None => through.emit(&source, parts),
                Some(topic) => {
                    let topic =
                        stage.bound_mut().announced().topic(topic).expect("checked with the verdicts");
                    self.topics.push(topic);
                    self.routed.push_at(delta(&self.source, &source), parts)
                }
            };
            // Too large a key, say: as an output it is too large.
            pushed.map_err(|_| Overflow)?;
        }
        Ok(())
    }

    fn reject(&mut self, offset: Offset, stage: usize, reason: String) {
        if self.bad.insert(offset) {
            self.rejects.push(Reject { offset, stage, reason });
        }
    }

    /// Gives a record up; whether there were so many in a row that the run must end.
    fn fault(&mut self, offset: Offset, stage: usize, fault: Fault) -> bool {
        if self.bad.insert(offset) {
            self.faults.push(RecordFault { offset, stage, fault: fault.clone() });
        }
        *self.faults_in_row += 1;
        let too_many = *self.faults_in_row >= FAULTS_IN_ROW_MAX;
        if too_many {
            // The next run tries one record; if that fails, it stops again.
            *self.faults_in_row = FAULTS_IN_ROW_MAX - 1;
            self.stop_at(offset + 1, Stop::FaultsInRow { stage, fault });
        }
        too_many
    }

    /// Whether the run has had its time, and the chunk comes on if it ends here: several records of a module may be one of the
    /// source's.
    fn may_break_at(&self, offset: Offset) -> bool {
        offset > offset_of(&self.source, Some(self.range.start)) && self.turn.is_over()
    }

    /// What is at `offset` and behind is not done.
    fn cut_at(&mut self, offset: Offset) {
        self.cut = Some(self.cut.map_or(offset, |cut| cut.min(offset)));
    }

    fn stop_at(&mut self, offset: Offset, stop: Stop) {
        self.cut_at(offset);
        self.stop = Some(stop);
    }
}

fn offset_of(view: &BatchView<'_>, index: Option<usize>) -> Offset {
    index.and_then(|index| view.record(index)).map_or(view.base_offset(), |record| record.offset)
}

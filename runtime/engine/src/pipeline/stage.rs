//! One module of a pipeline: how much it is given in one call.

use millstream_types::{BatchError, BatchView};

use super::picks::Picks;
use super::{Counters, Usage};
use crate::bound::Call;
use crate::limits::{CALL_BYTES_MAX, CALL_RECORDS_MAX};
use crate::{Bound, Fault, FaultKind};

/// Calls that must succeed before a stage that was slowed down is given more again.
const SUCCESSES_TO_SPEED_UP: u32 = 8;

/// One module of a pipeline.
#[derive(Debug)]
pub(crate) struct Stage {
    bound: Bound,
    /// Most records in one call: fewer for a while after a call that was too much.
    records_max: usize,
    successes: u32,
    pub(crate) usage: Usage,
    input: Vec<u8>,
}

impl Stage {
    pub(crate) fn new(bound: Bound) -> Self {
        Self {
            bound,
            records_max: CALL_RECORDS_MAX,
            successes: 0,
            usage: Usage::default(),
            input: Vec::new(),
        }
    }

    pub(crate) fn bound(&self) -> &Bound {
        &self.bound
    }

    pub(crate) fn bound_mut(&mut self) -> &mut Bound {
        &mut self.bound
    }

    pub(crate) fn rest(&mut self) {
        self.bound.rest();
        self.input = Vec::new();
    }

    /// What it has used since this was asked last.
    pub(crate) fn take_usage(&mut self) -> Usage {
        let memory_bytes = self.bound.memory_bytes_peak() as u64;
        Usage { memory_bytes, metrics: self.bound.take_metrics(), ..std::mem::take(&mut self.usage) }
    }

    /// Takes off `rest` what goes into one call.
    pub(crate) fn portion(&self, view: &BatchView<'_>, rest: &mut Picks) -> Picks {
        let payloads = self.bound.spec().reads_payload;
        rest.take_portion(view, self.records_max, CALL_BYTES_MAX, payloads)
    }

    /// Calls the module for the `picks` of `view`; its answer, unchecked.
    pub(crate) fn call(
        &mut self,
        view: &BatchView<'_>,
        picks: &Picks,
        counters: &mut Counters,
    ) -> Result<Result<Vec<u8>, Fault>, BatchError> {
        self.input.clear();
        view.write_ranges(picks.ranges(), self.bound.spec().reads_payload, &mut self.input)?;
        let Call { nanos, start_nanos, fuel, result } = self.bound.call(&self.input);
        counters.calls += 1;
        counters.guest_ns += nanos + start_nanos;
        counters.fuel += fuel;
        counters.bytes_in += self.input.len() as u64;
        self.usage.calls += 1;
        self.usage.records += picks.len() as u64;
        self.usage.guest_ns += nanos + start_nanos;
        self.usage.longest_ns = self.usage.longest_ns.max(nanos);
        Ok(result)
    }

    /// Notes that a call with `records` records went well.
    pub(crate) fn succeeded(&mut self, records: usize) {
        if self.records_max < CALL_RECORDS_MAX && records >= self.records_max {
            self.successes += 1;
            if self.successes >= SUCCESSES_TO_SPEED_UP {
                self.records_max = CALL_RECORDS_MAX.min(self.records_max * 2);
                self.successes = 0;
            }
        }
    }

    /// Notes that a call with `records` records failed: when they may have been too many, the next have fewer.
    pub(crate) fn failed(&mut self, records: usize, kind: FaultKind) {
        self.successes = 0;
        if matches!(
            kind,
            FaultKind::Deadline | FaultKind::Memory | FaultKind::OutputTooLarge | FaultKind::State
        ) {
            self.slow_down(records);
        }
    }

    /// The next calls have fewer than `records` records.
    pub(crate) fn slow_down(&mut self, records: usize) {
        self.records_max = self.records_max.min((records / 2).max(1));
    }
}

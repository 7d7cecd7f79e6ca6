//! `millstream module test`: a module over a file of records, with the production engine and limits, without a broker.

mod golden;
mod report;

use std::{path::PathBuf, time::Instant};

use clap::Args;
use millstream_engine::{Delivery, Outcome, Pipeline, RecordFault, Stop};
use millstream_types::RecordBatch;

use self::{golden::Golden, report::Report};
use super::trial::Trial;
use crate::{cli::Common, failure::Failure, output, render::RecordJson};

/// A module that asks for the same records again is asked so often, and then given up.
const RETRIES_MAX: u32 = 3;

const EXAMPLES: &str =
    "Offsets count the records of the input from 0. A fault is a trap, a breach of a limit, or a verdict that
was not announced; with one, the exit code is 1.

With --expect, what comes out is compared with a file: a JSON line for each record that goes on or to a topic, and one
for each that is rejected or at fault, in the order of the input; nothing for a record that is dropped. Where it
differs, the exit code is 1. --update writes the file instead.

Fuel is about the number of instructions: the same on every machine. Counting it costs time, so for times see
`millstream module bench`.

Examples:
  millstream module test my-filter.wasm --config '{\"min\": 60}' --input flights.csv --format csv
  millstream module test my-filter.wasm --input in.ndjson --expect out.ndjson --update
  millstream module test my-filter.wasm --input in.ndjson --expect out.ndjson";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Test {
    #[command(flatten)]
    trial: Trial,
    /// Show so many of the records that come out
    #[arg(long, value_name = "N", default_value_t = 5)]
    show: usize,
    /// What must come out
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Write what comes out to the file of --expect
    #[arg(long, requires = "expect")]
    update: bool,
}

impl Test {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let golden = match (&self.expect, self.update) {
            (Some(file), false) => Some(Golden::read(file)?),
            (Some(file), true) => Some(Golden::to_be_written(file)),
            (None, _) => None,
        };
        let mut batches = self.trial.batches()?;
        let engine = Trial::engine(true)?;
        let mut pipeline = Pipeline::new(vec![self.trial.bind(&engine)?]);
        let mut run = Run { report: Report::default(), golden, test: &self };
        let ended = loop {
            match batches.next() {
                Ok(Some(batch)) => {
                    if let Err(failure) = run.judge(&mut pipeline, &batch) {
                        break Err(failure);
                    }
                }
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        let Run { mut report, golden, .. } = run;
        report.memory_bytes_peak =
            pipeline.modules().map(|bound| bound.memory_bytes_peak()).max().unwrap_or(0);
        pipeline.take_usage().for_each(|used| report.metrics.merge(&used.metrics));
        // What did not come to its end says nothing of what is expected.
        let differs = match (&ended, golden) {
            (Ok(()), Some(golden)) => golden.finish()?,
            _ => None,
        };
        report.print(common, differs.as_ref())?;
        ended?;
        match (report.counters.faulted, differs) {
            (0, None) => Ok(()),
            (0, Some(differs)) => Err(differs.failure()),
            (faults, _) => {
                Err(Failure::new(format!("the module failed on {}", output::counted(faults, "record"))))
            }
        }
    }
}

/// A run in progress.
struct Run<'a> {
    report: Report,
    golden: Option<Golden>,
    test: &'a Test,
}

impl Run<'_> {
    /// Runs one batch through, as often as the pipeline makes breaks.
    fn judge(&mut self, pipeline: &mut Pipeline, batch: &RecordBatch) -> Result<(), Failure> {
        self.report.input_bytes += batch.as_bytes().len() as u64;
        let records = batch.view().len();
        let (mut at, mut retries) = (0, 0);
        while at < records {
            let started = Instant::now();
            let outcome = pipeline
                .run_for_good(batch, at..records)
                .map_err(|error| Failure::new(format!("the batch cannot be read: {error}")))?;
            self.report.took += started.elapsed();
            if outcome.done.end > at {
                retries = 0;
            }
            self.add(&outcome, batch);
            at = outcome.done.end;
            match outcome.stop {
                None | Some(Stop::Busy { .. }) => {}
                Some(Stop::Retry { text, .. }) if retries >= RETRIES_MAX => {
                    return Err(Failure::new(format!("the module keeps asking for a retry: {text}")));
                }
                Some(Stop::Retry { .. }) => retries += 1,
                Some(Stop::Unusable { fault, .. }) => {
                    return Err(Failure::new(format!("the module cannot be used any more: {fault}")));
                }
                // Here every record is tried, however many fail.
                Some(Stop::FaultsInRow { .. }) => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, outcome: &Outcome, source: &RecordBatch) {
        self.report.counters += outcome.counters;
        match &outcome.delivery {
            Delivery::Nothing => {}
            Delivery::Untouched => self.take(source, outcome.done.clone()),
            Delivery::Batches(batches) => {
                batches.iter().for_each(|batch| self.take(batch, 0..batch.view().len()));
            }
        }
        for routed in outcome.routed() {
            if let Some(golden) = &mut self.golden {
                golden.routed(routed.source, routed.topic, &routed.record);
            }
            self.report.routed(routed.topic);
        }
        for reject in &outcome.rejects {
            if let Some(golden) = &mut self.golden {
                golden.refused(reject.offset, "rejected", &reject.reason);
            }
            self.report.rejected(reject);
        }
        for RecordFault { offset, fault, .. } in &outcome.faults {
            if let Some(golden) = &mut self.golden {
                golden.refused(*offset, "fault", &fault.to_string());
            }
            self.report.faulted(*offset, fault);
        }
    }

    /// Records that go on.
    fn take(&mut self, batch: &RecordBatch, indices: std::ops::Range<usize>) {
        let view = batch.view();
        for record in indices.filter_map(|index| view.record(index)) {
            self.report.kept_bytes += record.payload_len as u64;
            if let Some(golden) = &mut self.golden {
                golden.delivered(&record);
            }
            if self.report.shown.len() < self.test.show {
                let record = RecordJson::new(self.test.trial.topic().as_str(), 0, &record);
                self.report.shown.push(serde_json::to_value(record).unwrap_or_default());
            }
        }
    }
}

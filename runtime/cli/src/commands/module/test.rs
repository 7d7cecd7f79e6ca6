//! `millstream module test`: a module over a file of records, with the production engine and limits, without a broker.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use millstream_engine::{
    Counters, Delivery, Engine, Limits, LogSink, Outcome, Pipeline, RecordFault, Settings, Setup, Stop,
};
use millstream_types::{BatchBuilder, RecordBatch, TopicName};
use serde_json::{Value, json};

use crate::{
    bindings,
    cli::Common,
    failure::Failure,
    input::{Format, Records, Shape, Source},
    output, progress,
    render::RecordJson,
};

/// As the broker would store them.
const BATCH_BYTES: usize = 256 << 10;
/// Rejects and faults told one by one; all are counted.
const TOLD_MAX: usize = 20;
/// A module that asks for the same records again is asked so often, and then given up.
const RETRIES_MAX: u32 = 3;

const EXAMPLES: &str =
    "Offsets count the records of the input from 0. A fault is a trap, a breach of a limit, or a verdict that
was not announced; with one, the exit code is 1.

Example:
  millstream module test my-filter.wasm --config '{\"min\": 60}' --input flights.csv --format csv";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Test {
    /// The module
    file: PathBuf,
    /// Its configuration
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
    /// Records to run it over; `-` is standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// What the input holds; by its extension (.csv, .ndjson, .jsonl, else lines), if it is not said
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    shape: Shape,
    /// Topic that the module is told
    #[arg(long, default_value = "test")]
    topic: TopicName,
    /// Show so many of the records that come out
    #[arg(long, value_name = "N", default_value_t = 5)]
    show: usize,
}

/// What came of it.
#[derive(Default)]
struct Report {
    counters: Counters,
    kept_bytes: u64,
    input_bytes: u64,
    shown: Vec<Value>,
    rejects: Vec<Value>,
    faults: Vec<Value>,
    routed_to: BTreeMap<String, u64>,
    took: Duration,
}

impl Test {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let format = self.format.unwrap_or_else(|| by_extension(&self.input));
        self.shape.check(format)?;
        let config = bindings::config(self.config.as_deref())?;
        let source = Source::open(Some(&self.input))?;
        let mut pipeline = self.pipeline(config)?;

        let bar = progress::bar(source.bytes());
        let meter = source.meter();
        let mut records = Records::new(source, format, self.shape.clone());
        let mut report = Report::default();
        let mut offset = 0;
        let ended = loop {
            let (batch, end) = gather(&mut records, offset)?;
            if let Some(batch) = batch {
                offset = batch.view().next_offset();
                if let Err(failure) = self.judge(&mut pipeline, &batch, &mut report) {
                    break Err(failure);
                }
            }
            bar.set_position(meter.load(std::sync::atomic::Ordering::Relaxed));
            bar.set_message(format!("{} records", output::count(offset)));
            match end {
                None => {}
                Some(ended) => break ended,
            }
        };
        bar.finish_and_clear();
        report.print(common)?;
        ended?;
        match report.counters.faulted {
            0 => Ok(()),
            faults => Err(Failure::new(format!("the module failed on {} records", output::count(faults)))),
        }
    }

    fn pipeline(&self, config: String) -> Result<Pipeline, Failure> {
        let wasm = fs::read(&self.file).map_err(|error| Failure::file("read", &self.file, &error))?;
        let refused =
            |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", self.file.display()));
        let limits = Limits::default();
        let settings = Settings { instances_max: 4, ..Settings::default() };
        let engine = Engine::new(&settings).map_err(|error| refused(&error))?;
        let spinner = progress::spinner("compiling the module");
        let loaded = engine.load(&wasm, &limits);
        spinner.finish_and_clear();
        let module = loaded.map_err(|error| refused(&error))?;
        let log = LogSink::new(|line| eprintln!("{}: {}", line.level.as_str(), line.text.escape_debug()));
        let setup = Setup { topic: self.topic.to_string(), subscription: "module-test".to_owned(), config };
        let bound = module.bind(&setup, &limits, log).map_err(|error| refused(&error))?;
        Ok(Pipeline::new(vec![bound]))
    }

    /// Runs one batch through, as often as the pipeline makes breaks.
    fn judge(
        &self,
        pipeline: &mut Pipeline,
        batch: &RecordBatch,
        report: &mut Report,
    ) -> Result<(), Failure> {
        report.input_bytes += batch.as_bytes().len() as u64;
        let records = batch.view().len();
        let (mut at, mut retries) = (0, 0);
        while at < records {
            let started = Instant::now();
            let outcome = pipeline
                .run(batch, at..records)
                .map_err(|error| Failure::new(format!("the batch cannot be read: {error}")))?;
            report.took += started.elapsed();
            if outcome.done.end > at {
                retries = 0;
            }
            self.add(&outcome, batch, report);
            at = outcome.done.end;
            match outcome.stop {
                None | Some(Stop::Busy { .. }) => {}
                Some(Stop::Retry { text, .. }) if retries >= RETRIES_MAX => {
                    return Err(Failure::new(format!("the module keeps asking for a retry: {text}")));
                }
                Some(Stop::Retry { .. }) => retries += 1,
                // Counted, and told one by one: the rest of the file is worth knowing.
                Some(Stop::FaultsInRow { .. }) => {}
                Some(Stop::Unusable { fault, .. }) => {
                    return Err(Failure::new(format!("the module cannot go on: {fault}")));
                }
            }
        }
        Ok(())
    }

    fn add(&self, outcome: &Outcome, source: &RecordBatch, report: &mut Report) {
        report.counters += outcome.counters;
        let mut take = |batch: &RecordBatch, indices: std::ops::Range<usize>| {
            let view = batch.view();
            for index in indices {
                let Some(record) = view.record(index) else { continue };
                report.kept_bytes += record.payload_len as u64;
                if report.shown.len() < self.show {
                    let record = RecordJson::new(self.topic.as_str(), 0, &record);
                    report.shown.push(serde_json::to_value(record).unwrap_or_default());
                }
            }
        };
        match &outcome.delivery {
            Delivery::Nothing => {}
            Delivery::Untouched => take(source, outcome.done.clone()),
            Delivery::Batches(batches) => batches.iter().for_each(|batch| take(batch, 0..batch.view().len())),
        }
        for routed in outcome.routed() {
            *report.routed_to.entry(routed.topic.to_string()).or_default() += 1;
        }
        for reject in &outcome.rejects {
            if report.rejects.len() < TOLD_MAX {
                report.rejects.push(json!({ "offset": reject.offset, "reason": reject.reason }));
            }
        }
        for RecordFault { offset, fault, .. } in &outcome.faults {
            if report.faults.len() < TOLD_MAX {
                report.faults.push(json!({ "offset": offset, "fault": fault.to_string() }));
            }
        }
    }
}

impl Report {
    fn print(&self, common: &Common) -> Result<(), Failure> {
        let counters = self.counters;
        let per_record = counters.guest_ns.checked_div(counters.records_in).unwrap_or_default();
        if common.json {
            return output::json(&json!({
                "records_in": counters.records_in,
                "delivered": counters.delivered,
                "dropped": counters.dropped,
                "routed": counters.routed,
                "rejected": counters.rejected,
                "faulted": counters.faulted,
                "calls": counters.calls,
                "module_ns": counters.guest_ns,
                "module_ns_per_record": per_record,
                "seconds": self.took.as_secs_f64(),
                "input_bytes": self.input_bytes,
                "delivered_payload_bytes": self.kept_bytes,
                "routed_to": self.routed_to,
                "rejects": self.rejects,
                "faults": self.faults,
                "records": self.shown,
            }));
        }
        let rows = [
            ("delivered", counters.delivered),
            ("dropped", counters.dropped),
            ("routed", counters.routed),
            ("rejected", counters.rejected),
            ("faulted", counters.faulted),
        ];
        let share =
            |count: u64| format!("{:.1}%", 100.0 * count as f64 / (counters.records_in.max(1)) as f64);
        let rows = rows.map(|(name, count)| [name.to_owned(), output::count(count), share(count)]);
        output::line(output::table(["VERDICT", "RECORDS", "OF INPUT"], rows).to_string())?;
        output::line(format!(
            "\n{} records in, {} calls, {:.3} ms in the module, {} ns a record",
            output::count(counters.records_in),
            output::count(counters.calls),
            counters.guest_ns as f64 / 1e6,
            output::count(per_record),
        ))?;
        for (topic, count) in &self.routed_to {
            output::line(format!("to {topic}: {}", output::count(*count)))?;
        }
        for (name, told, all) in
            [("rejected", &self.rejects, counters.rejected), ("fault", &self.faults, counters.faulted)]
        {
            for one in told {
                output::line(format!("{name}: {one}"))?;
            }
            if all > told.len() as u64 {
                output::line(format!("{name}: {} more", output::count(all - told.len() as u64)))?;
            }
        }
        if !self.shown.is_empty() {
            output::line("\nfirst records out:")?;
        }
        self.shown.iter().try_for_each(output::json)
    }
}

/// The next batch as a broker would store it, and how the input ended, if it did.
#[expect(clippy::type_complexity, reason = "a batch and an end, either of which may be missing")]
fn gather(
    records: &mut Records<Source>,
    offset: u64,
) -> Result<(Option<RecordBatch>, Option<Result<(), Failure>>), Failure> {
    let mut builder = BatchBuilder::new().with_stamp(offset, now_ms());
    let end = loop {
        match records.next_record() {
            Ok(Some(record)) => {
                builder.push(&record).map_err(|error| {
                    Failure::new(format!(
                        "record {} cannot be published: {error}",
                        offset + builder.len() as u64
                    ))
                })?;
                if builder.bytes_len() >= BATCH_BYTES {
                    break None;
                }
            }
            Ok(None) => break Some(Ok(())),
            Err(error) => break Some(Err(Failure::new(error.to_string()))),
        }
    };
    if builder.is_empty() {
        return Ok((None, end));
    }
    let batch = builder.build().map_err(|error| Failure::new(error.to_string()))?;
    Ok((Some(batch), end))
}

fn by_extension(path: &std::path::Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("ndjson" | "jsonl" | "json") => Format::Ndjson,
        _ => Format::Lines,
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

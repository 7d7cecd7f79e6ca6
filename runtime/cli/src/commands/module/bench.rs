//! `millstream module bench`: what a module costs a record, beside the least that one can cost.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use clap::Args;
use millstream_engine::{Bound, Counters, Engine, Pipeline};
use millstream_types::RecordBatch;
use serde_json::{Value, json};

use super::trial::Trial;
use crate::{cli::Common, failure::Failure, output};

/// Records held in memory to be run again and again.
const INPUT_BYTES_MAX: usize = 256 << 20;
/// How long a round lasts at least, so that the clock is no part of what is measured.
const ROUND: Duration = Duration::from_millis(50);
/// How long is run before anything counts.
const WARM_UP: Duration = Duration::from_millis(200);
/// Instances made to find out how long one takes.
const STARTS: usize = 50;

const EXAMPLES: &str = "The records are read once and run through the module again and again, in batches as the broker has them, after a
warm-up. FLOOR is a module of the SDK that keeps every record and reads what yours reads, run in turns with it: what is
above that is yours. Rounds vary on a busy machine; the ratio of two figures of one run does less.

Example:
  millstream module bench my-filter.wasm --config '{\"min\": 60}' --input flights.csv --format csv";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    #[command(flatten)]
    trial: Trial,
    /// Rounds that are measured
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
}

impl Bench {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let batches = self.batches()?;
        let engine = Trial::engine(false)?;
        let bound = self.trial.bind(&engine)?;
        let floor = self.floor(&engine, bound.spec().reads_payload)?;
        let (mut module, mut floor) = (Bed::new(bound)?, Bed::new(floor)?);
        for bed in [&mut module, &mut floor] {
            bed.warm_up(&batches)?;
        }
        for _ in 0..self.rounds {
            // In turns, so that whatever else this machine does hits both.
            module.round(&batches)?;
            floor.round(&batches)?;
        }
        let (module, floor) = (module.figures(), floor.figures());
        let records: u64 = batches.iter().map(|batch| batch.view().len() as u64).sum();
        if common.json {
            return output::json(&json!({
                "records": records,
                "rounds": self.rounds,
                "module": module.to_json(),
                "floor": floor.to_json(),
            }));
        }
        let rows = module.rows().into_iter().zip(floor.rows());
        let rows = rows.map(|((name, module), (_, floor))| [name.to_owned(), module, floor]);
        output::line(output::table(["A RECORD, WHERE NOT SAID", "MODULE", "FLOOR"], rows).to_string())?;
        output::line(format!(
            "\n{}, {} of {}; {:.1} times the floor",
            output::counted(records, "record"),
            output::counted(self.rounds.into(), "round"),
            output::counted(module.runs_a_round, "run"),
            module.median_ns / floor.median_ns,
        ))
    }

    fn batches(&self) -> Result<Vec<RecordBatch>, Failure> {
        let (mut batches, mut bytes, mut input) = (Vec::new(), 0, self.trial.batches()?);
        while let Some(batch) = input.next()? {
            bytes += batch.as_bytes().len();
            if bytes > INPUT_BYTES_MAX {
                return Err(Failure::new(format!(
                    "the input has more than {}, which are held in memory: give a part of it",
                    output::bytes(INPUT_BYTES_MAX as u64)
                )));
            }
            batches.push(batch);
        }
        match batches.is_empty() {
            true => Err(Failure::new("the input has no records")),
            false => Ok(batches),
        }
    }

    fn floor(&self, engine: &Engine, payload: bool) -> Result<Bound, Failure> {
        let config = json!({ "payload": payload }).to_string();
        self.trial.bind_wasm(engine, millstream_filters::floor(), config).map_err(Failure::new)
    }
}

/// A module that is measured.
struct Bed {
    pipeline: Pipeline,
    start: Duration,
    runs_a_round: u64,
    /// ns a record, of each round.
    rounds: Vec<f64>,
    counters: Counters,
}

impl Bed {
    fn new(mut bound: Bound) -> Result<Self, Failure> {
        let mut starts = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            starts.push(bound.restart().map_err(|fault| Failure::new(fault.to_string()))?);
        }
        starts.sort_unstable();
        let start = starts.get(STARTS / 2).copied().unwrap_or_default();
        let pipeline = Pipeline::new(vec![bound]);
        Ok(Self { pipeline, start, runs_a_round: 1, rounds: Vec::new(), counters: Counters::default() })
    }

    /// Runs until the code and its memory are warm, and finds out how many runs make a round.
    fn warm_up(&mut self, batches: &[RecordBatch]) -> Result<(), Failure> {
        let (started, mut runs) = (Instant::now(), 0_u32);
        while runs == 0 || started.elapsed() < WARM_UP {
            self.run(batches)?;
            runs += 1;
        }
        let once = started.elapsed() / runs;
        self.runs_a_round =
            u64::try_from(ROUND.as_nanos().div_ceil(once.as_nanos().max(1))).unwrap_or(1).max(1);
        Ok(())
    }

    fn round(&mut self, batches: &[RecordBatch]) -> Result<(), Failure> {
        let (started, mut counters) = (Instant::now(), Counters::default());
        for _ in 0..self.runs_a_round {
            counters += self.run(batches)?;
        }
        let took = started.elapsed();
        self.rounds.push(took.as_nanos() as f64 / counters.records_in.max(1) as f64);
        self.counters += counters;
        Ok(())
    }

    /// Runs all records through once.
    fn run(&mut self, batches: &[RecordBatch]) -> Result<Counters, Failure> {
        let mut counters = Counters::default();
        for batch in batches {
            let (mut at, records) = (0, batch.view().len());
            while at < records {
                let outcome = self.pipeline.run_for_good(batch, at..records);
                let outcome = outcome.map_err(|error| Failure::new(error.to_string()))?;
                counters += outcome.counters;
                if let Some(fault) = outcome.faults.first() {
                    return Err(Failure::new(format!(
                        "record {}: {}; what fails is not measured, see `millstream module test`",
                        fault.offset, fault.fault
                    )));
                }
                if let Some(stop) = &outcome.stop {
                    return Err(Failure::new(format!(
                        "the module stopped: {stop:?}; see `millstream module test`"
                    )));
                }
                at = outcome.done.end;
                black_box(outcome);
            }
        }
        Ok(counters)
    }

    fn figures(mut self) -> Figures {
        self.rounds.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let index = ((self.rounds.len() - 1) as f64 * share).round() as usize;
            self.rounds.get(index).copied().unwrap_or_default()
        };
        let records = self.counters.records_in.max(1);
        Figures {
            median_ns: at(0.5),
            p95_ns: at(0.95),
            guest_ns: self.counters.guest_ns as f64 / records as f64,
            bytes_in: self.counters.bytes_in as f64 / records as f64,
            records_a_call: records as f64 / self.counters.calls.max(1) as f64,
            start_us: self.start.as_nanos() as f64 / 1e3,
            memory_bytes_peak: self.pipeline.modules().map(Bound::memory_bytes_peak).max().unwrap_or_default()
                as u64,
            runs_a_round: self.runs_a_round,
        }
    }
}

/// What was measured of one module.
struct Figures {
    median_ns: f64,
    p95_ns: f64,
    guest_ns: f64,
    bytes_in: f64,
    records_a_call: f64,
    start_us: f64,
    memory_bytes_peak: u64,
    runs_a_round: u64,
}

impl Figures {
    /// MB a second that are copied into the module.
    fn megabytes_a_second(&self) -> f64 {
        self.bytes_in * 1e3 / self.median_ns
    }

    fn rows(&self) -> [(&'static str, String); 8] {
        [
            ("ns, median of rounds", format!("{:.1}", self.median_ns)),
            ("ns, 95% of rounds below", format!("{:.1}", self.p95_ns)),
            ("ns in the module", format!("{:.1}", self.guest_ns)),
            ("bytes copied in", format!("{:.0}", self.bytes_in)),
            ("MB a second copied in", format!("{:.0}", self.megabytes_a_second())),
            ("records a call", format!("{:.1}", self.records_a_call)),
            ("us to start an instance", format!("{:.1}", self.start_us)),
            ("peak memory", output::bytes(self.memory_bytes_peak)),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "ns_per_record": self.median_ns,
            "ns_per_record_p95": self.p95_ns,
            "module_ns_per_record": self.guest_ns,
            "bytes_in_per_record": self.bytes_in,
            "mb_per_second": self.megabytes_a_second(),
            "records_per_call": self.records_a_call,
            "instance_start_us": self.start_us,
            "memory_bytes_peak": self.memory_bytes_peak,
        })
    }
}

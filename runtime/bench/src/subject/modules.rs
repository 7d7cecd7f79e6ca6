//! The module engine in this process, without a broker: modules bound, batches run through them.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use millstream_engine::{Bound, Engine, Limits, LogSink, Module, Pipeline, Setup};
use millstream_types::{BatchBuilder, Record, RecordBatch};

use crate::Error;

/// A document as those of `examples/flights`, without its end.
const FLIGHT: &str = r#"{"year":2013,"month":1,"day":1,"dep_time":517,"sched_dep_time":515,"dep_delay":2,"arr_time":830,"sched_arr_time":819,"arr_delay":11,"carrier":"UA","flight":1545,"tailnum":"N14228","origin":"EWR","dest":"IAH","air_time":227,"distance":1400,"hour":5,"minute":15,"time_hour":"2013-01-01T10:00:00Z""#;

/// The component of a stock module.
pub(crate) fn stock(name: &str) -> &'static [u8] {
    let stock = millstream_filters::stock().iter().find(|stock| stock.name == name);
    stock.expect("a stock module of this build").wasm
}

/// The header that [`batch`] gives its records, and the value that one in `keep_one_in` has.
pub(crate) fn header_filter() -> (&'static str, &'static str, String) {
    let (name, value) = super::keep_header();
    (name, value, serde_json::json!({ "header": name, "equals": value }).to_string())
}

/// A condition that no document of [`batch`] meets.
pub(crate) fn json_filter() -> serde_json::Value {
    serde_json::json!({ "pointer": "/dep_delay", "gt": 60 })
}

/// As many records with JSON payloads of about `bytes`; one in `keep_one_in` has the header that is kept.
pub(crate) fn batch(records: usize, bytes: usize, keep_one_in: u64) -> Result<RecordBatch, Error> {
    let (name, value, _) = header_filter();
    let rest = bytes.saturating_sub(FLIGHT.len() + 14);
    let payload = format!("{FLIGHT},\"remarks\":\"{}\"}}", "x".repeat(rest));
    let mut builder = BatchBuilder::new();
    for index in 0..records {
        let kept = (index as u64).is_multiple_of(keep_one_in);
        let record = Record::new(payload.clone())
            .with_header(name, if kept { value } else { "drop" })
            .with_header("source", "bench");
        builder.push(&record).map_err(Error::engine("make a batch"))?;
    }
    builder.build().map_err(Error::engine("make a batch"))
}

/// Makes a module of a component.
pub(crate) fn load(engine: &Engine, wasm: &[u8]) -> Result<Module, Error> {
    engine.load(wasm, &Limits::default()).map_err(Error::engine("load a module"))
}

/// Binds a module.
pub(crate) fn bind(module: &Module, config: &str) -> Result<Bound, Error> {
    let setup =
        Setup { topic: "bench".into(), subscription: "bench".into(), config: config.to_owned(), state: None };
    module.bind(&setup, &Limits::default(), LogSink::none()).map_err(Error::engine("bind a module"))
}

/// Something that batches are run through again and again.
pub(crate) struct Bed<'a> {
    run: Box<dyn FnMut() -> Result<(), Error> + 'a>,
    records: usize,
    runs: u32,
    best_ns: f64,
}

impl<'a> Bed<'a> {
    /// One that runs the records of `batch` through `pipeline`.
    pub(crate) fn pipeline(pipeline: Pipeline, batch: &'a RecordBatch) -> Self {
        let records = batch.view().len();
        // Without breaks for others: there are none.
        let mut pipeline = pipeline.with_turn(Duration::from_secs(60));
        Self::native(records, move || {
            let outcome = pipeline.run(batch, 0..records).map_err(Error::engine("run a module"))?;
            match outcome.done.len() == records && outcome.faults.is_empty() {
                true => Ok(()),
                false => {
                    Err(Error::WrongCount { expected: records as u64, found: outcome.done.len() as u64 })
                }
            }
        })
    }

    /// One that does `run`, which goes over as many records.
    pub(crate) fn native(records: usize, run: impl FnMut() -> Result<(), Error> + 'a) -> Self {
        Self { run: Box::new(run), records, runs: 0, best_ns: f64::INFINITY }
    }

    /// Runs for `time`, to be counted by [`take`](Self::take): what a record took.
    pub(crate) fn round(&mut self, time: Duration) -> Result<(), Error> {
        if self.runs == 0 {
            // How many runs it takes to be measured: that the clock is no part of it.
            let (start, mut runs) = (Instant::now(), 0);
            while start.elapsed() < time {
                black_box((self.run)())?;
                runs += 1;
            }
            self.runs = runs.max(1);
        }
        let start = Instant::now();
        for _ in 0..self.runs {
            black_box((self.run)())?;
        }
        let records = f64::from(self.runs) * self.records as f64;
        self.best_ns = self.best_ns.min(start.elapsed().as_nanos() as f64 / records);
        Ok(())
    }

    /// ns a record in the best round since the last time: what disturbs a machine only ever takes longer.
    pub(crate) fn take(&mut self) -> f64 {
        std::mem::replace(&mut self.best_ns, f64::INFINITY)
    }
}

//! What `module test` and `module bench` share: a module on this machine, bound with the broker's limits, and the records
//! of a file in batches as a broker would store them.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use millstream_engine::{Bound, Engine, LogSink, Settings, Setup, State};
use millstream_types::{BatchBuilder, ProcessorConfig, RecordBatch, TopicName};

use super::granted::Granted;
use crate::{
    bindings,
    failure::Failure,
    input::{Format, Records, Shape, Source},
    output, progress,
};

/// As the broker would store them.
const BATCH_BYTES: usize = 256 << 10;
/// Instances at once: of the module, which may have the parts of several, and of one beside it.
const INSTANCES_MAX: u32 = 32;

/// Lines of a module go to standard error.
pub(super) fn to_stderr() -> LogSink {
    LogSink::new(|line| {
        if line.left_out > 0 {
            eprintln!("({} left out)", output::counted(line.left_out, "line"));
        }
        eprintln!("{}: {}", line.level.as_str(), output::harmless(line.text));
    })
}

/// The module and the records of the command line.
#[derive(Debug, Args)]
pub(crate) struct Trial {
    /// The module: a .wasm file, or std/NAME
    #[arg(value_name = "FILE")]
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
    #[command(flatten)]
    granted: Granted,
}

impl Trial {
    /// The topic that the module is told.
    pub(crate) fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// An engine like the broker's, which counts what calls cost if `fuel` is wanted.
    pub(crate) fn engine(fuel: bool) -> Result<Engine, Failure> {
        let settings = Settings { instances_max: INSTANCES_MAX, fuel, ..Settings::default() };
        Engine::new(&settings).map_err(|error| Failure::new(error.to_string()))
    }

    /// The module, bound; its log goes to standard error.
    pub(crate) fn bind(&self, engine: &Engine) -> Result<Bound, Failure> {
        let config = bindings::config(self.config.as_deref())?;
        let wasm = self.wasm()?;
        let spinner = progress::spinner("compiling the module");
        let bound = self.bind_wasm(engine, &wasm, config);
        spinner.finish_and_clear();
        bound.map_err(|why| Failure::new(format!("{}: {why}", self.file.display())))
    }

    /// Binds the component `wasm` in the module's place.
    pub(crate) fn bind_wasm(&self, engine: &Engine, wasm: &[u8], config: String) -> Result<Bound, String> {
        let limits = self.granted.limits();
        let module = engine.load(wasm, &limits).map_err(|error| error.to_string())?;
        let state = module.needs_state().then(|| State::in_memory(ProcessorConfig::STATE_BYTES));
        if let Some(state) = &state {
            state.set_source(self.topic.as_str(), 0);
        }
        let setup =
            Setup { topic: self.topic.to_string(), subscription: "module-test".to_owned(), config, state };
        module.bind(&setup, &limits, to_stderr()).map_err(|error| error.to_string())
    }

    /// The records of the input.
    pub(crate) fn batches(&self) -> Result<Batches, Failure> {
        let format = self.format.unwrap_or_else(|| by_extension(&self.input));
        self.shape.check(format)?;
        let source = Source::open(Some(&self.input))?;
        let bar = progress::bar(source.bytes());
        let meter = source.meter();
        let records = Records::new(source, format, self.shape.clone());
        Ok(Batches { records, bar, meter, offset: 0, ended: None })
    }

    fn wasm(&self) -> Result<Cow<'static, [u8]>, Failure> {
        let stock = millstream_filters::stock().iter().find(|stock| Path::new(stock.name) == self.file);
        if let (Some(stock), false) = (stock, self.file.exists()) {
            return Ok(Cow::Borrowed(stock.wasm));
        }
        fs::read(&self.file).map(Cow::Owned).map_err(|error| Failure::file("read", &self.file, &error))
    }
}

/// The records of an input, in batches; their offsets count from 0.
pub(crate) struct Batches {
    records: Records<Source>,
    bar: indicatif::ProgressBar,
    meter: Arc<AtomicU64>,
    offset: u64,
    ended: Option<Result<(), Failure>>,
}

impl Batches {
    /// The next batch; `None` where the input ends. Records before a broken one come first.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        if let Some(ended) = self.ended.take() {
            self.bar.finish_and_clear();
            return ended.map(|()| None);
        }
        let mut builder = BatchBuilder::new().with_stamp(self.offset, now_ms());
        while self.ended.is_none() && builder.bytes_len() < BATCH_BYTES {
            match self.records.next_record() {
                Ok(Some(record)) => builder.push(&record).map_err(|error| {
                    let offset = self.offset + builder.len() as u64;
                    Failure::new(format!("record {offset} cannot be published: {error}"))
                })?,
                Ok(None) => self.ended = Some(Ok(())),
                Err(error) => self.ended = Some(Err(Failure::new(error.to_string()))),
            }
        }
        self.bar.set_position(self.meter.load(Ordering::Relaxed));
        if builder.is_empty() {
            return self.next();
        }
        let batch = builder.build().map_err(|error| Failure::new(error.to_string()))?;
        self.offset = batch.view().next_offset();
        Ok(Some(batch))
    }
}

fn by_extension(path: &Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("ndjson" | "jsonl" | "json") => Format::Ndjson,
        _ => Format::Lines,
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

//! Runs a component through the production engine, and tells where it does not do what it should.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_engine::{
    Bound, Delivery, Engine, Limits, LogLevel, LogSink, Module, Outcome, Pipeline, Setup,
};
use millstream_types::{BatchBuilder, Offset, Record, RecordBatch};

use crate::cases::{Cases, Fate, Poison};

const BASE: Offset = 1_000_000_007;
const TIMESTAMP: i64 = 1_700_000_000_123;
/// Around what one call, and one batch, hold.
const COUNTS: [usize; 7] = [1, 2, 16, 255, 256, 257, 600];

/// Runs the component `wasm` within `limits`; every way in which it is not the order desk, none if it is.
///
/// # Errors
/// Why it is no module, or cannot be bound at all.
pub fn conforms(engine: &Engine, wasm: &[u8], limits: &Limits) -> Result<Vec<String>, String> {
    let module = engine.load(wasm, limits).map_err(|error| error.to_string())?;
    let suite = Suite { module, limits, cases: Cases::read() };
    let mut faults = Faults::default();
    suite.configurations(&mut faults);
    suite.announcement(&mut faults)?;
    suite.each_alone(&mut faults)?;
    suite.many(&mut faults)?;
    suite.poison(&mut faults)?;
    suite.same_again(&mut faults)?;
    suite.nothing(&mut faults)?;
    Ok(faults.0)
}

struct Suite<'a> {
    module: Module,
    limits: &'a Limits,
    cases: Cases,
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.0.push(fault());
        }
    }
}

/// What became of a record: what is left of it, in order, with the topic where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Became {
    Outputs(Vec<(Option<String>, Record)>),
    Rejected(String),
    Failed(String),
}

impl Suite<'_> {
    fn bind(&self, config: &serde_json::Value, log: LogSink) -> Result<Bound, String> {
        let setup = Setup {
            topic: "orders".to_owned(),
            subscription: "conformance".to_owned(),
            config: config.to_string(),
            state: None,
        };
        self.module.bind(&setup, self.limits, log).map_err(|error| error.to_string())
    }

    fn bound(&self) -> Result<Bound, String> {
        self.bind(&self.cases.config, LogSink::none())
    }

    fn pipeline(&self) -> Result<Pipeline, String> {
        Ok(Pipeline::new(vec![self.bound()?]))
    }

    /// Bad configurations are refused, and the error names what is bad.
    fn configurations(&self, faults: &mut Faults) {
        for refused in &self.cases.refused {
            match self.bind(&refused.config, LogSink::none()) {
                Ok(_) => faults.0.push(format!("config {}: it is not refused", refused.config)),
                Err(text) => faults.check(text.contains(&refused.names), || {
                    format!("config {}: the error does not name `{}`: {text}", refused.config, refused.names)
                }),
            }
        }
    }

    /// What is announced and logged.
    fn announcement(&self, faults: &mut Faults) -> Result<(), String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = {
            let lines = Arc::clone(&lines);
            LogSink::new(move |line| {
                lines.lock().expect("no panic holds it").push((line.level, line.text.to_owned()));
            })
        };
        let bound = self.bind(&self.cases.config, log)?;
        let spec = bound.spec();
        let topics: Vec<_> = spec.topics.iter().map(ToString::to_string).collect();
        faults.check(topics == self.cases.topics, || format!("it announces the topics {topics:?}"));
        let all = spec.verdicts.keep && spec.verdicts.drop && spec.verdicts.emit && spec.verdicts.reject;
        faults.check(all && spec.reads_payload, || format!("it announces {spec:?}"));
        let lines = lines.lock().expect("no panic holds it");
        let wanted = (LogLevel::Info, self.cases.logs.clone());
        faults.check(lines.contains(&wanted), || format!("it logs {lines:?}, not {wanted:?}"));
        Ok(())
    }

    /// Each case in a batch of its own.
    fn each_alone(&self, faults: &mut Faults) -> Result<(), String> {
        let mut pipeline = self.pipeline()?;
        for (index, case) in self.cases.cases.iter().enumerate() {
            let batch = batch([case.record.to_record()]);
            let became = run(&mut pipeline, &batch)?;
            faults.check(became == [self.wanted(index, 0)], || {
                format!("{}: {became:?}, not {:?}", case.name, self.wanted(index, 0))
            });
        }
        Ok(())
    }

    /// All cases, again and again, in batches of several sizes: in order, and none touches another.
    fn many(&self, faults: &mut Faults) -> Result<(), String> {
        let mut pipeline = self.pipeline()?;
        let small: Vec<_> = (0..self.cases.cases.len()).filter(|index| self.is_small(*index)).collect();
        for count in COUNTS {
            let order: Vec<_> = small.iter().copied().cycle().skip(count).take(count).collect();
            let batch = batch(order.iter().map(|index| self.cases.cases[*index].record.to_record()));
            let became = run(&mut pipeline, &batch)?;
            faults.check(became.len() == count, || format!("{count} records: {} are judged", became.len()));
            for (place, (index, became)) in order.iter().zip(&became).enumerate() {
                let wanted = self.wanted(*index, place);
                let name = &self.cases.cases[*index].name;
                faults.check(*became == wanted, || {
                    format!("record {place} of {count}, {name}: {became:?}, not {wanted:?}")
                });
            }
        }
        Ok(())
    }

    /// One record on which it fails, among others: it alone is lost.
    fn poison(&self, faults: &mut Faults) -> Result<(), String> {
        let Poison { record, says } = &self.cases.poison;
        let mut pipeline = self.pipeline()?;
        let kept = self.cases.cases[0].record.to_record();
        for place in [0, 21, 39] {
            let records = (0..40).map(|at| if at == place { record.to_record() } else { kept.clone() });
            let became = run(&mut pipeline, &batch(records))?;
            for (at, became) in became.iter().enumerate() {
                let good = match became {
                    Became::Failed(text) => at == place && text.contains(says.as_str()),
                    other => at != place && *other == self.wanted(0, at),
                };
                faults.check(good, || format!("record {at} beside a poison record at {place}: {became:?}"));
            }
        }
        Ok(())
    }

    /// The same batch gets the same verdicts: from another instance, from one that judged others before, and from a new one.
    fn same_again(&self, faults: &mut Faults) -> Result<(), String> {
        let records = self.cases.cases.iter().map(|case| case.record.to_record());
        let batch = batch(records);
        let judge = |bound: &mut Bound| {
            let verdicts = bound.process(batch.as_bytes(), batch.view().len());
            verdicts.map(|verdicts| verdicts.as_bytes().to_vec()).map_err(|fault| fault.to_string())
        };
        let mut first = self.bound()?;
        let wanted = judge(&mut first)?;
        let mut others = vec![("the same instance", judge(&mut first)?)];
        first.rest();
        others.push(("an instance made anew", judge(&mut first)?));
        others.push(("another instance", judge(&mut self.bound()?)?));
        for (who, verdicts) in others {
            faults.check(verdicts == wanted, || format!("{who} gives other verdicts for the same batch"));
        }
        Ok(())
    }

    /// It is not called for nothing.
    fn nothing(&self, faults: &mut Faults) -> Result<(), String> {
        let batch = batch([self.cases.cases[0].record.to_record()]);
        let mut pipeline = self.pipeline()?;
        let outcome = pipeline.run(&batch, 0..0).map_err(|error| error.to_string())?;
        faults.check(outcome.counters.calls == 0, || "it is called with an empty batch".to_owned());
        Ok(())
    }

    fn is_small(&self, index: usize) -> bool {
        let record = self.cases.cases[index].record.to_record();
        record.payload.is_none_or(|payload| payload.len() < 1_000)
    }

    /// What becomes of case `index` at `place` of its batch.
    fn wanted(&self, index: usize, place: usize) -> Became {
        let case = &self.cases.cases[index];
        let stamped = |record| Record { offset: BASE + place as Offset, timestamp: TIMESTAMP, ..record };
        let source = stamped(case.record.to_record());
        match &case.becomes {
            Fate::Keep => Became::Outputs(vec![(None, source)]),
            Fate::Drop => Became::Outputs(Vec::new()),
            Fate::Route(topics) => {
                Became::Outputs(topics.iter().map(|topic| (Some(topic.clone()), source.clone())).collect())
            }
            Fate::Outputs(outputs) => {
                let whole = outputs.iter().map(|it| (it.topic.clone(), stamped(it.to_record(&source))));
                Became::Outputs(whole.collect())
            }
            Fate::Reject(reason) => Became::Rejected(reason.clone()),
        }
    }
}

/// The records as the broker would store them.
fn batch(records: impl IntoIterator<Item = Record>) -> RecordBatch {
    let mut builder = BatchBuilder::new().with_stamp(BASE, TIMESTAMP);
    for record in records {
        builder.push(&record).expect("a record that may be published");
    }
    builder.build().expect("a batch that may be published")
}

/// What became of each record of `batch`, in order. A run may make breaks.
fn run(pipeline: &mut Pipeline, batch: &RecordBatch) -> Result<Vec<Became>, String> {
    let count = batch.view().len();
    let mut became: BTreeMap<Offset, Became> = BTreeMap::new();
    let mut at = 0;
    while at < count {
        let outcome = pipeline.run(batch, at..count).map_err(|error| error.to_string())?;
        if let Some(stop) = &outcome.stop {
            return Err(format!("it stopped at record {} of {count}: {stop:?}", outcome.done.end));
        }
        let done = outcome.done.clone();
        for offset in done.clone() {
            became.insert(BASE + offset as Offset, Became::Outputs(Vec::new()));
        }
        gather(batch, &outcome, &mut became);
        at = done.end;
    }
    Ok(became.into_values().collect())
}

fn gather(batch: &RecordBatch, outcome: &Outcome, became: &mut BTreeMap<Offset, Became>) {
    let mut add = |offset: Offset, topic: Option<String>, record: Record| {
        let record = Record { offset, ..record };
        if let Some(Became::Outputs(outputs)) = became.get_mut(&offset) {
            outputs.push((topic, record));
        }
    };
    match &outcome.delivery {
        Delivery::Nothing => {}
        Delivery::Untouched => {
            for record in batch.view().records().skip(outcome.done.start).take(outcome.done.len()) {
                add(record.offset, None, record.to_record());
            }
        }
        Delivery::Batches(batches) => {
            for record in batches.iter().flat_map(|batch| batch.view().records()) {
                add(record.offset, None, record.to_record());
            }
        }
    }
    for routed in outcome.routed() {
        add(routed.source, Some(routed.topic.to_string()), routed.record.to_record());
    }
    for reject in &outcome.rejects {
        became.insert(reject.offset, Became::Rejected(reject.reason.clone()));
    }
    for fault in &outcome.faults {
        became.insert(fault.offset, Became::Failed(fault.fault.text.clone()));
    }
}

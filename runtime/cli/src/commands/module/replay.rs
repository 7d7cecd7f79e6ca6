//! `millstream module replay`: modules over records that a topic holds, on this machine, with nothing coming of it; and how
//! others would judge them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use clap::Args;
use millstream_client::{Client, StartAt, SubscribeOptions, TopicName, TopicPattern};
use millstream_engine::{Differences, Engine, Made, Outcome, Pipeline, Settings, Setup, State, Stop};
use millstream_types::{ProcessorConfig, RecordBatch};
use serde_json::{Value, json};

use super::{granted::Granted, trial::to_stderr};
use crate::{
    bindings::{self, Pipeline as Named},
    broker::connect,
    cli::Common,
    failure::Failure,
    output, progress, start,
};

const EXAMPLES: &str = "The records are read from the broker by a subscription of its own, and the modules run on this machine with the
broker's engine and default limits: nobody else notices, nothing is routed, and no dead letters come of it.

With --against, other modules judge the same records, and what differs is told: what --module makes of them first, then what
--against would.

Examples:
  millstream module replay --topic orders --from time:2026-11-01T00:00:00Z --module enrich@1.3.0 --config @enrich.json
  millstream module replay --topic orders --module enrich@1.3.0 --config @old.json --against enrich.wasm --against-config @new.json";

/// Differences, rejects and faults told one by one; all are counted.
const TOLD_MAX: usize = 20;
/// Bytes of the words on each.
const WORDS_BYTES: usize = 200;
/// Modules that ask for the same records again are asked so often, and then given up.
const RETRIES_MAX: u32 = 3;
/// Instances at once.
const INSTANCES_MAX: u32 = 32;

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Replay {
    /// Topic that holds the records
    #[arg(long)]
    topic: TopicName,
    /// Where to start: earliest, offset:N or time:RFC3339
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = start::parse)]
    from: StartAt,
    /// So many records at most; all there are by now, if it is not said
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    #[command(flatten)]
    pipeline: Named,
    /// Compare with this module: as --module
    #[arg(long, value_name = "REF", requires = "module")]
    against: Option<String>,
    /// Its configuration; that of the last --module, if it is not said
    #[arg(long, value_name = "JSON|@FILE", requires = "against")]
    against_config: Option<String>,
    #[command(flatten)]
    granted: Granted,
}

/// What came of it.
#[derive(Default)]
struct Report {
    made: BTreeMap<&'static str, u64>,
    records: u64,
    routed_to: BTreeMap<String, u64>,
    refused: Vec<Value>,
    differences: Differences,
    samples: Vec<Value>,
    module_ns: [u64; 2],
}

impl Replay {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        if self.pipeline.is_empty() {
            return Err(Failure::new("no module is named: add --module REF"));
        }
        let client = connect(common).await?;
        let settings = Settings { instances_max: INSTANCES_MAX, ..Settings::default() };
        let engine = Engine::new(&settings).map_err(|error| Failure::new(error.to_string()))?;
        let spinner = progress::spinner("compiling the modules");
        let bound = self.bind(&client, &engine).await;
        spinner.finish_and_clear();
        let (mut one, mut other) = bound?;
        let options = SubscribeOptions::ephemeral(TopicPattern::from(self.topic.clone()));
        let mut consumer = client.subscribe(options.from(self.from.clone()).until_end()).await?;
        let (mut report, bar) = (Report::default(), progress::spinner("reading"));
        let ended = loop {
            let Some(delivery) = consumer.next_batch().await else { break Ok(()) };
            let delivery = delivery?;
            let (place, batch) = (delivery.place.partition(), Arc::new(delivery.batch));
            let left = self.records.map_or(u64::MAX, |records| records - report.records);
            let records = usize::try_from(left).unwrap_or(usize::MAX).min(batch.view().len());
            // Modules may take long, and this thread serves the connection.
            let judged = tokio::task::spawn_blocking(move || {
                let judged = report.judge(&mut one, other.as_mut(), place, &batch, records);
                (report, one, other, judged)
            });
            let judged = judged.await.map_err(|error| Failure::new(error.to_string()))?;
            let result;
            (report, one, other, result) = judged;
            bar.set_message(output::counted(report.records, "record"));
            if result.is_err() || self.records.is_some_and(|records| report.records >= records) {
                break result;
            }
        };
        bar.finish_and_clear();
        drop(consumer);
        client.close().await;
        report.print(common, self.against.is_some())?;
        ended
    }

    async fn bind(&self, client: &Client, engine: &Engine) -> Result<(Pipeline, Option<Pipeline>), Failure> {
        let modules = self.pipeline.fetch(client).await?;
        let against = match &self.against {
            None => None,
            Some(reference) => {
                let config = match &self.against_config {
                    Some(config) => bindings::config(Some(config))?,
                    None => modules.last().map_or_else(|| "{}".to_owned(), |(_, _, config)| config.clone()),
                };
                let wasm = bindings::fetch(client, reference).await?;
                Some(vec![(reference.clone(), wasm, config)])
            }
        };
        Ok((self.bound(engine, modules)?, against.map(|modules| self.bound(engine, modules)).transpose()?))
    }

    fn bound(&self, engine: &Engine, modules: Vec<(String, Bytes, String)>) -> Result<Pipeline, Failure> {
        let limits = self.granted.limits();
        let bound = modules.into_iter().map(|(name, wasm, config)| {
            let refused = |error: &dyn std::fmt::Display| Failure::new(format!("{name}: {error}"));
            let module = engine.load(&wasm, &limits).map_err(|error| refused(&error))?;
            let state = module.needs_state().then(|| State::in_memory(ProcessorConfig::STATE_BYTES));
            if let Some(state) = &state {
                state.set_source(self.topic.as_str(), 0);
            }
            let (topic, subscription) = (self.topic.to_string(), "module-replay".to_owned());
            let setup = Setup { topic, subscription, config, state };
            module.bind(&setup, &limits, to_stderr()).map_err(|error| refused(&error))
        });
        Ok(Pipeline::new(bound.collect::<Result<_, _>>()?))
    }
}

impl Report {
    /// Takes in what is made of the first `records` of `batch`.
    fn judge(
        &mut self,
        one: &mut Pipeline,
        other: Option<&mut Pipeline>,
        partition: u32,
        batch: &RecordBatch,
        records: usize,
    ) -> Result<(), Failure> {
        let unreadable = |error| Failure::new(format!("the batch cannot be read: {error}"));
        let outcomes = run(one, batch, 0..records)?;
        let mut made = Vec::with_capacity(records);
        for outcome in &outcomes {
            made.extend(outcome.made(batch, outcome.done.clone()).map_err(unreadable)?);
            self.module_ns[0] += outcome.counters.guest_ns;
            for routed in outcome.routed() {
                *self.routed_to.entry(routed.topic.to_string()).or_default() += 1;
            }
        }
        self.records += made.len() as u64;
        for (index, made) in made.iter().enumerate() {
            *self.made.entry(made.as_str()).or_default() += 1;
            if matches!(made, Made::Reject | Made::Fault) && self.refused.len() < TOLD_MAX {
                let offset = batch.view().record(index).map(|record| record.offset);
                let words = words(&outcomes, *made, batch, index);
                self.refused.push(json!({ "partition": partition, "offset": offset, "what": words }));
            }
        }
        let Some(other) = other else { return Ok(()) };
        let others = run(other, batch, 0..records)?;
        let mut other_made = Vec::with_capacity(records);
        for outcome in &others {
            other_made.extend(outcome.made(batch, outcome.done.clone()).map_err(unreadable)?);
            self.module_ns[1] += outcome.counters.guest_ns;
        }
        let differ: Vec<_> = self.differences.add(&made, &other_made).collect();
        for index in differ {
            let (Some(from), Some(to)) = (made.get(index), other_made.get(index)) else { continue };
            if self.samples.len() < TOLD_MAX {
                self.samples.push(json!({
                    "partition": partition,
                    "offset": batch.view().record(index).map(|record| record.offset),
                    "from": words(&outcomes, *from, batch, index),
                    "to": words(&others, *to, batch, index),
                }));
            }
        }
        Ok(())
    }

    fn print(&self, common: &Common, compares: bool) -> Result<(), Failure> {
        let Differences { compared, same, changes } = &self.differences;
        if common.json {
            let change = |((from, to), records): (&(&str, &str), &u64)| json!({ "from": from, "to": to, "records": records });
            let changes: Vec<_> = changes.iter().map(change).collect();
            let mut report = json!({
                "records": self.records,
                "made": self.made,
                "routed_to": self.routed_to,
                "refused": self.refused,
                "module_ns": self.module_ns[0],
            });
            if let (true, Some(report)) = (compares, report.as_object_mut()) {
                let against = json!({
                    "compared": compared,
                    "same": same,
                    "changes": changes,
                    "samples": self.samples,
                    "module_ns": self.module_ns[1],
                });
                report.insert("against".to_owned(), against);
            }
            return output::json(&report);
        }
        let per_record = |ns: u64| ns.checked_div(self.records).unwrap_or_default();
        let mut lines = vec![format!(
            "{}, {} ns a record in the modules",
            output::counted(self.records, "record"),
            output::count(per_record(self.module_ns[0]))
        )];
        lines.extend(
            self.made.iter().map(|(made, records)| format!("  {made:7} {}", output::count(*records))),
        );
        lines.extend(
            self.routed_to
                .iter()
                .map(|(topic, records)| format!("  to topic {topic}: {}", output::count(*records))),
        );
        lines.extend(self.refused.iter().map(|it| {
            format!("  partition {} offset {}: {}", it["partition"], it["offset"], shown(&it["what"]))
        }));
        if compares {
            lines.push(format!(
                "against: {} the same, {} different, {} ns a record",
                output::count(*same),
                output::count(compared - same),
                output::count(per_record(self.module_ns[1]))
            ));
            lines.extend(
                changes.iter().map(|((from, to), records)| {
                    format!("  {} from {from} to {to}", output::count(*records))
                }),
            );
            lines.extend(self.samples.iter().map(|it| {
                let (from, to) = (shown(&it["from"]), shown(&it["to"]));
                format!("  partition {} offset {}: {from} -> {to}", it["partition"], it["offset"])
            }));
        }
        output::line(lines.join("\n"))
    }
}

/// As many runs as it takes.
fn run(
    pipeline: &mut Pipeline,
    batch: &RecordBatch,
    records: std::ops::Range<usize>,
) -> Result<Vec<Outcome>, Failure> {
    let (mut outcomes, mut at, mut retries) = (Vec::new(), records.start, 0);
    while at < records.end {
        let outcome = pipeline.run_for_good(batch, at..records.end);
        let outcome = outcome.map_err(|error| Failure::new(format!("the batch cannot be read: {error}")))?;
        retries = if outcome.done.end > at { 0 } else { retries };
        at = outcome.done.end;
        match &outcome.stop {
            // Here every record is tried, however many fail.
            None | Some(Stop::Busy { .. } | Stop::FaultsInRow { .. }) => {}
            Some(Stop::Retry { .. }) if retries < RETRIES_MAX => retries += 1,
            Some(Stop::Retry { text, .. }) => {
                return Err(Failure::new(format!("a module keeps asking for a retry: {text}")));
            }
            Some(Stop::Unusable { fault, .. }) => {
                return Err(Failure::new(format!("a module cannot be used any more: {fault}")));
            }
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn words(outcomes: &[Outcome], made: Made, batch: &RecordBatch, index: usize) -> String {
    let of = outcomes.iter().find(|outcome| outcome.done.contains(&index));
    of.map_or_else(
        || made.as_str().to_owned(),
        |outcome| outcome.made_in_words(made, batch, index, WORDS_BYTES),
    )
}

fn shown(words: &Value) -> String {
    output::harmless(words.as_str().unwrap_or_default())
}

//! `millstream subscribe`: a topic's records on standard output. What was written and flushed is acknowledged.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use futures_util::FutureExt as _;
use indicatif::ProgressBar;
use millstream_client::{
    ConsumeError, Consumer, Delivery, Event, Offset, Place, RecordView, StartAt, SubscribeOptions,
    SubscriptionInfo, SubscriptionName, TopicPattern,
};
use serde_json::json;

use super::subscription::Fault;
use crate::{
    bindings::Pipeline, broker::connect, cli::Common, failure::Failure, faults, interrupt::interrupted,
    output, progress, render::RecordJson, start,
};

/// Output is flushed, and what it held acknowledged, at the latest after this time or size.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
const FLUSH_BYTES: usize = 1 << 20;

const EXAMPLES: &str =
    "With --name the subscription is durable: what was printed is acknowledged, and the next run goes on
behind it. Without, it ends with the command. Ctrl-C and SIGTERM end it cleanly.

--format json prints one object a record: topic, partition, offset, timestamp (ms since the Unix
epoch), key, headers (by name; a name that repeats has an array), payload (the JSON it holds, else
text). Bytes that are not UTF-8 become {\"base64\": \"...\"}. --format payload prints each payload
and a line end.

Examples:
  millstream subscribe flights --from earliest --until-end --format json
  millstream subscribe flights --name late --from earliest \\
      --module std/json --config '{\"pointer\": \"/dep_delay\", \"gt\": 60}'
  millstream subscribe flights --module ./my_filter.wasm --config @my_filter.json --limit 10";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Subscribe {
    /// What to read: a topic, or all that a pattern means, those made later included; quote it: 'orders.*', 'orders.>'
    topic: TopicPattern,
    /// Durable subscription to go on with, or to create if there is none
    #[arg(long, value_name = "SUB")]
    name: Option<SubscriptionName>,
    /// Where a new subscription starts: earliest, latest, offset:N or time:RFC3339
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = start::parse)]
    from: StartAt,
    /// Stop at the end of the topic as it is at the start
    #[arg(long)]
    until_end: bool,
    /// Stop after N records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    pipeline: Pipeline,
    /// What happens when a module fails on a record
    #[arg(long, value_enum, default_value_t = Fault::DeadLetter)]
    on_fault: Fault,
    /// How records are printed; json with --json, else payload
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// Print a summary on standard error at the end, also when that is no terminal
    #[arg(long)]
    stats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The payload and a line end
    Payload,
    /// One JSON object a record
    Json,
}

impl Subscribe {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let mut options = match &self.name {
            Some(name) => SubscribeOptions::durable(self.topic.clone(), name.clone()),
            None => SubscribeOptions::ephemeral(self.topic.clone()),
        };
        options.from = self.from.clone();
        options.until_end = self.until_end;
        options.on_fault = self.on_fault.into();
        if !self.pipeline.is_empty() {
            options = self.pipeline.apply(options)?;
        }
        let client = connect(common).await?;
        let consumer = client.subscribe(options).await?;
        faults::tell(consumer.faults());

        let form = self.format.unwrap_or(if common.json { Form::Json } else { Form::Payload });
        let mut printer = Printer::new(form, self.limit);
        let printed = Box::pin(printer.print(consumer)).await;
        let consumer = match printed {
            Ok(consumer) => consumer,
            Err(failure) => {
                client.close().await;
                return Err(failure);
            }
        };
        if self.stats || io::stderr().is_terminal() {
            let name = consumer.name().clone();
            let subscription = client.describe_subscription(name).await?;
            summary(common, &subscription, printer.records);
        }
        // Free for the next run before this one ends.
        consumer.close().await?;
        client.close().await;
        Ok(())
    }
}

/// Writes records, and acknowledges them once they are out.
struct Printer {
    form: Form,
    left: Option<u64>,
    records: u64,
    out: BufWriter<StdoutLock<'static>>,
    /// Written, not yet flushed: next offset by partition.
    unflushed: BTreeMap<Place, Offset>,
    unflushed_bytes: usize,
    flushed_at: Instant,
    bar: ProgressBar,
}

impl Printer {
    fn new(form: Form, limit: Option<u64>) -> Self {
        // Beside records on the same terminal a bar is only in the way.
        let bar = if io::stdout().is_terminal() { ProgressBar::hidden() } else { progress::bar(None) };
        Self {
            form,
            left: limit,
            records: 0,
            out: BufWriter::with_capacity(256 << 10, io::stdout().lock()),
            unflushed: BTreeMap::new(),
            unflushed_bytes: 0,
            flushed_at: Instant::now(),
            bar,
        }
    }

    /// Prints until the end, the limit, or a signal; gives the consumer back with everything acknowledged.
    async fn print(&mut self, mut consumer: Consumer) -> Result<Consumer, Failure> {
        let ended = self.print_all(&mut consumer).await;
        // What could be written before a failure is acknowledged nevertheless.
        let flushed = self.flush(&consumer);
        self.bar.finish_and_clear();
        ended?;
        flushed?;
        match consumer.ack_flush().await {
            // Ended by itself between the last record and the last ack: that is for the next run to hear.
            Ok(()) | Err(ConsumeError::Closed) => Ok(consumer),
            Err(error) => Err(error.into()),
        }
    }

    async fn print_all(&mut self, consumer: &mut Consumer) -> Result<(), Failure> {
        let mut ending = std::pin::pin!(interrupted());
        // The first poll takes the signals over.
        if ending.as_mut().now_or_never().is_some() {
            return Ok(());
        }
        while self.left != Some(0) {
            let ready = consumer.next_event().now_or_never();
            let event = match ready {
                Some(event) => event,
                None => {
                    self.flush(consumer)?;
                    tokio::select! {
                        event = consumer.next_event() => event,
                        _ = &mut ending => return Ok(()),
                    }
                }
            };
            match event {
                None => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(Event::Progress { .. } | Event::Gone { .. })) => {}
                Some(Ok(Event::Batch(delivery))) => {
                    let next = self.batch(&delivery).map_err(|error| Failure::output(&error))?;
                    self.unflushed.insert(delivery.place, next);
                }
            }
            if self.unflushed_bytes > FLUSH_BYTES || self.flushed_at.elapsed() > FLUSH_AFTER {
                self.flush(consumer)?;
                if ending.as_mut().now_or_never().is_some() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes the records of a batch up to the limit; answers the offset below which all are written.
    fn batch(&mut self, delivery: &Delivery) -> io::Result<Offset> {
        let view = delivery.batch.view();
        let mut records = view.records().peekable();
        while let Some(record) = records.next() {
            self.record(&delivery.place, &record)?;
            self.records += 1;
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    return Ok(match records.peek() {
                        None => delivery.next,
                        // Another record was made of the same source: the source is not done.
                        Some(following) if following.offset == record.offset => record.offset,
                        Some(_) => record.offset.saturating_add(1),
                    });
                }
            }
        }
        Ok(delivery.next)
    }

    fn record(&mut self, place: &Place, record: &RecordView<'_>) -> io::Result<()> {
        self.unflushed_bytes += record.payload_len;
        match self.form {
            Form::Payload => self.out.write_all(record.payload.unwrap_or_default())?,
            Form::Json => {
                let json = RecordJson::new(place.topic().as_str(), place.partition(), record);
                serde_json::to_writer(&mut self.out, &json)?
            }
        }
        self.out.write_all(b"\n")
    }

    /// Everything written is out, and therefore acknowledged.
    fn flush(&mut self, consumer: &Consumer) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))?;
        for (place, next) in std::mem::take(&mut self.unflushed) {
            consumer.ack_through(&place, next);
        }
        (self.unflushed_bytes, self.flushed_at) = (0, Instant::now());
        self.bar.set_message(output::counted(self.records, "record"));
        self.bar.tick();
        Ok(())
    }
}

fn summary(common: &Common, subscription: &SubscriptionInfo, printed: u64) {
    let counters = subscription.counters;
    let saved = counters.bytes_in.saturating_sub(counters.bytes_out);
    if common.json {
        let stats = json!({
            "subscription": subscription.name,
            "topic": subscription.topic,
            "printed": printed,
            "counters": counters,
            "bytes_saved": saved,
        });
        eprintln!("{stats}");
        return;
    }
    eprintln!(
        "{} in, {} out, {} dropped, {} routed, {} rejected, {} faulted; {} saved on the way; \
         {:.1} ms in modules, {}",
        output::counted(counters.records_in, "record"),
        output::count(counters.records_out),
        output::count(counters.dropped),
        output::count(counters.routed),
        output::count(counters.rejected),
        output::count(counters.faulted),
        output::bytes(saved),
        counters.module_ns as f64 / 1e6,
        output::counted(counters.module_calls, "call"),
    );
}

//! `millstream publish`: records from a file or standard input to a topic. Reads as fast as the broker acknowledges.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use millstream_client::{
    Compression, PublishCounts, PublishOptions, Publisher, Record, SlowDown, TopicName, WireError,
};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::{
    broker::connect,
    cli::Common,
    failure::Failure,
    input::{Format, Records, Shape, Source},
    interrupt::interrupted,
    output, progress,
};
use receipts::{Place, Receipts};

mod receipts;

/// Records handed over at a time, from the thread that reads, and how many such portions may wait.
const PORTION_RECORDS: usize = 256;
const PORTION_BYTES: usize = 256 << 10;
const PORTIONS_WAITING: usize = 8;

const EXAMPLES: &str =
    "Publishing stops at the first record that cannot be read, or when the broker refuses a batch; the message says how
many were acknowledged before. A record is acknowledged once it is as durable as its topic asks. Records that modules
on the topic's ingest reject, or fail on, are told on standard error and counted; others go on, and the exit code is 1.

Examples:
  millstream publish flights flights.csv --format csv --key tailnum --header carrier
  tail -F app.log | millstream publish logs --format lines --set-header host=web1
  jq -c '.[]' orders.json | millstream publish orders - --format ndjson --key customer";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Publish {
    /// Where the records go
    topic: TopicName,
    /// What to read; `-` or nothing is standard input
    file: Option<PathBuf>,
    /// What the input holds
    #[arg(long, value_enum)]
    format: Format,
    #[command(flatten)]
    shape: Shape,
    /// A batch is sent at the latest when it has this size
    #[arg(long, value_name = "N", default_value_t = 256 << 10, value_parser = clap::value_parser!(u32).range(1..))]
    batch_bytes: u32,
    /// How payloads are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    /// Not at all
    None,
    /// Cheap
    Lz4,
    /// Small
    Zstd,
}

/// Longest wait, once the user has interrupted, for what is on its way.
const INTERRUPTED_WAIT: Duration = Duration::from_secs(5);

/// So long the broker may refuse before it is told.
const REFUSED_UNTOLD: Duration = Duration::from_secs(1);

/// What the reading thread hands over: records, each with its line.
type Portion = Result<Vec<(u64, Record)>, Failure>;

impl Publish {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let source = Source::open(self.file.as_deref())?;
        self.shape.check(self.format)?;
        let client = connect(common).await?;
        let options = PublishOptions {
            batch_bytes: self.batch_bytes as usize,
            compression: match self.compression {
                Codec::None => Compression::None,
                Codec::Lz4 => Compression::Lz4,
                Codec::Zstd => Compression::Zstd,
            },
            ..PublishOptions::default()
        };
        let publisher = client.publisher(self.topic.clone(), options).await?;

        let started = Instant::now();
        let (bar, meter) = (progress::bar(source.bytes()), source.meter());
        let (portions, received) = mpsc::channel(PORTIONS_WAITING);
        let (format, shape) = (self.format, self.shape);
        // Reading blocks, on a thread of its own; it ends when nobody receives any more.
        std::thread::spawn(move || read(source, format, shape, &portions));
        let telling = tokio::spawn(tell(publisher.slowed(), bar.clone(), common.json));
        let explaining = tokio::spawn(explain(publisher.refused(), bar.clone(), common.json));
        let mut receipts = Receipts::new(bar.clone(), common.json);
        let stopped = || Err(Failure::new("interrupted"));
        let (fed, was_interrupted) = tokio::select! {
            fed = feed(&publisher, received, &bar, &meter, &mut receipts) => (fed, false),
            () = interrupted() => (stopped(), true),
        };
        let settled = async {
            let flushed = match publisher.flush().await {
                // Told with the others.
                Err(error) if error.is_of_record() => Ok(()),
                flushed => flushed,
            };
            receipts.take_all().await;
            flushed.map_err(Failure::from)
        };
        let flushed = tokio::select! {
            flushed = settled => flushed,
            () = interrupted() => stopped(),
            // What is on its way may still arrive.
            () = tokio::time::sleep(INTERRUPTED_WAIT), if was_interrupted => stopped(),
        };
        telling.abort();
        explaining.abort();
        let (counts, slowed) = (publisher.counts(), publisher.slowed_for());
        bar.finish_and_clear();

        // What the broker refused explains more than what came after it.
        let outcome = flushed.and(fed);
        if let Err(failure) = outcome {
            let records = output::count(counts.records);
            return Err(failure
                .and(format!("records published and acknowledged before: {records}"))
                .with("records", counts.records));
        }
        summary(common, &self.topic, counts, started.elapsed(), slowed)?;
        drop(publisher);
        client.close().await;
        match counts.rejected {
            0 => Ok(()),
            rejected => Err(Failure::new(format!(
                "{} of {} did not get past the modules on the topic's ingest; `millstream topic describe {}` shows them",
                output::count(rejected),
                output::counted(counts.records + counts.dropped + rejected, "record"),
                self.topic,
            ))
            .with("records", counts.records)
            .with("rejected", rejected)),
        }
    }
}

/// Says once that the broker asks to slow down, and why.
async fn tell(mut slowed: watch::Receiver<Option<SlowDown>>, bar: ProgressBar, json: bool) {
    let Ok(Some(slow)) = slowed.wait_for(Option::is_some).await.map(|slow| *slow) else { return };
    if !json {
        bar.suspend(|| eprintln!("the broker asks to slow down: {slow}"));
    }
}

/// Says once why the broker refuses for now what is tried again, when that takes longer.
async fn explain(mut refused: watch::Receiver<Option<WireError>>, bar: ProgressBar, json: bool) {
    loop {
        let Ok(Some(why)) = refused.wait_for(Option::is_some).await.map(|why| why.clone()) else { return };
        let taken = tokio::time::timeout(REFUSED_UNTOLD, refused.wait_for(Option::is_none));
        match taken.await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                if !json {
                    bar.suspend(|| eprintln!("the broker refuses for now, and is tried again: {why}"));
                }
                return;
            }
        }
    }
}

/// Publishes what comes until the input or the broker ends it.
async fn feed(
    publisher: &Publisher,
    mut received: mpsc::Receiver<Portion>,
    bar: &ProgressBar,
    meter: &Arc<AtomicU64>,
    receipts: &mut Receipts,
) -> Result<(), Failure> {
    let mut shown = Instant::now();
    let mut number = 0u64;
    while let Some(portion) = received.recv().await {
        for (line, record) in portion? {
            number += 1;
            // Receipts are counted by the publisher; a failure ends the feeding with the next portion.
            let pending = publisher.publish(record).await.map_err(|error| {
                Failure::from(error).and(format!("it is record {number} of the input, counted from 1"))
            })?;
            receipts.expect(Place { number, line }, pending).await;
        }
        receipts.take_ready();
        let counts = publisher.counts();
        if counts.failed_batches > 0 {
            return Ok(());
        }
        if shown.elapsed() > Duration::from_millis(100) {
            shown = Instant::now();
            bar.set_position(meter.load(Ordering::Relaxed));
            bar.set_message(format!("{} acknowledged", output::counted(counts.records, "record")));
        }
    }
    Ok(())
}

fn read(source: Source, format: Format, shape: Shape, portions: &mpsc::Sender<Portion>) {
    let mut records = Records::new(source, format, shape);
    loop {
        let (mut portion, mut bytes) = (Vec::with_capacity(PORTION_RECORDS), 0);
        let end = loop {
            match records.next_record() {
                Ok(Some(record)) => {
                    bytes += record.payload.as_ref().map_or(0, |payload| payload.len());
                    portion.push((records.line(), record));
                    // A slow input is published as it comes.
                    if portion.len() >= PORTION_RECORDS
                        || bytes >= PORTION_BYTES
                        || !records.has_more_at_hand()
                    {
                        break None;
                    }
                }
                Ok(None) => break Some(None),
                Err(error) => break Some(Some(Failure::new(error.to_string()))),
            }
        };
        let portion_sent = portion.is_empty() || portions.blocking_send(Ok(portion)).is_ok();
        match end {
            None if portion_sent => {}
            Some(Some(failure)) if portion_sent => {
                // Nobody receives when publishing has failed already, which is told instead.
                let _ = portions.blocking_send(Err(failure));
                return;
            }
            _ => return,
        }
    }
}

fn summary(
    common: &Common,
    topic: &TopicName,
    counts: PublishCounts,
    took: Duration,
    slowed: Duration,
) -> Result<(), Failure> {
    let PublishCounts { records, dropped, rejected, batches, bytes, .. } = counts;
    let seconds = took.as_secs_f64();
    let rate = records as f64 / seconds.max(1e-9);
    if common.json {
        return output::json(&json!({
            "topic": topic,
            "records": records,
            "dropped": dropped,
            "rejected": rejected,
            "bytes": bytes,
            "batches": batches,
            "seconds": seconds,
            "slowed_seconds": slowed.as_secs_f64(),
            "records_per_second": rate,
        }));
    }
    let slowed = if slowed.is_zero() {
        String::new()
    } else {
        format!(", of which {:.2} s slowed down", slowed.as_secs_f64())
    };
    let others = [(dropped, "dropped"), (rejected, "rejected")];
    let others = others.into_iter().filter(|(number, _)| *number > 0);
    let others: String = others.map(|(number, what)| format!(", {} {what}", output::count(number))).collect();
    output::line(format!(
        "{} published to {topic}{others} in {}, {}, {seconds:.2} s{slowed}, {}/s",
        output::counted(records, "record"),
        output::counted(batches, "batch"),
        output::bytes(bytes),
        output::counted(rate as u64, "record"),
    ))
}

//! `millstream work`: one of a subscription's consumers, which runs a command for each record, or prints it.

use std::{process::Stdio, sync::Arc, time::Duration};

use clap::Args;
use millstream_client::{
    Client, DeliveryMode, Leased, Settler, StartAt, SubscriptionName, TopicPattern, WorkOptions, Worker,
};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command, sync::watch, task::JoinSet};

use super::subscription::Fault;
use crate::{
    bindings::Pipeline, broker::connect, cli::Common, delivery::Delivery, failure::Failure, faults,
    interrupt::interrupted, output, render::RecordJson, start,
};

const EXAMPLES: &str =
    "Several workers share a subscription, on one machine or many. Each record is leased to one of them; what
is not settled before its lease ends, or fails, is delivered again, and in the end becomes a dead letter
(see `millstream dlq`).

With a command behind `--`, it is run for each record, with the payload as its standard input and
MILLSTREAM_TOPIC, MILLSTREAM_PARTITION, MILLSTREAM_OFFSET, MILLSTREAM_KEY, MILLSTREAM_DELIVERIES and
MILLSTREAM_FAILURES in its environment. Exit code 0 acknowledges the record; any other gives it back
with the last line of the command's standard error as the reason. Without a command, records are
printed as JSON, one a line, and acknowledged. Ctrl-C and SIGTERM let commands finish, give the rest
back, and end.

Examples:
  millstream work orders billing --mode key_shared --parallel 4 -- ./bill.sh
  millstream work orders audit --mode shared --limit 100
  millstream work mails send --mode shared --tries 3 --backoff 10s,1min -- sendmail -t";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Work {
    /// What to read: a topic, or all that a pattern means, those made later included; quote it: 'orders.*', 'orders.>'
    topic: TopicPattern,
    /// Durable subscription to join, or to create if there is none
    name: SubscriptionName,
    /// Where a new subscription starts: earliest, latest, offset:N or time:RFC3339
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = start::parse)]
    from: StartAt,
    #[command(flatten)]
    delivery: Delivery,
    #[command(flatten)]
    pipeline: Pipeline,
    /// What happens when a module fails on a record
    #[arg(long, value_enum, default_value_t = Fault::DeadLetter)]
    on_fault: Fault,
    /// Workers; each handles one record at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Most records that each worker holds unsettled
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    records: u32,
    /// Stop after N records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Stop when nothing came for so long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    idle: Option<Duration>,
    /// What to run for each record
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What the workers of one command share.
struct Shop {
    command: Vec<String>,
    idle: Option<Duration>,
    /// Records that may still be taken, and what became of those that were.
    ledger: std::sync::Mutex<Ledger>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Ledger {
    left: Option<u64>,
    done: u64,
    failed: u64,
}

impl Shop {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether one more record may be taken.
    fn may_take(&self) -> bool {
        match &mut self.ledger().left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

impl Work {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = connect(common).await?;
        let mut options = WorkOptions::new(self.topic.clone(), self.name.clone()).from(self.from.clone());
        options.records = self.records;
        options.on_fault = self.on_fault.into();
        options.delivery = self.delivery.config(DeliveryMode::Shared)?;
        if !self.pipeline.is_empty() {
            options.pipeline = Some(self.pipeline.upload(&client).await?);
        }
        let shop = Arc::new(Shop {
            command: self.command,
            idle: self.idle,
            ledger: std::sync::Mutex::new(Ledger { left: self.limit, ..Ledger::default() }),
        });
        let outcome = run_all(&client, &options, &shop, self.parallel).await;
        let Ledger { done, failed, .. } = *shop.ledger();
        if outcome.is_err() && done + failed == 0 {
            // It was refused: that is all there is to say.
        } else if common.json {
            eprintln!("{}", json!({ "done": done, "failed": failed }));
        } else {
            eprintln!("{} done, {} failed", output::counted(done, "record"), output::count(failed));
        }
        client.close().await;
        outcome
    }
}

async fn run_all(
    client: &Client,
    options: &WorkOptions,
    shop: &Arc<Shop>,
    parallel: u16,
) -> Result<(), Failure> {
    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for _ in 0..parallel {
        // One after the other: the first one creates the subscription.
        let worker = client.work(options.clone()).await?;
        if workers.is_empty() {
            faults::tell(worker.faults());
        }
        let (shop, stopped) = (Arc::clone(shop), stopped.clone());
        let stop = stop.clone();
        workers.spawn(async move { run_one(worker, &shop, &stop, stopped).await });
    }
    let mut ending = std::pin::pin!(interrupted());
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            () = &mut ending, if !*stopped.borrow() => drop(stop.send_replace(true)),
            ended = workers.join_next() => match ended {
                None => return outcome,
                Some(ended) => {
                    let ended = ended.unwrap_or_else(|error| Err(Failure::new(format!("a worker panicked: {error}"))));
                    if ended.is_err() {
                        stop.send_replace(true);
                        outcome = outcome.and(ended);
                    }
                }
            }
        }
    }
}

async fn run_one(
    mut worker: Worker,
    shop: &Shop,
    stop: &watch::Sender<bool>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let (settler, lease) = (worker.settler(), worker.lease());
    let outcome = loop {
        let idle = async {
            match shop.idle {
                Some(idle) => tokio::time::sleep(idle).await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break Ok(()),
            message = worker.next_message() => message,
            () = idle => break Ok(()),
        };
        match message {
            None => break Ok(()),
            Some(Err(error)) => break Err(error.into()),
            Some(Ok(message)) => {
                if !shop.may_take() {
                    settler.release(&message);
                    break Ok(());
                }
                if let Err(failure) = handle(&message, shop, &settler, lease).await {
                    break Err(failure);
                }
                if shop.ledger().left == Some(0) {
                    // Nor is there anything to do for the others.
                    stop.send_replace(true);
                    break Ok(());
                }
            }
        }
    };
    match worker.close().await {
        Err(error) if outcome.is_ok() => Err(error.into()),
        _ => outcome,
    }
}

async fn handle(message: &Leased, shop: &Shop, settler: &Settler, lease: Duration) -> Result<(), Failure> {
    let handled = if shop.command.is_empty() {
        output::json(&RecordJson::new(message.topic().as_str(), message.partition(), &message.view()))?;
        Ok(())
    } else {
        // As long as it runs, the record is its own.
        let keep = async {
            loop {
                tokio::time::sleep(lease / 3).await;
                settler.extend(message, lease).await;
            }
        };
        tokio::select! {
            called = call(message, shop) => called?,
            never = keep => never,
        }
    };
    let mut ledger = shop.ledger();
    match handled {
        Ok(()) => {
            settler.ack(message);
            ledger.done += 1;
        }
        Err(reason) => {
            eprintln!(
                "offset {} of {} failed, delivery {}: {reason}",
                message.offset(),
                message.place(),
                message.deliveries()
            );
            settler.nack(message, reason);
            ledger.failed += 1;
        }
    }
    Ok(())
}

/// Runs the command on a message; why it failed, if it did.
async fn call(message: &Leased, shop: &Shop) -> Result<Result<(), String>, Failure> {
    let Some((program, arguments)) = shop.command.split_first() else { return Ok(Ok(())) };
    let cannot = |error: std::io::Error| Failure::new(format!("cannot run {program}: {error}"));
    let mut child = Command::new(program)
        .args(arguments)
        .env("MILLSTREAM_TOPIC", message.topic().as_str())
        .env("MILLSTREAM_PARTITION", message.partition().to_string())
        .env("MILLSTREAM_OFFSET", message.offset().to_string())
        .env("MILLSTREAM_KEY", String::from_utf8_lossy(message.key().unwrap_or_default()).replace('\0', ""))
        .env("MILLSTREAM_DELIVERIES", message.deliveries().to_string())
        .env("MILLSTREAM_FAILURES", message.failures().to_string())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        // A signal from the terminal is for us, who let it finish.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let stdin = child.stdin.take();
    let payload = message.payload_bytes().unwrap_or_default();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command need not read all of it.
            let _ = stdin.write_all(&payload).await;
        }
    };
    let (ended, ()) = tokio::join!(child.wait_with_output(), feed);
    let ended = ended.map_err(cannot)?;
    if ended.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    Ok(Err(match last {
        Some(last) => format!("{program} ended with {}: {last}", ended.status),
        None => format!("{program} ended with {}", ended.status),
    }))
}

//! The demo from its first command to its last comparison.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use millstream_client::{Client, ConnectOptions, TopicName};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    Error,
    after::{Standing, compare_contents},
    broker::Broker,
    commands::{Cli, module_dir},
    flights::Flights,
    hours,
    live::{self, Live},
    reading::consume,
    report::Report,
    subscriptions::{CARRIER_TOPICS, OWN_MODULE, Plan, plans},
};

const TOPIC: &str = "flights";
/// Where flights are published while the broker is killed.
const LIVE_TOPIC: &str = "live";
/// What is written to around the kill.
const WRITTEN: [&str; 2] = [LIVE_TOPIC, hours::TOPIC];
const PARTITIONS: &str = "4";
/// Acknowledged records of the live topic before the broker is killed.
const LIVE_RECORDS: usize = 50_000;

/// Where the binary is, and where the demo writes.
pub(crate) struct Setting {
    binary: PathBuf,
    work: Work,
}

enum Work {
    Kept(PathBuf),
    Removed(TempDir),
}

impl Setting {
    /// Finds the binary and makes the folder.
    pub(crate) fn new(binary: Option<PathBuf>, parent: Option<PathBuf>, keep: bool) -> Result<Self, Error> {
        let binary = match binary {
            Some(binary) => binary,
            None => {
                std::env::current_exe().map_err(Error::io("find this program"))?.with_file_name("millstream")
            }
        };
        if !binary.is_file() {
            return Err(Error::NoBinary(binary));
        }
        let parent = parent.unwrap_or_else(std::env::temp_dir);
        let made = tempfile::Builder::new().prefix("millstream-demo-").tempdir_in(&parent);
        let made = made.map_err(Error::io(format!("make a folder in {}", parent.display())))?;
        Ok(Self { binary, work: if keep { Work::Kept(made.keep()) } else { Work::Removed(made) } })
    }
}

impl Work {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Removed(dir) => dir.path(),
        }
    }
}

/// Runs all of it; what differs goes into `report`.
pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<(), Error> {
    let runtime = Runtime::new().map_err(Error::io("start threads"))?;
    let flights = Arc::new(Flights::read()?);
    let plans = plans(&flights);
    let (binary, work) = (setting.binary.as_path(), setting.work.path());
    let [topic, live_topic]: [TopicName; 2] =
        [TOPIC, LIVE_TOPIC].map(|name| name.parse().expect("the names above are good"));

    report.heading("A broker on an empty directory");
    let broker = Broker::start(binary, work, report)?;
    report.fact("started_ms", broker.started_in.as_millis() as u64);
    report.command(&format!("export MILLSTREAM_URL=\"$(cat {})\"", work.join("data/client.url").display()));

    let published = prepare(&Cli { binary, url: &broker.url, report: &*report }, &flights, &plans, work)?;
    report.fact("published", published);
    report.check("records published and acknowledged", flights.rows.len(), published);

    report.heading("All four read at once, through the client");
    let client = runtime.block_on(connect(&broker))?;
    let brought = runtime.block_on(consume(&client, &topic, &plans))?;
    for (plan, brought) in plans.iter().zip(&brought) {
        report.subscription(plan, brought, flights.rows.len() as u64);
    }
    report.table();
    let before = runtime.block_on(Standing::read(&client, &plans, &WRITTEN))?;
    compare_carriers(&before, &flights, report);
    runtime.block_on(client.close());

    report.heading("The broker is killed while a processor runs and flights are published to another topic");
    let cli = Cli { binary, url: &broker.url, report: &*report };
    hours::start(&cli, TOPIC, work)?;
    cli.run(&["topic", "create", LIVE_TOPIC, "--partitions", PARTITIONS])?;
    let live = runtime.block_on(Live::start(&broker.url, &live_topic, &flights, LIVE_RECORDS))?;
    broker.kill(report)?;
    let acknowledged = runtime.block_on(live.end());
    report.say(&format!("  {} records of `{LIVE_TOPIC}` had been acknowledged", acknowledged.len()));
    report.fact("acknowledged_before_kill", acknowledged.len());

    report.heading("Started again on the same directory");
    let broker = Broker::start(binary, work, report)?;
    report.say(&format!("  ready after {} ms", broker.started_in.as_millis()));
    report.fact("restarted_ms", broker.started_in.as_millis() as u64);
    let client = runtime.block_on(connect(&broker))?;

    let from = report.checks();
    let after = runtime.block_on(Standing::read(&client, &plans, &WRITTEN))?;
    compare_standing(&before, &after, report);
    report.say_since(from, "offsets of every partition, positions of every subscription");

    let from = report.checks();
    let found = runtime.block_on(live::look_up(&client, &live_topic, &flights, &acknowledged))?;
    report.check("enough records acknowledged before the kill", true, acknowledged.len() >= LIVE_RECORDS);
    report.check("acknowledged records of the live topic", acknowledged.len(), found.whole);
    report.fact("stored_without_receipt", found.without_receipt);
    report.say_since(from, "what was acknowledged before the kill");
    report.say(&format!(
        "    {} of {} acknowledged records are there, and {} that had no receipt yet",
        found.whole,
        acknowledged.len(),
        found.without_receipt,
    ));

    let from = report.checks();
    runtime.block_on(hours::compare(&client, &flights, report))?;
    report.say_since(from, "the processor: each flight counted once, in its carrier's hour");

    let from = report.checks();
    runtime.block_on(compare_contents(&client, &topic, &flights, report))?;
    report.say_since(from, "every record read again, checksums against the CSV file");

    let from = report.checks();
    let again = runtime.block_on(consume(&client, &topic, &plans))?;
    for (plan, brought) in plans.iter().zip(&again) {
        report.check(format!("{}: records read again", plan.name), 0, brought.records);
    }
    let at_last = runtime.block_on(Standing::read(&client, &plans, &WRITTEN))?;
    compare_standing(&before, &at_last, report);
    report.say_since(from, "the subscriptions taken up again: nothing comes twice, nothing is routed twice");
    runtime.block_on(client.close());

    if let Work::Kept(path) = &setting.work {
        report.say(&format!("\nEverything is in {}", path.display()));
        report.fact("work", path);
    }
    Ok(())
}

/// What a user types: topic, records, module, subscriptions. Answers the number of records published.
fn prepare(cli: &Cli<'_>, flights: &Flights, plans: &[Plan], work: &Path) -> Result<u64, Error> {
    cli.report.heading("A topic, and the flights of January 2013");
    cli.run(&["topic", "create", TOPIC, "--partitions", PARTITIONS])?;
    let publish = [
        "publish", TOPIC, "-", "--format", "csv", "--key", "carrier", "--header", "carrier", "--header",
        "origin", "--json",
    ];
    let published =
        cli.run_with(&publish, &flights.csv, "zstd -dc examples/flights/flights-2013-01.csv.zst")?;

    cli.report.heading("A module of one's own");
    let (module, source) = (work.join("late-departures.wasm"), module_dir("late-departures"));
    let (module, source) = (module.to_string_lossy(), source.to_string_lossy());
    cli.run(&["module", "build", &source, "-o", &module])?;
    cli.run(&["module", "push", &module, "--name", OWN_MODULE])?;

    cli.report.heading("Four modules on four subscriptions");
    for plan in plans {
        cli.run(&[
            "subscription",
            "create",
            plan.name,
            TOPIC,
            "--module",
            plan.module,
            "--config",
            plan.config,
        ])?;
    }
    Ok(published.get("records").and_then(serde_json::Value::as_u64).unwrap_or_default())
}

async fn connect(broker: &Broker) -> Result<Client, Error> {
    Ok(Client::connect(&broker.url, ConnectOptions::default()).await?)
}

/// The router's topics: one a carrier, each with that carrier's flights.
fn compare_carriers(standing: &Standing, flights: &Flights, report: &mut Report) {
    let carriers = flights.carriers();
    let from = report.checks();
    let topics = standing.topics.keys().filter(|name| name.starts_with(CARRIER_TOPICS));
    report.check("topics made by the router", carriers.len(), topics.count());
    let mut counts = Vec::new();
    for (carrier, records) in carriers {
        let name = format!("{CARRIER_TOPICS}{carrier}");
        let found = standing.records(&name);
        report.check(format!("records of {name}"), records, found);
        counts.push(format!("{carrier} {found}"));
    }
    report.say(&format!("  by carrier: {}", counts.join(", ")));
    report.say_since(from, "the router's topics");
}

fn compare_standing(before: &Standing, after: &Standing, report: &mut Report) {
    report.check("number of topics", before.topics.len(), after.topics.len());
    for (what, before, after) in [
        ("offsets of topic", &before.topics, &after.topics),
        ("positions of subscription", &before.subscriptions, &after.subscriptions),
    ] {
        for (name, expected) in before {
            let found = after.get(name).cloned().unwrap_or_default();
            report.check(format!("{what} {name}"), format!("{expected:?}"), format!("{found:?}"));
        }
    }
}

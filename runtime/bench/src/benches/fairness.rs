//! How long records of others take beside a subscription whose module uses up its budget on every record, and beside a process
//! that keeps a core as busy.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_client::{Durability, OnFault, PublishOptions, Record, StartAt, SubscribeOptions, TopicName};
use millstream_engine::{Engine, Pipeline, Settings as EngineSettings};

use super::say;
use crate::{
    Error, Report, Settings,
    child::{Child, ChildCommand},
    report::Goal,
    stats::median,
    subject::{Broker, batch, bind, latency_judged, load},
};

/// Of the 50 ms that a call may use: more than half, so that a call has one record, and no more, so that none is a fault where
/// the cores of this machine slow each other down.
const BURNT_MS: f64 = 30.0;
/// Records that are there to be burnt on: more than can be in the time that is measured.
const RECORDS: usize = 5_000;
/// How often it is looked whether it burns.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Rounds of a loop by which its cost is found out.
const TRIED_SPIN: u32 = 20_000_000;

pub(super) async fn fairness(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    let spin = tokio::task::spawn_blocking(spin).await??;
    report.setting("spin", spin);
    for round in 0..settings.rounds {
        let broker = Broker::start(settings).await?;
        let (honest, burning) =
            (broker.topic(1, Durability::Interval).await?, broker.topic(1, Durability::Interval).await?);
        store(&broker, &burning).await?;
        let module = ("std/headers", r#"{"not": {"header": "x", "exists": true}}"#);
        let (bytes, duration) = (settings.record_bytes, settings.duration());
        // Before and after, so that what drifts is on both sides.
        for _ in 0..2 {
            say(settings, round, "others alone");
            let alone = latency_judged(&broker, &honest, module, bytes, duration).await?;
            say(settings, round, "others beside a busy process");
            let busy = Child::start(ChildCommand::Busy.to_args()).await?;
            let beside_process = latency_judged(&broker, &honest, module, bytes, duration).await?;
            drop(busy);
            say(settings, round, "others beside one that burns");
            let burner = Burner::start(&broker, &burning, spin).await?;
            let beside = latency_judged(&broker, &honest, module, bytes, duration).await?;
            report.sample("burnt_ms_per_s", burner.end().await?);
            report.latencies("alone", &alone);
            report.latencies("beside_process", &beside_process);
            report.latencies("beside", &beside);
        }
        broker.forget(honest).await?;
        broker.forget(burning).await?;
    }
    // Publisher, broker and reader need more than one core at times: of two none is left then, and what a busy process
    // costs the others is what the machine does.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let left = cores > 2;
    report.setting("a_core_is_left", left);
    let goal = Goal::AtMost(1.2);
    let (to_alone, to_process) = if left { (goal, Goal::None) } else { (Goal::None, goal) };
    for (ratio, subject, limit, goal) in [
        ("fairness_p50", "beside_p50_us", "alone_p50_us", Goal::None),
        ("fairness_p50_to_process", "beside_p50_us", "beside_process_p50_us", Goal::None),
        ("fairness_p99", "beside_p99_us", "alone_p99_us", to_alone),
        ("fairness_p99_to_process", "beside_p99_us", "beside_process_p99_us", to_process),
    ] {
        report.ratio(ratio, subject, limit, goal);
    }
    Ok(())
}

/// How often a loop must go round to take [`BURNT_MS`] here.
fn spin() -> Result<u32, Error> {
    let engine = Engine::new(&EngineSettings::default()).map_err(Error::engine("start"))?;
    let module = load(&engine, millstream_filters::floor())?;
    let batch = batch(1, 100, 1)?;
    let mut pipeline = Pipeline::new(vec![bind(&module, &config(TRIED_SPIN / 20))?]);
    let mut rounds = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        pipeline.run(&batch, 0..1).map_err(Error::engine("run a module"))?;
        rounds.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let took = median(&rounds).unwrap_or(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some millions")]
    let spin = (f64::from(TRIED_SPIN / 20) * BURNT_MS / took) as u32;
    Ok(spin)
}

fn config(spin: u32) -> String {
    serde_json::json!({ "spin": spin }).to_string()
}

async fn store(broker: &Broker, topic: &TopicName) -> Result<(), Error> {
    let client = broker.client().await?;
    let publisher = client
        .publisher(topic.clone(), PublishOptions::default())
        .await
        .map_err(Error::millstream("open a publisher"))?;
    for _ in 0..RECORDS {
        drop(publisher.publish(Record::new("-")).await.map_err(Error::millstream("publish"))?);
    }
    publisher.close().await.map_err(Error::millstream("publish"))?;
    client.close().await;
    Ok(())
}

/// A subscription whose module burns.
struct Burner {
    client: millstream_client::Client,
    name: millstream_client::SubscriptionName,
    reading: tokio::task::JoinHandle<()>,
    since: Instant,
    /// Before that, ns.
    burnt_ns: u64,
}

impl Burner {
    async fn start(broker: &Broker, topic: &TopicName, spin: u32) -> Result<Self, Error> {
        let client = broker.client().await?;
        let module = Bytes::from_static(millstream_filters::floor());
        let mut options = SubscribeOptions::ephemeral(topic.clone())
            .from(StartAt::Earliest)
            .with_private_module(module, config(spin));
        options.on_fault = OnFault::Skip;
        let mut consumer = client.subscribe(options).await.map_err(Error::millstream("subscribe"))?;
        let name = consumer.name().clone();
        let reading = tokio::spawn(async move { while let Some(Ok(_)) = consumer.next_batch().await {} });
        let mut burner = Self { client, name, reading, since: Instant::now(), burnt_ns: 0 };
        while burner.burnt_ns == 0 {
            tokio::time::sleep(LOOK_EVERY).await;
            burner.burnt_ns = burner.burnt().await?;
        }
        Ok(Self { since: Instant::now(), ..burner })
    }

    /// Time in its module up to now, ns: what is delivered of it comes much later.
    async fn burnt(&self) -> Result<u64, Error> {
        let info = self.client.describe_subscription(self.name.clone()).await;
        let info = info.map_err(Error::millstream("describe a subscription"))?;
        Ok(info.modules.iter().map(|module| module.module_ns).sum())
    }

    /// Ends it; time in its module, ms a second.
    async fn end(self) -> Result<f64, Error> {
        let burnt = self.burnt().await?.saturating_sub(self.burnt_ns);
        let took = self.since.elapsed();
        self.reading.abort();
        self.client.close().await;
        #[expect(clippy::cast_precision_loss, reason = "a time stays far below 2^52 ns")]
        Ok(burnt as f64 / 1e6 / took.as_secs_f64())
    }
}

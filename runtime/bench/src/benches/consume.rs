//! Consuming at the tail, and what was stored before, beside raw QUIC down.

use millstream_client::{Durability, TopicName};

use super::{publish::batches, say};
use crate::{
    Error, Report, Settings,
    child::{Child, ChildCommand},
    limits::quic_down,
    progress,
    report::Goal,
    scratch::settle,
    stats,
    subject::{Amount, Broker, Pass, Producers, consume as run_consumer, publish as run_producers},
};

pub(super) async fn consume(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    let server = Child::start(ChildCommand::Quic.to_args()).await?;
    progress::say("storing records");
    let stored = load(settings, settings.load_mb, None).await?;
    let tail = load(settings, settings.tail_mb, None).await?;
    for round in 0..settings.rounds {
        say(settings, round, "raw QUIC down");
        let down = quic_down(&server, settings.batch_bytes, settings.duration()).await?;
        report.sample("quic_down_mb_per_s", down);
        say(settings, round, "consume at the tail");
        sample(settings, report, "consume", &tail).await?;
        say(settings, round, "consume what is stored");
        sample(settings, report, "stored_consume", &stored).await?;
    }
    for (ratio, figure) in [
        ("consume_to_raw_quinn", "consume_mb_per_s"),
        ("stored_consume_to_raw_quinn", "stored_consume_mb_per_s"),
    ] {
        report.ratio(ratio, figure, "quic_down_mb_per_s", Goal::AtLeast(0.8));
    }
    stored.forget().await?;
    tail.forget().await
}

async fn sample(
    settings: &Settings,
    report: &mut Report,
    figure: &str,
    loaded: &Loaded,
) -> Result<(), Error> {
    let Loaded { broker, topic, records } = loaded;
    let before = broker.cpu_seconds();
    let passed = run_consumer(broker, topic, &Pass::All, *records, *records, settings.duration()).await?;
    let bytes = passed.records * settings.record_bytes as u64;
    report.sample(format!("{figure}_mb_per_s"), stats::mb_per_s(bytes, passed.took));
    report.sample(format!("{figure}_records_per_s"), passed.records_per_s());
    if let Some((after, before)) = broker.cpu_seconds().zip(before) {
        report.sample(format!("{figure}_broker_cpu_s_per_gb"), stats::per_gb(after - before, bytes));
    }
    Ok(())
}

/// A broker with a topic full of records, at rest.
pub(super) struct Loaded {
    pub(super) broker: Broker,
    pub(super) topic: TopicName,
    pub(super) records: u64,
}

impl Loaded {
    /// Deletes the topic of a broker that goes on to live.
    pub(super) async fn forget(self) -> Result<(), Error> {
        self.broker.forget(self.topic).await
    }
}

pub(super) async fn load(settings: &Settings, mb: u64, keep_one_in: Option<u64>) -> Result<Loaded, Error> {
    let broker = Broker::start(settings).await?;
    let topic = broker.topic(settings.partitions, Durability::Interval).await?;
    let producers = Producers { keep_one_in, ..batches(settings) };
    let amount = Amount::Records(settings.records_of(mb));
    let records = run_producers(&broker, &topic, &producers, amount).await?.records;
    settle().await?;
    Ok(Loaded { broker, topic, records })
}

//! Consuming what is stored, beside raw QUIC down.

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
    let Loaded { broker, topic, records } = load(settings, None).await?;
    for round in 0..settings.rounds {
        say(settings, round, "raw QUIC down");
        let down = quic_down(&server, settings.batch_bytes, settings.duration()).await?;
        report.sample("quic_down_mb_per_s", down);
        say(settings, round, "consume");
        let before = broker.cpu_seconds();
        let passed = run_consumer(&broker, &topic, &Pass::All, records, records, settings.duration()).await?;
        let bytes = passed.records * settings.record_bytes as u64;
        report.sample("consume_mb_per_s", stats::mb_per_s(bytes, passed.took));
        report.sample("consume_records_per_s", passed.records_per_s());
        if let Some((after, before)) = broker.cpu_seconds().zip(before) {
            report.sample("consume_broker_cpu_s_per_gb", stats::per_gb(after - before, bytes));
        }
    }
    report.ratio("consume_to_raw_quinn", "consume_mb_per_s", "quic_down_mb_per_s", Goal::AtLeast(0.8));
    broker.forget(topic).await
}

/// A broker with a topic full of records, at rest.
pub(super) struct Loaded {
    pub(super) broker: Broker,
    pub(super) topic: TopicName,
    pub(super) records: u64,
}

pub(super) async fn load(settings: &Settings, keep_one_in: Option<u64>) -> Result<Loaded, Error> {
    let broker = Broker::start(settings).await?;
    let topic = broker.topic(settings.partitions, Durability::Interval).await?;
    let producers = Producers { keep_one_in, ..batches(settings) };
    let amount = Amount::Records(settings.load_records());
    let records = run_producers(&broker, &topic, &producers, amount).await?.records;
    settle().await?;
    Ok(Loaded { broker, topic, records })
}

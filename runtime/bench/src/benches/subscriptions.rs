//! Many subscriptions with a module each on one topic.

use millstream_client::{
    Client, Consumer, Durability, Header, PublishOptions, Record, StartAt, SubscribeOptions, TopicName,
};

use super::say;
use crate::{
    Error, Report, Settings, payload,
    report::Goal,
    subject::{Broker, keep_header},
};

/// Subscriptions of one connection.
const PER_CONNECTION: usize = 50;
/// Records that all of them judge; one more ends it.
const RECORDS: usize = 5_000;

pub(super) async fn subscriptions(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    let (many, few) = (settings.module_subscriptions, settings.module_subscriptions.div_ceil(10));
    for round in 0..settings.rounds {
        for (count, cpu, memory) in [(few, "few_cpu_ns", "few_kib"), (many, "many_cpu_ns", "many_kib")] {
            say(settings, round, &format!("{count} subscriptions"));
            sample(settings, report, count, (cpu, memory)).await?;
        }
    }
    // A judgement of many costs what one of few does.
    report.ratio("many_to_few_cpu", "many_cpu_ns", "few_cpu_ns", Goal::AtMost(1.2));
    report.goal("many_kib", Goal::AtMost(1_024.0));
    Ok(())
}

/// Has `count` subscriptions judge the same records; CPU time of the broker for each record of each, and memory for each
/// subscription. Each has `std/headers`, with a condition of its own, that keeps only the last record.
async fn sample(
    settings: &Settings,
    report: &mut Report,
    count: usize,
    (cpu, memory): (&str, &str),
) -> Result<(), Error> {
    let broker = Broker::start(settings).await?;
    let topic = broker.topic(1, Durability::Interval).await?;
    let before = broker.resident_bytes();
    let mut readers = Vec::with_capacity(count);
    let mut clients = Vec::new();
    for first in (0..count).step_by(PER_CONNECTION) {
        let client = broker.client().await?;
        for number in first..count.min(first + PER_CONNECTION) {
            readers.push(subscribe(&client, &topic, number).await?);
        }
        clients.push(client);
    }
    // All have judged something once.
    publish(&broker, &topic, settings, 1).await?;
    for reader in &mut readers {
        last(reader).await?;
    }
    if let (Some(before), Some(now)) = (before, broker.resident_bytes()) {
        #[expect(clippy::cast_precision_loss, reason = "memory stays far below 2^52")]
        report.sample(memory, now.saturating_sub(before) as f64 / 1_024.0 / count as f64);
    }
    let start = broker.cpu_seconds();
    publish(&broker, &topic, settings, RECORDS).await?;
    for reader in &mut readers {
        last(reader).await?;
    }
    if let (Some(start), Some(end)) = (start, broker.cpu_seconds()) {
        #[expect(clippy::cast_precision_loss, reason = "some millions")]
        report.sample(cpu, (end - start) * 1e9 / (count * RECORDS) as f64);
    }
    drop(readers);
    for client in clients {
        client.close().await;
    }
    broker.forget(topic).await
}

async fn subscribe(client: &Client, topic: &TopicName, number: usize) -> Result<Consumer, Error> {
    let (name, value) = keep_header();
    let config = serde_json::json!({"any": [
        {"header": name, "equals": value}, {"header": "number", "equals": format!("{number}, which nobody has")}
    ]});
    let options = SubscribeOptions::ephemeral(topic.clone())
        .from(StartAt::Latest)
        .with_module("std/headers", config.to_string());
    client.subscribe(options).await.map_err(Error::millstream("subscribe"))
}

/// So many records that nobody keeps, and one that all do.
async fn publish(
    broker: &Broker,
    topic: &TopicName,
    settings: &Settings,
    records: usize,
) -> Result<(), Error> {
    let client = broker.client().await?;
    let publisher = client
        .publisher(topic.clone(), PublishOptions::default())
        .await
        .map_err(Error::millstream("open a publisher"))?;
    let (name, kept) = keep_header();
    let payload = payload::noise(settings.record_bytes, 1);
    for number in 0..=records {
        let value = if number == records { kept } else { "drop" };
        let header = Header { name: name.to_owned(), value: value.into() };
        let record = Record { headers: vec![header], ..Record::new(payload.clone()) };
        drop(publisher.publish(record).await.map_err(Error::millstream("publish"))?);
    }
    publisher.close().await.map_err(Error::millstream("publish"))?;
    client.close().await;
    Ok(())
}

async fn last(reader: &mut Consumer) -> Result<(), Error> {
    match reader.next_message().await {
        Some(message) => message.map(drop).map_err(Error::millstream("consume")),
        None => Err(Error::WrongCount { expected: 1, found: 0 }),
    }
}

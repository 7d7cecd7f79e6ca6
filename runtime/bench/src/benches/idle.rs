//! A broker that has nothing to do.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use millstream_client::{
    Client, DeliveryConfig, Durability, NewSubscription, OnFault, StartAt, SubscriptionName, TopicName,
};
use tokio::task::JoinSet;

use super::say;
use crate::{Error, Report, Settings, report::Goal, subject::Broker};

/// How long a broker rests before its memory is read.
const REST: Duration = Duration::from_secs(2);
/// The first of a kind also pay for what all of them share: so many come before the memory is read.
const WARM_UP: usize = 32;
/// Subscriptions created at the same time.
const CREATE_AT_ONCE: usize = 64;

pub(super) async fn idle(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    if let Some(url) = &settings.broker {
        return Err(Error::Setting {
            setting: "--broker",
            value: url.to_string(),
            why: "an idle broker must be one that the bench starts: leave it out",
        });
    }
    for round in 0..settings.rounds {
        say(settings, round, "an idle broker");
        let broker = sample_start(report, "start_ms", "idle_rss_mib", Broker::start(settings)).await?;
        let broker = sample_start(report, "restart_ms", "restarted_rss_mib", broker.restarted()).await?;
        let client = broker.client().await?;
        let first = connect_many(&broker, WARM_UP).await?;
        let Some(idle) = resident_after_rest(&broker).await else { continue };

        say(settings, round, "idle connections");
        let connections = connect_many(&broker, settings.idle_connections).await?;
        sample_growth(report, "connection_kib", &broker, idle, settings.idle_connections).await;
        for connection in first.into_iter().chain(connections) {
            connection.close().await;
        }

        say(settings, round, "idle subscriptions");
        let topic = broker.topic(1, Durability::Interval).await?;
        subscribe_many(&client, &topic, 0..WARM_UP).await?;
        if let Some(before) = resident_after_rest(&broker).await {
            let numbers = WARM_UP..WARM_UP + settings.idle_subscriptions;
            subscribe_many(&client, &topic, numbers).await?;
            sample_growth(report, "subscription_kib", &broker, before, settings.idle_subscriptions).await;
        }
        client.close().await;
    }
    report.goal("start_ms", Goal::AtMost(500.0));
    report.goal("idle_rss_mib", Goal::AtMost(40.0));
    report.goal("connection_kib", Goal::AtMost(48.0));
    report.goal("subscription_kib", Goal::AtMost(10.0));
    Ok(())
}

/// From starting the process to an answered greeting, and the memory that it then rests with.
async fn sample_start(
    report: &mut Report,
    time_figure: &str,
    memory_figure: &str,
    starting: impl Future<Output = Result<Broker, Error>>,
) -> Result<Broker, Error> {
    let start = Instant::now();
    let broker = starting.await?;
    let client = broker.client().await?;
    report.sample(time_figure, start.elapsed().as_secs_f64() * 1e3);
    client.close().await;
    if let Some(bytes) = resident_after_rest(&broker).await {
        report.sample(memory_figure, bytes / f64::from(1 << 20));
    }
    Ok(broker)
}

#[expect(clippy::cast_precision_loss, reason = "memory sizes stay far below 2^52")]
async fn resident_after_rest(broker: &Broker) -> Option<f64> {
    tokio::time::sleep(REST).await;
    broker.resident_bytes().map(|bytes| bytes as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand things")]
async fn sample_growth(report: &mut Report, figure: &str, broker: &Broker, before: f64, things: usize) {
    if let Some(after) = resident_after_rest(broker).await {
        report.sample(figure, (after - before) / 1_024.0 / things as f64);
    }
}

async fn connect_many(broker: &Broker, count: usize) -> Result<Vec<Client>, Error> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(broker.client().await?);
    }
    Ok(clients)
}

async fn subscribe_many(client: &Client, topic: &TopicName, numbers: Range<usize>) -> Result<(), Error> {
    let mut running = JoinSet::new();
    for number in numbers {
        if running.len() >= CREATE_AT_ONCE
            && let Some(created) = running.join_next().await
        {
            created??;
        }
        running.spawn(create_subscription(client.clone(), topic.clone(), number));
    }
    while let Some(created) = running.join_next().await {
        created??;
    }
    Ok(())
}

async fn create_subscription(client: Client, topic: TopicName, number: usize) -> Result<(), Error> {
    let name: SubscriptionName = format!("bench-idle-{number}")
        .parse()
        .expect("letters, digits and hyphens are a subscription's name");
    let new = NewSubscription {
        name,
        topic: topic.into(),
        from: StartAt::Earliest,
        pipeline: Vec::new(),
        on_fault: OnFault::default(),
        delivery: DeliveryConfig::default(),
    };
    client.create_subscription(new).await.map_err(Error::millstream("create a subscription"))?;
    Ok(())
}

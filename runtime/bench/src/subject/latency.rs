//! From publishing a record to having it, one at a time.

use std::time::{Duration, Instant};

use millstream_client::{PublishOptions, Record, StartAt, SubscribeOptions, TopicName};

use super::Broker;
use crate::{Error, payload, stats::Latencies};

/// Records until the way is warm: the congestion window, the MTU, the caches.
const WARM_UP: usize = 50;

/// Publishes a record, waits until a consumer on another connection has it, and so on.
pub(crate) async fn latency(
    broker: &Broker,
    topic: &TopicName,
    record_bytes: usize,
    duration: Duration,
) -> Result<Latencies, Error> {
    measured(broker, SubscribeOptions::ephemeral(topic.clone()), topic, record_bytes, duration).await
}

/// The same with a stock module in between, which keeps every record.
pub(crate) async fn latency_judged(
    broker: &Broker,
    topic: &TopicName,
    (module, config): (&str, &str),
    record_bytes: usize,
    duration: Duration,
) -> Result<Latencies, Error> {
    let options = SubscribeOptions::ephemeral(topic.clone()).with_module(module, config);
    measured(broker, options, topic, record_bytes, duration).await
}

async fn measured(
    broker: &Broker,
    options: SubscribeOptions,
    topic: &TopicName,
    record_bytes: usize,
    duration: Duration,
) -> Result<Latencies, Error> {
    let (producer, reader) = (broker.client().await?, broker.client().await?);
    let mut consumer =
        reader.subscribe(options.from(StartAt::Latest)).await.map_err(Error::millstream("subscribe"))?;
    let publisher = producer
        .publisher(topic.clone(), PublishOptions::default())
        .await
        .map_err(Error::millstream("open a publisher"))?;
    let payload = payload::noise(record_bytes, 1);
    let mut latencies = Latencies::default();
    let mut warm_up = WARM_UP;
    let start = Instant::now();
    while start.elapsed() < duration {
        let sent = Instant::now();
        let receipt =
            publisher.publish(Record::new(payload.clone())).await.map_err(Error::millstream("publish"))?;
        let message = match consumer.next_message().await {
            Some(message) => message.map_err(Error::millstream("consume"))?,
            None => return Err(Error::WrongCount { expected: 1, found: 0 }),
        };
        let took = sent.elapsed();
        let expected = receipt.await.map_err(Error::millstream("publish"))?.offset;
        if message.offset() != expected {
            return Err(Error::WrongRecord { expected, found: message.offset() });
        }
        if warm_up > 0 {
            warm_up -= 1;
        } else {
            latencies.record(took);
        }
    }
    producer.close().await;
    reader.close().await;
    Ok(latencies)
}

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
    let (producer, reader) = (broker.client().await?, broker.client().await?);
    let mut consumer = reader
        .subscribe(SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Latest))
        .await
        .map_err(Error::millstream("subscribe"))?;
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

//! Workers that share a topic's records and settle them one by one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use millstream_client::{
    DeadLetters, DeliveryConfig, DeliveryMode, SubscriptionName, TopicName, WorkOptions,
};
use tokio::task::JoinSet;

use super::{Broker, Passed};
use crate::Error;

/// Has `workers`, each with a connection of its own, acknowledge all `stored` records of a topic one by one, from
/// joining to the last ack stored.
pub(crate) async fn work(
    broker: &Broker,
    topic: &TopicName,
    name: SubscriptionName,
    mode: DeliveryMode,
    workers: usize,
    stored: u64,
) -> Result<Passed, Error> {
    let start = Instant::now();
    let acked = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for _ in 0..workers {
        let client = broker.client().await?;
        let delivery = DeliveryConfig { dead_letters: DeadLetters::Off, ..DeliveryConfig::of(mode) };
        let options = WorkOptions::new(topic.clone(), name.clone()).delivery(delivery).records(10_000);
        let mut worker = client.work(options).await.map_err(Error::millstream("work"))?;
        let acked = Arc::clone(&acked);
        running.spawn(async move {
            while let Some(message) = worker.next_message().await {
                worker.ack(&message.map_err(Error::millstream("work"))?);
                if acked.fetch_add(1, Ordering::Relaxed) + 1 >= stored {
                    break;
                }
            }
            worker.close().await.map_err(Error::millstream("settle"))
        });
    }
    // The one that takes the last record ends; the others have nothing left and are ended.
    while let Some(ended) = running.join_next().await {
        ended??;
        if acked.load(Ordering::Relaxed) >= stored {
            break;
        }
    }
    let client = broker.client().await?;
    loop {
        let info = client.describe_subscription(name.clone()).await.map_err(Error::millstream("describe"))?;
        if info.positions.iter().all(|at| at.settled == at.latest) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let took = start.elapsed();
    running.shutdown().await;
    client.delete_subscription(name).await.map_err(Error::millstream("delete"))?;
    client.close().await;
    Ok(Passed { records: stored, took })
}

//! Producers at work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use millstream_client::{Client, Header, PublishOptions, Record, TopicName};
use tokio::task::JoinSet;

use super::Broker;
use crate::{Error, payload, stats};

/// How much is published.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Amount {
    For(Duration),
    Records(u64),
}

/// What producers do.
#[derive(Debug, Clone)]
pub(crate) struct Producers {
    /// Each with a connection of its own.
    pub(crate) count: usize,
    pub(crate) record_bytes: usize,
    /// One record in so many has the header value that filters keep; without it, records have no headers.
    pub(crate) keep_one_in: Option<u64>,
    pub(crate) options: PublishOptions,
}

/// What was stored, each record answered as durable as its topic asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) records: u64,
    pub(crate) record_bytes: usize,
    pub(crate) took: Duration,
}

impl Published {
    pub(crate) fn bytes(&self) -> u64 {
        self.records * self.record_bytes as u64
    }

    pub(crate) fn mb_per_s(&self) -> f64 {
        stats::mb_per_s(self.bytes(), self.took)
    }

    pub(crate) fn records_per_s(&self) -> f64 {
        stats::per_s(self.records, self.took)
    }
}

/// Name and value of the header that filters keep.
pub(crate) fn keep_header() -> (&'static str, &'static str) {
    ("kind", "keep")
}

/// Runs the producers until `amount` is published and every receipt is there.
pub(crate) async fn publish(
    broker: &Broker,
    topic: &TopicName,
    producers: &Producers,
    amount: Amount,
) -> Result<Published, Error> {
    let shares = Share::of(amount, producers.count);
    let mut clients = Vec::new();
    for _ in 0..producers.count {
        clients.push(broker.client().await?);
    }
    let maker = Arc::new(Maker::new(producers));
    let mut running = JoinSet::new();
    let start = Instant::now();
    for (client, share) in clients.into_iter().zip(shares) {
        let (topic, options, maker) = (topic.clone(), producers.options.clone(), Arc::clone(&maker));
        running.spawn(produce(client, topic, options, maker, share, start));
    }
    let mut records = 0;
    while let Some(produced) = running.join_next().await {
        records += produced??;
    }
    Ok(Published { records, record_bytes: producers.record_bytes, took: start.elapsed() })
}

/// The part of one producer.
#[derive(Debug, Clone, Copy)]
struct Share {
    first: u64,
    end: u64,
    duration: Duration,
}

impl Share {
    fn of(amount: Amount, count: usize) -> Vec<Self> {
        let count = count as u64;
        match amount {
            Amount::For(duration) => (0..count).map(|_| Self { first: 0, end: u64::MAX, duration }).collect(),
            Amount::Records(records) => (0..count)
                .map(|index| Self {
                    first: records * index / count,
                    end: records * (index + 1) / count,
                    duration: Duration::MAX,
                })
                .collect(),
        }
    }
}

/// Records taken between two looks at the clock.
const CLOCK_EVERY: u64 = 16;

async fn produce(
    client: Client,
    topic: TopicName,
    options: PublishOptions,
    maker: Arc<Maker>,
    share: Share,
    start: Instant,
) -> Result<u64, Error> {
    let publisher = client.publisher(topic, options).await.map_err(Error::millstream("open a publisher"))?;
    let mut next = share.first;
    while next < share.end && start.elapsed() < share.duration {
        let until = share.end.min(next + CLOCK_EVERY);
        for number in next..until {
            // Closing tells whether all of them were stored.
            drop(publisher.publish(maker.record(number)).await.map_err(Error::millstream("publish"))?);
        }
        next = until;
    }
    publisher.close().await.map_err(Error::millstream("publish"))?;
    client.close().await;
    Ok(next - share.first)
}

/// Makes records; all share their payload's memory, which is copied into batches by the client.
#[derive(Debug)]
struct Maker {
    payload: Bytes,
    keep: Option<(u64, [Vec<Header>; 2])>,
}

impl Maker {
    fn new(producers: &Producers) -> Self {
        let (name, kept) = keep_header();
        let headers = |value: &'static str| {
            vec![
                Header { name: name.to_owned(), value: Bytes::from_static(value.as_bytes()) },
                Header { name: "source".to_owned(), value: Bytes::from_static(b"bench") },
            ]
        };
        Self {
            payload: payload::noise(producers.record_bytes, 1),
            keep: producers.keep_one_in.map(|one_in| (one_in, [headers(kept), headers("drop")])),
        }
    }

    fn record(&self, number: u64) -> Record {
        let mut record = Record::new(self.payload.clone());
        if let Some((one_in, [kept, dropped])) = &self.keep {
            record.headers.clone_from(if number.is_multiple_of(*one_in) { kept } else { dropped });
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_records_once() {
        let shares = Share::of(Amount::Records(10), 3);
        let ranges: Vec<_> = shares.iter().map(|share| (share.first, share.end)).collect();
        assert_eq!(ranges, [(0, 3), (3, 6), (6, 10)]);
    }

    #[test]
    fn one_record_in_so_many_is_kept() {
        let producers = Producers {
            count: 1,
            record_bytes: 8,
            keep_one_in: Some(10),
            options: PublishOptions::default(),
        };
        let maker = Maker::new(&producers);
        let (name, value) = keep_header();
        let kept = (0..100).filter(|&n| maker.record(n).header(name) == Some(value.as_bytes())).count();
        assert_eq!(kept, 10);
        assert!(maker.record(3).header(name).is_some());
    }
}

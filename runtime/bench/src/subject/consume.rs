//! A consumer that reads a topic from its beginning to its end, again and again.

use std::time::{Duration, Instant};

use millstream_client::{StartAt, SubscribeOptions, TopicName};

use super::{Broker, publish::keep_header};
use crate::{Error, stats};

/// What a consumer does with the records of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Takes all.
    All,
    /// Takes all, and looks at each record's header itself.
    FilteredByClient,
    /// Has `std/headers` in the broker, with this configuration.
    FilteredByBroker(String),
}

/// What went by: delivered or dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    pub(crate) records: u64,
    pub(crate) took: Duration,
}

impl Passed {
    pub(crate) fn records_per_s(&self) -> f64 {
        stats::per_s(self.records, self.took)
    }
}

/// Reads a topic of `stored` records from its beginning to its end. Passes are repeated until `duration` is over; each must deliver exactly `kept` records.
pub(crate) async fn consume(
    broker: &Broker,
    topic: &TopicName,
    pass: &Pass,
    stored: u64,
    kept: u64,
    duration: Duration,
) -> Result<Passed, Error> {
    let client = broker.client().await?;
    let mut records = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        let mut options = SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest).until_end();
        if let Pass::FilteredByBroker(config) = pass {
            options = options.with_module("std/headers", config);
        }
        let found = one_pass(&client, options, pass).await?;
        if found != kept {
            return Err(Error::WrongCount { expected: kept, found });
        }
        records += stored;
    }
    let took = start.elapsed();
    client.close().await;
    Ok(Passed { records, took })
}

async fn one_pass(
    client: &millstream_client::Client,
    options: SubscribeOptions,
    pass: &Pass,
) -> Result<u64, Error> {
    let (name, value) = keep_header();
    let mut consumer = client.subscribe(options).await.map_err(Error::millstream("subscribe"))?;
    let mut found = 0;
    while let Some(delivery) = consumer.next_batch().await {
        let delivery = delivery.map_err(Error::millstream("consume"))?;
        let view = delivery.batch.view();
        found += match pass {
            Pass::All | Pass::FilteredByBroker(_) => view.len(),
            Pass::FilteredByClient => {
                view.records().filter(|record| record.header(name) == Some(value.as_bytes())).count()
            }
        } as u64;
    }
    Ok(found)
}

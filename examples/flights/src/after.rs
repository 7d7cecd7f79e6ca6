//! How everything stands, to be compared before and after the kill; and the full reading afterwards.

use std::collections::BTreeMap;

use millstream_client::{Client, TopicName};
use serde::Serialize;

use crate::{
    Error,
    flights::Flights,
    reading::read_topic,
    report::Report,
    subscriptions::{CARRIER_TOPICS, Plan},
};

/// How everything stands: per partition, the offset that comes next.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    pub(crate) topics: BTreeMap<String, Vec<u64>>,
    /// Settled positions.
    pub(crate) subscriptions: BTreeMap<String, Vec<u64>>,
}

impl Standing {
    /// As it is now, but for `left_out`, which are written to.
    pub(crate) async fn read(client: &Client, plans: &[Plan], left_out: &[&str]) -> Result<Self, Error> {
        let mut topics = BTreeMap::new();
        let all = client.list_topics().await?.into_iter();
        for topic in all.filter(|topic| !left_out.contains(&topic.name.as_str())) {
            let topic = client.describe_topic(topic.name).await?;
            topics.insert(topic.name.to_string(), topic.offsets.iter().map(|one| one.latest).collect());
        }
        let mut subscriptions = BTreeMap::new();
        for plan in plans {
            let name = plan.name.parse().expect("the names of the plans are good");
            let info = client.describe_subscription(name).await?;
            subscriptions.insert(plan.name.to_owned(), info.positions.iter().map(|at| at.settled).collect());
        }
        Ok(Self { topics, subscriptions })
    }

    /// Records of a topic.
    pub(crate) fn records(&self, topic: &str) -> u64 {
        self.topics.get(topic).map_or(0, |partitions| partitions.iter().sum())
    }
}

/// Reads the source and the topics of the router in full, and compares each with the CSV file.
pub(crate) async fn compare_contents(
    client: &Client,
    topic: &TopicName,
    flights: &Flights,
    report: &mut Report,
) -> Result<(), Error> {
    let lanes = read_topic(client, topic).await?;
    report.check(
        "flights read again",
        flights.rows.len(),
        lanes.iter().map(|lane| lane.records).sum::<u64>(),
    );
    for (index, lane) in lanes.iter().enumerate() {
        let expected = flights.checksum(|carrier| lane.keys.contains(carrier));
        report.check(format!("checksum of flights, partition {index}"), expected, &lane.checksum);
    }
    for (carrier, records) in flights.carriers() {
        let name = format!("{CARRIER_TOPICS}{carrier}");
        let sink = name.parse().expect("carriers are two letters or digits");
        let lanes = read_topic(client, &sink).await?;
        report.check(
            format!("records of {name}"),
            records,
            lanes.iter().map(|lane| lane.records).sum::<u64>(),
        );
        let found: Vec<_> = lanes.into_iter().map(|lane| lane.checksum).collect();
        report.check(format!("checksum of {name}"), flights.checksum(|one| one == carrier), found.join(" "));
    }
    Ok(())
}

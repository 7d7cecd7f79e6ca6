//! Reading through the client: the four subscriptions side by side, and whole topics for comparison.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use millstream_client::{Client, Consumer, Event, SubscribeOptions, SubscriptionInfo, TopicName};

use crate::{Error, flights::Checksum, subscriptions::Plan};

/// What a subscription brought.
pub(crate) struct Brought {
    /// Records that reached the reader.
    pub(crate) records: u64,
    /// The broker's view afterwards.
    pub(crate) info: SubscriptionInfo,
}

/// Reads every subscription to the end, all at once, and acknowledges everything.
pub(crate) async fn consume(
    client: &Client,
    topic: &TopicName,
    plans: &[Plan],
) -> Result<Vec<Brought>, Error> {
    // Draws nothing unless standard error is a terminal.
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20));
    let brought = plans.iter().map(|plan| {
        let bar = bars.add(ProgressBar::new(0)).with_prefix(plan.name);
        bar.set_style(style());
        consume_one(client, topic, plan, bar)
    });
    try_join_all(brought).await
}

async fn consume_one(
    client: &Client,
    topic: &TopicName,
    plan: &Plan,
    bar: ProgressBar,
) -> Result<Brought, Error> {
    let name = plan.name.parse().expect("the names of the plans are good");
    let mut consumer = client.subscribe(SubscribeOptions::durable(topic.clone(), name).until_end()).await?;
    let (start, end) =
        (consumer.start().iter()).fold((0, 0), |(start, end), span| (start + span.next, end + span.end));
    bar.set_length(end - start);
    let mut records = 0;
    while let Some(event) = consumer.next_event().await {
        if let Event::Batch(delivery) = event? {
            records += delivery.batch.view().len() as u64;
            consumer.ack_through(&delivery.place, delivery.next);
        }
        bar.set_position(consumer.positions().values().sum::<u64>() - start);
        bar.set_message(format!("{records} records"));
    }
    let name = consumer.name().clone();
    consumer.close().await?;
    bar.finish();
    Ok(Brought { records, info: client.describe_subscription(name).await? })
}

fn style() -> ProgressStyle {
    let template = "  {prefix:<14} {wide_bar:.cyan/dim} {pos}/{len} scanned, {msg} {elapsed}";
    ProgressStyle::with_template(template).expect("the template above is well formed")
}

/// A partition, read from its start.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) records: u64,
    /// Keys of its records.
    pub(crate) keys: BTreeSet<String>,
    pub(crate) checksum: String,
}

/// Reads all of a topic: one lane for each partition.
pub(crate) async fn read_topic(client: &Client, topic: &TopicName) -> Result<Vec<Lane>, Error> {
    let mut consumer = whole(client, topic).await?;
    let mut lanes: Vec<_> = consumer.start().iter().map(|_| (Lane::default(), Checksum::default())).collect();
    while let Some(delivery) = consumer.next_batch().await {
        let delivery = delivery?;
        let Some((lane, checksum)) = lanes.get_mut(delivery.place.partition() as usize) else { continue };
        for record in delivery.batch.view().records() {
            lane.records += 1;
            checksum.add(record.payload.unwrap_or_default());
            let key = String::from_utf8_lossy(record.key.unwrap_or_default());
            if !lane.keys.contains(&*key) {
                lane.keys.insert(key.into_owned());
            }
        }
    }
    consumer.close().await?;
    Ok(lanes.into_iter().map(|(lane, checksum)| Lane { checksum: checksum.finish(), ..lane }).collect())
}

/// A reader of all that a topic holds now, which leaves nothing behind.
pub(crate) async fn whole(client: &Client, topic: &TopicName) -> Result<Consumer, Error> {
    Ok(client.subscribe(SubscribeOptions::ephemeral(topic.clone()).until_end()).await?)
}

//! SIGKILL under load: what was acknowledged is there, each offset once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use millstream_client::{
    Client, ConnectOptions, Durability, PublishOptions, Reconnect, Record, StartAt, SubscribeOptions,
    TopicConfig, TopicName,
};
use millstream_tests::{Binary, read_all, soak, soon};

const PARTITIONS: u32 = 3;

/// Partition and offset of each acknowledged record, and what it held.
type Acknowledged = BTreeMap<(u32, u64), String>;

async fn connect(broker: &Binary) -> Client {
    // A broker that was killed is not waited for.
    let reconnect = Reconnect { give_up_after: Some(std::time::Duration::ZERO), ..Reconnect::default() };
    let options = ConnectOptions { reconnect, ..ConnectOptions::default() };
    soon("a connection", Client::connect(&broker.url().parse().unwrap(), options)).await.unwrap()
}

/// Publishes until `enough` receipts came, kills the broker with more on the way, and notes every receipt there is; how many
/// records it may have published.
async fn publish_and_kill(
    broker: Binary,
    topic: &TopicName,
    round: usize,
    enough: usize,
    acknowledged: &mut Acknowledged,
) -> u64 {
    let client = connect(&broker).await;
    let options = PublishOptions { batch_bytes: 2_000, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    let (pending, mut receipts) = tokio::sync::mpsc::channel(5_000);
    let producing = tokio::spawn(async move {
        for n in 0u64.. {
            let payload = format!("{round}/{n}");
            let Ok(receipt) = publisher.publish(Record::new(payload.clone()).with_key(format!("{n}"))).await
            else {
                return n;
            };
            if pending.send((payload, receipt)).await.is_err() {
                return n + 1;
            }
        }
        0
    });
    let (mut broker, mut received) = (Some(broker), 0);
    while let Some((payload, receipt)) = soon("a record on its way", receipts.recv()).await {
        let Ok(receipt) = soon("a receipt or an error", receipt).await else { continue };
        let before = acknowledged.insert((receipt.partition, receipt.offset), payload);
        assert_eq!(before, None, "an offset was given twice: {receipt:?}");
        received += 1;
        if received == enough
            && let Some(broker) = broker.take()
        {
            broker.kill();
            // Nobody tells a client that its broker is gone; what has come until now is what was acknowledged.
            client.clone().close().await;
        }
    }
    assert!(received >= enough, "only {received} receipts");
    producing.await.unwrap()
}

/// `published` has for each round how many records it may have published.
async fn check(broker: &Binary, topic: &TopicName, acknowledged: &Acknowledged, published: &[u64]) {
    let client = connect(broker).await;
    let found = read_all(&client, SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest)).await;
    for partition in 0..PARTITIONS {
        let offsets: Vec<_> =
            found.iter().filter(|record| record.0 == partition).map(|record| record.1).collect();
        assert!(
            offsets.iter().copied().eq(0..offsets.len() as u64),
            "offsets of partition {partition} have holes"
        );
    }
    let mut seen = BTreeSet::new();
    for (partition, offset, payload) in &found {
        let (round, n) = payload.split_once('/').unwrap();
        let (round, n): (usize, u64) = (round.parse().unwrap(), n.parse().unwrap());
        assert!(published.get(round).is_some_and(|many| n < *many), "{payload} was never published");
        assert!(seen.insert((round, n)), "{payload} is there twice, at {offset} of partition {partition}");
    }
    let found: BTreeMap<_, _> =
        found.into_iter().map(|(partition, offset, payload)| ((partition, offset), payload)).collect();
    for (place, payload) in acknowledged {
        assert_eq!(found.get(place), Some(payload), "acknowledged and not there: {place:?}");
    }
}

async fn rounds(dir: &Path, durability: Durability) {
    let topic: TopicName = "t".parse().unwrap();
    let (mut acknowledged, mut published) = (Acknowledged::new(), Vec::new());
    for round in 0..soak(6, 60) {
        let broker = Binary::serve(dir);
        let client = connect(&broker).await;
        client
            .create_topic(
                topic.clone(),
                TopicConfig { partitions: PARTITIONS, durability, ..TopicConfig::default() },
            )
            .await
            .unwrap();
        check(&broker, &topic, &acknowledged, &published).await;
        // Somewhere else each time: after the first receipts, in the middle of much.
        let enough = 1 + (round % 6).pow(2) * 400;
        published.push(publish_and_kill(broker, &topic, round, enough, &mut acknowledged).await);
    }
    check(&Binary::serve(dir), &topic, &acknowledged, &published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_sync() {
    let dir = tempfile::tempdir().unwrap();
    rounds(dir.path(), Durability::Sync).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_interval() {
    // The end of a process is not that of the machine: what the system has is there.
    let dir = tempfile::tempdir().unwrap();
    rounds(dir.path(), Durability::Interval).await;
}

/// A client that waits for a broker which was killed, and a topic.
async fn lasting_client(broker: &Binary, durability: Durability) -> (Client, TopicName) {
    let client = Client::connect(&broker.url().parse().unwrap(), ConnectOptions::default()).await.unwrap();
    let topic: TopicName = "t".parse().unwrap();
    client
        .create_topic(
            topic.clone(),
            TopicConfig { partitions: PARTITIONS, durability, ..TopicConfig::default() },
        )
        .await
        .unwrap();
    (client, topic)
}

/// One publisher lives through several brokers on the same directory: what had no receipt goes again, and is not stored
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_is_stored_once_over_kills() {
    const RECORDS: usize = 20_000;
    const KEYS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Binary::serve(dir.path());
    let address = broker.address().to_owned();
    let (client, topic) = lasting_client(&broker, Durability::Sync).await;
    // Small batches, so that many are on the way at each kill, more than the broker remembers the places of.
    let options = PublishOptions { batch_bytes: 300, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    let (pending, mut receipts) = tokio::sync::mpsc::channel(RECORDS);
    let producing = tokio::spawn(async move {
        for n in 0..RECORDS {
            let record = Record::new(n.to_string()).with_key(format!("{}", n % KEYS));
            pending.send((n, publisher.publish(record).await.unwrap())).await.unwrap();
        }
    });
    let mut stored = BTreeMap::new();
    while let Some((n, receipt)) = receipts.recv().await {
        let receipt = soon("a receipt, over all kills", receipt).await.unwrap();
        assert_eq!(stored.insert((receipt.partition, receipt.offset), n), None, "an offset was given twice");
        if stored.len() % (RECORDS / 6) == 50 {
            broker.kill();
            broker = Binary::serve_at(dir.path(), &address);
        }
    }
    producing.await.unwrap();
    let client = connect(&broker).await;
    let found = read_all(&client, SubscribeOptions::ephemeral(topic).from(StartAt::Earliest)).await;
    let found: BTreeMap<_, usize> = found
        .into_iter()
        .map(|(partition, offset, payload)| ((partition, offset), payload.parse().unwrap()))
        .collect();
    assert_eq!(found, stored, "each once, where its receipt says");
    for key in 0..KEYS {
        let of_key: Vec<_> = found.values().filter(|n| **n % KEYS == key).collect();
        assert!(of_key.is_sorted(), "key {key} lost its order");
    }
}

/// What was acknowledged and not yet stored goes again, but no further than the new stream has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_reader_with_a_backlog_goes_on_over_kills() {
    const RECORDS: usize = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Binary::serve(dir.path());
    let address = broker.address().to_owned();
    let (client, topic) = lasting_client(&broker, Durability::Interval).await;
    let options = PublishOptions { batch_bytes: 5_000, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    for n in 0..RECORDS {
        let record = Record::new(n.to_string()).with_key(n.to_string()).with_header("h", "x");
        drop(publisher.publish(record).await.unwrap());
    }
    publisher.close().await.unwrap();
    for module in [None, Some("std/headers")] {
        let name = format!("s{}", module.is_some());
        let mut options = SubscribeOptions::durable(topic.clone(), name.parse().unwrap()).until_end();
        // Far less than there is, so that a backlog is left at each kill.
        options.credit_bytes = 100_000;
        if let Some(module) = module {
            options = options.with_module(module, r#"{"header": "h", "exists": true}"#);
        }
        let mut consumer = client.subscribe(options).await.unwrap();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(message) = soon("a record, over all kills", consumer.next_message()).await {
            let message = message.unwrap();
            let place = (message.partition(), message.offset());
            assert!(seen.insert(place), "{place:?} came twice to one reader");
            consumer.ack(&message);
            if seen.len() % (RECORDS / 4) == 5_000 {
                broker.kill();
                broker = Binary::serve_at(dir.path(), &address);
            }
        }
        assert_eq!(seen.len(), RECORDS);
        soon("the acks to be stored", consumer.close()).await.unwrap();
        let info = client.describe_subscription(name.parse().unwrap()).await.unwrap();
        assert!(info.positions.iter().all(|position| position.settled == position.latest), "{info:?}");
    }
}

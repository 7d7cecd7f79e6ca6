//! Compacted topics: who reads from the beginning gets the newest record of each key, and nobody waits for what is gone.

use std::{collections::BTreeMap, time::Duration};

use millstream_client::{
    Client, Compaction, Compression, DeliveryConfig, DeliveryMode, Durability, PublishOptions, Record,
    Settled, StartAt, SubscribeOptions, SubscriptionName, TopicChange, TopicConfig, TopicInfo, TopicName,
    WorkOptions,
};
use millstream_tests::{TestServer, soon};

const KEYS: usize = 50;

async fn start() -> TestServer {
    TestServer::start_with(|config| config.broker.retention_interval = Duration::from_millis(5)).await
}

async fn create(client: &Client, partitions: u32, enabled: bool) -> TopicName {
    let topic: TopicName = "t".parse().unwrap();
    let compaction = Compaction { enabled, ..Compaction::default() };
    let config =
        TopicConfig { partitions, compaction, durability: Durability::Interval, ..TopicConfig::default() };
    client.create_topic(topic.clone(), config).await.unwrap();
    topic
}

async fn compact(client: &Client, topic: &TopicName) {
    client.update_topic(topic.clone(), vec![TopicChange::Compact(true)]).await.unwrap();
}

/// So many records, one after the other over the keys, in small batches.
async fn publish(
    client: &Client,
    topic: &TopicName,
    numbers: std::ops::Range<usize>,
    compression: Compression,
) {
    let options = PublishOptions { batch_bytes: 2_000, compression, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    for n in numbers {
        let record = Record::new(format!("{n} {}", "x".repeat(100))).with_key(format!("k{}", n % KEYS));
        drop(publisher.publish(record).await.unwrap());
    }
    soon("the receipts", publisher.close()).await.unwrap();
}

async fn until(client: &Client, topic: &TopicName, holds: impl Fn(&TopicInfo) -> bool) -> TopicInfo {
    soon("compaction", async {
        loop {
            let info = client.describe_topic(topic.clone()).await.unwrap();
            if holds(&info) {
                return info;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// The newest number of each key that a reader from the beginning is left with, and how many records it was given.
async fn table(client: &Client, topic: &TopicName) -> (BTreeMap<String, usize>, usize) {
    let options = SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest).until_end();
    let mut consumer = client.subscribe(options).await.unwrap();
    let (mut table, mut records, mut next) = (BTreeMap::new(), 0, BTreeMap::new());
    while let Some(message) = soon("a record or the end", consumer.next_message()).await {
        let message = message.unwrap();
        let next: &mut u64 = next.entry(message.partition()).or_default();
        assert!(message.offset() >= *next, "offsets run backwards");
        *next = message.offset() + 1;
        records += 1;
        let key = String::from_utf8_lossy(message.key().unwrap()).into_owned();
        match message.payload() {
            Some(payload) => {
                let text = String::from_utf8_lossy(payload).into_owned();
                table.insert(key, text.split(' ').next().unwrap().parse().unwrap());
            }
            None => drop(table.remove(&key)),
        }
    }
    (table, records)
}

fn newest(records: usize) -> BTreeMap<String, usize> {
    (records - KEYS..records).map(|n| (format!("k{}", n % KEYS), n)).collect()
}

#[tokio::test]
async fn a_reader_from_the_beginning_gets_the_newest_of_each_key() {
    let server = start().await;
    let client = server.client().await;
    let topic = create(&client, 2, true).await;
    for (turn, compression) in
        [Compression::None, Compression::Lz4, Compression::Zstd].into_iter().enumerate()
    {
        publish(&client, &topic, turn * 5_000..(turn + 1) * 5_000, compression).await;
    }
    // Of each partition the newest batch stays, and up to half of what is kept may wait for the next pass.
    let info = until(&client, &topic, |info| info.records < 400).await;
    assert_eq!(info.offsets.iter().map(|partition| partition.latest).sum::<u64>(), 15_000);
    assert_eq!(info.offsets.iter().map(|partition| partition.records).sum::<u64>(), info.records);
    assert!(info.offsets.iter().all(|partition| partition.earliest == 0), "{info:?}");
    let (found, records) = table(&client, &topic).await;
    assert_eq!(found, newest(15_000));
    assert!(records < 400, "{records}");

    // A restart changes nothing; then keys are deleted.
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    assert_eq!(table(&client, &topic).await.0, newest(15_000));
    client.update_topic(topic.clone(), vec![TopicChange::TombstonesMs(0)]).await.unwrap();
    let publisher = client.publisher(topic.clone(), PublishOptions::default()).await.unwrap();
    for key in 0..KEYS - 1 {
        drop(publisher.publish(Record::default().with_key(format!("k{key}"))).await.unwrap());
    }
    soon("the receipts", publisher.close()).await.unwrap();
    assert_eq!(table(&client, &topic).await.0.len(), 1);
    publish(&client, &topic, 15_000 - 1..15_000, Compression::None).await;
    // More of the other key, for the tombstones to be in batches that are not the newest.
    for _ in 0..3 {
        let publisher = client.publisher(topic.clone(), PublishOptions::default()).await.unwrap();
        for partition in 0..2 {
            let last = Record::new("14999 again").with_key(format!("k{}", KEYS - 1));
            drop(publisher.publish_to(partition, last).await.unwrap());
        }
        soon("the receipts", publisher.close()).await.unwrap();
    }
    until(&client, &topic, |info| info.records < 10).await;
    assert_eq!(table(&client, &topic).await.0, BTreeMap::from([(format!("k{}", KEYS - 1), 14_999)]));
    assert_eq!(info.config.compaction.tombstones_ms, 24 * 3_600_000);
}

/// A durable stream that reads along while batches are replaced under it: it sees each key's newest in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_along_is_left_with_the_newest_as_well() {
    const RECORDS: usize = 30_000;
    let server = start().await;
    let client = server.client().await;
    let topic = create(&client, 1, true).await;
    let name: SubscriptionName = "slow".parse().unwrap();
    let mut consumer =
        client.subscribe(SubscribeOptions::durable(topic.clone(), name.clone())).await.unwrap();
    let (publishing, of) = (client.clone(), topic.clone());
    let published =
        tokio::spawn(async move { publish(&publishing, &of, 0..RECORDS, Compression::Lz4).await });
    let (mut table, mut next, mut given) = (BTreeMap::new(), 0, 0);
    while next < RECORDS as u64 {
        let message = soon("a record", consumer.next_message()).await.unwrap().unwrap();
        assert!(message.offset() >= next, "offsets run backwards");
        next = message.offset() + 1;
        given += 1;
        let text = String::from_utf8_lossy(message.payload().unwrap()).into_owned();
        let number: usize = text.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(number as u64, message.offset(), "a record has changed");
        table.insert(String::from_utf8_lossy(message.key().unwrap()).into_owned(), number);
        consumer.ack(&message);
        if given % 200 == 0 {
            // Slow enough for batches to be replaced before it comes to them.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    published.await.unwrap();
    assert_eq!(table, newest(RECORDS));
    consumer.close().await.unwrap();
    until(&client, &topic, |info| info.records < 1_000).await;
    let info = client.describe_subscription(name).await.unwrap();
    assert_eq!((info.pending, info.unscanned, info.counters.missed), (0, 0, 0), "{info:?}");
}

/// Records that are leased, or wait for their next try, when a newer one of their key makes them go.
#[tokio::test]
async fn workers_do_not_wait_for_what_is_gone() {
    for mode in [DeliveryMode::Shared, DeliveryMode::KeyShared, DeliveryMode::Failover] {
        let server = start().await;
        let client = server.client().await;
        let topic = create(&client, 1, false).await;
        publish(&client, &topic, 0..1_000, Compression::None).await;
        let name: SubscriptionName = "jobs".parse().unwrap();
        let delivery = DeliveryConfig { backoff_ms: vec![1_500], tries: 3, ..DeliveryConfig::of(mode) };
        let options = WorkOptions::new(topic.clone(), name.clone()).delivery(delivery);
        let mut worker = soon("a worker", client.work(options.clone())).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..if mode == DeliveryMode::Failover { 1 } else { 40 } {
            held.push(soon("a message", worker.next_message()).await.unwrap().unwrap());
        }
        // Some wait, some are still held.
        let later = held.split_off(held.len() / 2);
        for message in later {
            worker.nack(&message, "not now");
        }
        compact(&client, &topic).await;
        publish(&client, &topic, 1_000..2_000, Compression::None).await;
        until(&client, &topic, |info| info.records < 200).await;
        let held_ones: Vec<_> = held.iter().map(|message| message.offset()).collect();
        for message in held {
            // Its lease is as good as before.
            assert_eq!(soon("an answer", worker.ack_confirmed(&message)).await, Settled::Done);
        }
        // What is left of all: the newest of each key, and what was granted before.
        let mut newest = BTreeMap::new();
        loop {
            let info = client.describe_subscription(name.clone()).await.unwrap();
            if info.pending == 0 && info.unscanned == 0 {
                assert_eq!(info.counters.missed, 0, "{info:?}");
                break;
            }
            let Ok(message) = tokio::time::timeout(Duration::from_millis(200), worker.next_message()).await
            else {
                continue;
            };
            let message = message.unwrap().unwrap();
            assert!(!held_ones.contains(&message.offset()), "it was acknowledged");
            let text = String::from_utf8_lossy(message.payload().unwrap()).into_owned();
            let number: usize = text.split(' ').next().unwrap().parse().unwrap();
            let known = newest.entry(number % KEYS).or_insert(number);
            *known = number.max(*known);
            worker.ack(&message);
        }
        let expected: BTreeMap<_, _> = (1_950..2_000).map(|n| (n % KEYS, n)).collect();
        assert_eq!(newest, expected, "{mode:?}");
    }
}

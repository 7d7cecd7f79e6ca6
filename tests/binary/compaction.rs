//! Compacted topics, from the command line to the disk, and over kills.

use std::collections::BTreeMap;

use millstream_client::{
    Client, Compaction, ConnectOptions, PublishOptions, Reconnect, Record, StartAt, SubscribeOptions,
    TopicConfig, TopicName,
};
use millstream_tests::{Binary, Rng, Seed, soak, soon};
use serde_json::{Value, json};

use crate::retention::{describe, disk_bytes, serve, wait_until};

const MIB: u64 = 1 << 20;

#[test]
fn settings_are_given_shown_and_changed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = serve(dir.path());
    let compaction = |topic: &str| describe(&broker, "topic", topic)["compaction"].clone();
    let created = broker.run(["topic", "create", "t", "--compact", "--tombstones-for", "1h"]).ok();
    assert!(created.contains("keeps the newest record of each key, tombstones for 1h"), "{created}");
    assert_eq!(compaction("t"), json!({ "enabled": true, "tombstones_ms": 3_600_000 }));
    let updated = broker.run(["topic", "update", "t", "--compact=off", "--retention-bytes", "1GiB"]).ok();
    assert!(updated.contains("keeps 1.00 GiB"), "{updated}");
    assert_eq!(compaction("t"), json!({ "enabled": false, "tombstones_ms": 3_600_000 }));
    broker.run(["topic", "update", "t", "--compact=on", "--tombstones-for", "0s"]).ok();
    let both = broker.run(["topic", "describe", "t"]).ok();
    assert!(
        both.contains("keeps       the newest record of each key, tombstones for 0s; 1.00 GiB"),
        "{both}"
    );
    broker.run(["topic", "create", "plain"]).ok();
    assert_eq!(compaction("plain"), json!({ "enabled": false, "tombstones_ms": 86_400_000 }));

    for (arguments, said) in [
        (&["topic", "create", "u", "--compact=maybe"][..], "'maybe'"),
        (&["topic", "update", "t", "--tombstones-for", "soon"], "'soon'"),
        (&["topic", "update", "t"], "--compact"),
        (&["publish", "t", "--format", "ndjson", "--tombstones"], "--key"),
    ] {
        let error = broker.run_with(arguments, "{}\n").fails(2);
        assert!(error.contains(said), "{error}");
    }
    let error = broker
        .run_with(["publish", "t", "--format", "ndjson", "--tombstones", "--key", "id"], "{}\n")
        .fails(1);
    assert!(error.contains("line 1: it has no field \"id\""), "{error}");
}

/// What a reader from the beginning is given: keys and payloads, in order.
fn read(broker: &Binary, topic: &str) -> Vec<(String, Value)> {
    let text = broker.run(["--json", "subscribe", topic, "--from", "earliest", "--until-end"]).ok();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .map(|record| (record["key"].as_str().unwrap_or("").to_owned(), record["payload"].clone()))
        .collect()
}

#[test]
fn the_disk_is_given_back_and_keys_are_deleted() {
    const RECORDS: usize = 96_000;
    const KEYS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("data/store/db/keyspaces"));
    let broker = serve(&data);
    broker.run(["topic", "create", "prices"]).ok();
    let line = |n: usize| format!("{{\"id\":\"k{}\",\"n\":{n},\"text\":\"{:0>1000}\"}}\n", n % KEYS, 7);
    let input: String = (0..RECORDS).map(line).collect();
    broker.run_with(["publish", "prices", "--format", "ndjson", "--key", "id"], &input).ok();
    let topic = || describe(&broker, "topic", "prices");
    assert!(topic()["bytes"].as_u64() > Some(90 * MIB));
    let all = disk_bytes(&data);

    broker.run(["topic", "update", "prices", "--compact", "--tombstones-for", "0s"]).ok();
    wait_until("older records go", || topic()["bytes"].as_u64() < Some(2 * MIB));
    wait_until("the disk space comes back", || disk_bytes(&log) < 8 * MIB);
    println!("{all} bytes on disk, then {} with {} of log", disk_bytes(&data), disk_bytes(&log));
    let check = |broker: &Binary| {
        let found: BTreeMap<_, _> = read(broker, "prices").into_iter().collect();
        assert_eq!(found.len(), KEYS);
        for (key, payload) in found {
            let n = payload["n"].as_u64().unwrap() as usize;
            assert!(n >= RECORDS - KEYS && key == format!("k{}", n % KEYS), "{key}: {n}");
        }
    };
    check(&broker);
    // Not in good order: what went stays away.
    let before = topic();
    broker.kill();
    let broker = serve(&data);
    let topic = || describe(&broker, "topic", "prices");
    assert!(topic()["records"].as_u64() <= before["records"].as_u64(), "{before} and {}", topic());
    check(&broker);

    // Every key but one is deleted, and that one is given a new value, until nothing else is left.
    let keys: String = (1..KEYS).map(|key| format!("k{key}\n")).collect();
    broker.run_with(["publish", "prices", "--format", "lines", "--tombstones"], &keys).ok();
    let last = |n: usize| {
        let input = format!("{{\"id\":\"k0\",\"n\":{n}}}\n");
        broker.run_with(["publish", "prices", "--format", "ndjson", "--key", "id"], &input).ok();
    };
    (0..3).for_each(last);
    wait_until("tombstones go", || topic()["records"].as_u64() <= Some(3));
    let left = read(&broker, "prices");
    assert_eq!(left.last(), Some(&("k0".to_owned(), json!({ "id": "k0", "n": 2 }))), "{left:?}");
    assert!(left.iter().all(|(key, _)| key == "k0"), "{left:?}");
}

async fn connect(broker: &Binary) -> Client {
    let reconnect = Reconnect { give_up_after: Some(std::time::Duration::ZERO), ..Reconnect::default() };
    let options = ConnectOptions { reconnect, ..ConnectOptions::default() };
    soon("a connection", Client::connect(&broker.url().parse().unwrap(), options)).await.unwrap()
}

/// The newest number of each key, and offsets that never run backwards or come twice.
async fn newest(client: &Client, topic: &TopicName) -> BTreeMap<u64, u64> {
    let options = SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest).until_end();
    let mut consumer = client.subscribe(options).await.unwrap();
    let (mut found, mut next) = (BTreeMap::new(), 0);
    while let Some(message) = soon("a record or the end", consumer.next_message()).await {
        let message = message.unwrap();
        assert!(message.offset() >= next, "offset {} after {next}", message.offset());
        next = message.offset() + 1;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).parse::<u64>().unwrap();
        found.insert(text(message.key().unwrap()), text(message.payload().unwrap()));
    }
    found
}

/// Killed at any point of passes and of taking disk space back: no key has an older value than was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_goes_back_over_kills() {
    let dir = tempfile::tempdir().unwrap();
    let topic: TopicName = "t".parse().unwrap();
    let seed = Seed::of_run();
    let mut rng = Rng::new(seed.0);
    // What was acknowledged of each key, newest.
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    let mut number = 0;
    for _ in 0..soak(5, 60) {
        let broker = serve(dir.path());
        let client = connect(&broker).await;
        let compaction = Compaction { enabled: true, ..Compaction::default() };
        let config = TopicConfig { compaction, ..TopicConfig::default() };
        client.create_topic(topic.clone(), config).await.unwrap();
        let found = newest(&client, &topic).await;
        for (key, number) in &acknowledged {
            assert!(
                found.get(key) >= Some(number),
                "key {key}: {:?}, {number} was acknowledged",
                found.get(key)
            );
        }
        let options = PublishOptions { batch_bytes: 1_000, ..PublishOptions::default() };
        let publisher = client.publisher(topic.clone(), options).await.unwrap();
        // Some keys are written all the time, others hardly ever again.
        let records = 500 + rng.below(6_000);
        let mut receipts = Vec::new();
        for _ in 0..records {
            number += 1;
            let key = if rng.below(10) == 0 { rng.below(2_000) } else { rng.below(20) };
            let record = Record::new(number.to_string()).with_key(key.to_string());
            receipts.push((key, number, publisher.publish(record).await.unwrap()));
        }
        let mut killed = Some((broker, rng.below(records)));
        for (index, (key, number, receipt)) in (0..).zip(receipts) {
            if soon("a receipt or an error", receipt).await.is_ok() {
                acknowledged.insert(key, number);
            }
            if killed.as_ref().is_some_and(|(_, at)| index >= *at)
                && let Some((broker, _)) = killed.take()
            {
                broker.kill();
                client.clone().close().await;
            }
        }
    }
    assert!(acknowledged.len() > 20);
}

//! What is kept of a topic, from the command line to the disk.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Instant};

use millstream_client::{
    Client, ConnectOptions, DeliveryConfig, DeliveryMode, Record, Settled, TopicName, WorkOptions,
};
use millstream_tests::{Binary, PATIENCE, publish, soon};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

pub(super) fn serve(data: &Path) -> Binary {
    fs::create_dir_all(data).unwrap();
    let config = data.join("millstream.toml");
    fs::write(&config, "retention_interval_ms = 50\n").unwrap();
    Binary::serve_with(data, &["--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()])
}

pub(super) fn describe(broker: &Binary, what: &str, name: &str) -> Value {
    let text = broker.run(["--json", what, "describe", name]).ok();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Bytes that a directory takes on disk.
pub(super) fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // It went while it was counted.
        Err(_) => 0,
    });
    bytes.sum()
}

pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn settings_are_given_shown_and_changed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = serve(dir.path());
    let limits = ["--retention-age", "7d", "--retention-bytes", "10GiB", "--retention-records", "1000000"];
    let create = |limits: &[&str]| broker.run([&["topic", "create", "t"], limits].concat());
    assert!(create(&limits).ok().contains("keeps 7days, 10.00 GiB, 1,000,000 records"));
    create(&limits).ok();
    assert!(create(&[]).fails(1).contains("other settings"));
    let all = json!({ "age_ms": 604_800_000, "bytes": 10u64 << 30, "records": 1_000_000 });
    assert_eq!(describe(&broker, "topic", "t")["retention"], all);

    broker.run(["topic", "update", "t", "--retention-age", "none", "--retention-records", "5"]).ok();
    let some = json!({ "age_ms": null, "bytes": 10u64 << 30, "records": 5 });
    assert_eq!(describe(&broker, "topic", "t")["retention"], some);
    assert!(broker.run(["topic", "describe", "t"]).ok().contains("keeps       10.00 GiB, 5 records"));
    assert!(broker.run(["topic", "list"]).ok().contains("10.00 GiB, 5 records"));
    broker.kill();
    let broker = serve(dir.path());
    assert_eq!(describe(&broker, "topic", "t")["retention"], some);
    broker.run(["topic", "update", "t", "--retention-bytes", "none", "--retention-records", "none"]).ok();
    assert!(broker.run(["topic", "describe", "t"]).ok().contains("keeps       everything"));
}

#[test]
fn the_disk_is_given_back_and_readers_go_on() {
    const RECORDS: u64 = 96_000;
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("data/store/db/keyspaces"));
    let broker = serve(&data);
    broker.run(["topic", "create", "t"]).ok();
    broker.run(["subscription", "create", "s", "t"]).ok();
    let line = |n: u64| format!("{n:0>1023}\n");
    let input: String = (0..RECORDS).map(line).collect();
    broker.run_with(["publish", "t", "--format", "lines"], &input).ok();
    let before = describe(&broker, "topic", "t");
    assert_eq!((&before["records"], &before["offsets"][0]["earliest"]), (&json!(RECORDS), &json!(0)));
    assert!(before["bytes"].as_u64() > Some(90 * MIB), "{before}");
    let all = disk_bytes(&data);

    broker.run(["topic", "update", "t", "--retention-bytes", "1MiB"]).ok();
    let topic = || describe(&broker, "topic", "t");
    wait_until("the oldest records go", || topic()["offsets"][0]["earliest"] != 0);
    wait_until("the disk space comes back", || disk_bytes(&log) < 4 * MIB);
    println!("{all} bytes on disk, then {} with {} of log", disk_bytes(&data), disk_bytes(&log));
    let after = topic();
    let earliest = after["offsets"][0]["earliest"].as_u64().unwrap();
    let kept = after["bytes"].as_u64().unwrap();
    assert!((MIB..2 * MIB).contains(&kept), "what was asked for stays, and at most a batch more: {after}");
    assert_eq!(
        (&after["records"], &after["offsets"][0]["latest"]),
        (&json!(RECORDS - earliest), &json!(RECORDS))
    );

    // Not in good order: what was deleted stays deleted, what was kept is kept.
    broker.kill();
    let broker = serve(&data);
    assert_eq!(describe(&broker, "topic", "t"), after);
    let rest: String = (earliest..RECORDS).map(line).collect();
    for from in ["earliest", "offset:5", "time:2001-01-01T00:00:00Z"] {
        let read = broker.run(["subscribe", "t", "--from", from, "--until-end"]).ok();
        assert!(read == rest, "{from}: {} bytes of {}", read.len(), rest.len());
    }
    let read = broker.run(["subscribe", "t", "--name", "s", "--until-end"]).ok();
    assert!(read == rest, "{} bytes of {}", read.len(), rest.len());
    let subscription = describe(&broker, "subscription", "s");
    assert_eq!(subscription["counters"]["missed"], earliest);
    assert_eq!(subscription["positions"][0]["settled"], RECORDS);
}

/// Records that a worker never settles, or that have become dead letters, keep nothing from going.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_and_a_dead_record_hold_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("data/store/db/keyspaces"));
    let broker = serve(&data);
    broker.run(["topic", "create", "t"]).ok();
    let client = Client::connect(&broker.url().parse().unwrap(), ConnectOptions::default()).await.unwrap();
    let topic: TopicName = "t".parse().unwrap();
    let delivery = DeliveryConfig { tries: 1, ..DeliveryConfig::of(DeliveryMode::Shared) };
    let options = WorkOptions::new(topic.clone(), "jobs".parse().unwrap()).delivery(delivery);
    let mut worker = soon("a worker", client.work(options)).await.unwrap();
    publish(&client, &topic, (0..64_000).map(|n| Record::new(format!("{n:0>1023}")))).await;
    let stuck = soon("a message", worker.next_message()).await.unwrap().unwrap();
    let dead = soon("a message", worker.next_message()).await.unwrap().unwrap();
    worker.nack(&dead, "no");
    let is_there = || broker.run(["topic", "list"]).ok().contains("dlq.jobs");
    wait_until("the letter", || is_there() && describe(&broker, "topic", "dlq.jobs")["records"] == 1);
    let before = disk_bytes(&log);
    broker.run(["topic", "update", "t", "--retention-bytes", "1MiB"]).ok();
    wait_until("the disk space comes back", || disk_bytes(&log) < 4 * MIB);
    println!("{before} bytes of log, then {}", disk_bytes(&log));
    // The letter is still there, though there is nothing left to send back; who holds the other may still settle it.
    let letters: Value = serde_json::from_str(&broker.run(["--json", "dlq", "list", "jobs"]).ok()).unwrap();
    assert_eq!(letters["offset"], 0, "{letters}");
    assert_eq!(client.redrive("jobs".parse().unwrap(), vec![(0, 0)]).await.unwrap(), 0);
    assert_eq!(soon("an answer", worker.ack_confirmed(&stuck)).await, Settled::Done);
}

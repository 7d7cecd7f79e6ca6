//! Workers on the command line, and over kills of their broker.

use std::collections::{BTreeMap, BTreeSet};

use millstream_client::{
    Client, ConnectOptions, DeliveryConfig, DeliveryMode, PublishOptions, Reconnect, Record, Settled,
    SubscriptionName, TopicConfig, TopicName, WorkOptions,
};
use millstream_tests::{Binary, soak, soon};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_command_for_each_record_and_dead_letters_for_those_that_fail() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    broker.run(["topic", "create", "orders"]).ok();
    let lines: String = (0..20).map(|n| format!("order {n}\n")).collect();
    broker.run_with(["publish", "orders", "--format", "lines"], &lines).ok();
    let out = dir.path().join("done.txt");
    let script = format!(
        "read -r line; echo \"$line $MILLSTREAM_OFFSET $MILLSTREAM_DELIVERIES\" >> {}; case $line in *7) echo 'no sevens' >&2; exit 3;; esac",
        out.display()
    );
    let work = |more: &[&str]| {
        let args = ["work", "orders", "bill", "--mode", "shared", "--tries", "2", "--backoff", "0s"];
        let command = ["--", "sh", "-c", &script];
        broker.run([&args as &[&str], more, &command].concat())
    };
    let ended = work(&["--parallel", "3", "--idle", "1s", "--json"]);
    assert_eq!(json(ended.stderr.lines().last().unwrap()), serde_json::json!({ "done": 18, "failed": 4 }));
    ended.ok();
    let mut tried: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&out).unwrap().lines() {
        *tried.entry(line.rsplitn(3, ' ').last().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(tried.len(), 20);
    assert!(tried.iter().all(|(line, times)| *times == if line.ends_with('7') { 2 } else { 1 }), "{tried:?}");

    let list = broker.run(["dlq", "list", "bill"]).ok();
    assert!(list.contains("0:0") && list.contains("0:1") && list.contains("no sevens"), "{list}");
    let listed = broker.run(["--json", "dlq", "list", "bill", "--error", "no sevens", "--limit", "1"]).ok();
    assert_eq!(json(&listed)["headers"]["dlq-reason"], "failures");
    let shown = broker.run(["dlq", "show", "bill", "0:1"]).ok();
    // Which of the two failed last is up to the workers.
    let second = if shown.contains("dlq-offset  17") { 17 } else { 7 };
    let order = format!("order {second}");
    assert!(shown.contains(&format!("dlq-offset  {second}\n")) && shown.contains(&order), "{shown}");
    let dry = broker.run(["--json", "dlq", "redrive", "bill", "--dry-run"]).ok();
    assert_eq!(json(&dry), serde_json::json!({ "letters": 2, "redriven": 0, "dry_run": true }));
    assert!(broker.run(["dlq", "purge", "bill", "0:9"]).fails(1).contains("0:9"));
    assert!(broker.run(["dlq", "purge", "bill", "9"]).fails(2).contains("PARTITION:OFFSET"));
    let purged = broker.run(["--json", "dlq", "purge", "bill", "0:0"]).ok();
    assert_eq!(json(&purged)["purged"], 1);
    let redriven =
        broker.run(["--json", "dlq", "redrive", "bill", "--reason", "failures", "--rate", "50"]).ok();
    assert_eq!(json(&redriven)["redriven"], 1);
    // It comes once more, and is printed and acknowledged where no command is given.
    let again = broker.run(["work", "orders", "bill", "--limit", "1", "--idle", "20s"]).ok();
    assert_eq!((&json(&again)["offset"], &json(&again)["payload"]), (&second.into(), &order.into()));
    assert!(broker.run(["dlq", "list", "bill"]).ok().is_empty());
    let described = broker.run(["subscription", "describe", "bill"]).ok();
    assert!(described.contains("shared") && described.contains("topic dlq.bill"), "{described}");

    let conflict = broker.run(["work", "orders", "bill", "--mode", "failover"]).fails(1);
    assert!(conflict.contains("delivery mode"), "{conflict}");
    assert!(broker.run(["work", "orders", "x", "--tries", "0"]).fails(2).contains("0 tries"));
    assert!(broker.run(["subscribe", "orders", "--name", "bill"]).fails(1).contains("millstream work"));
    assert!(broker.run(["dlq", "list", "nobody"]).fails(1).contains("nobody"));
    assert!(
        broker
            .run(["work", "orders", "y", "--limit", "1", "--", "no-such-program"])
            .fails(1)
            .contains("no-such-program")
    );
}

/// Several workers live through several brokers on the same directory: what a broker said is settled is never delivered
/// again, and everything is delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_is_never_delivered_again_over_kills() {
    const RECORDS: usize = 9_000;
    let kills_wanted = soak(4, 40);
    for mode in [DeliveryMode::Shared, DeliveryMode::KeyShared] {
        let dir = tempfile::tempdir().unwrap();
        let mut broker = Binary::serve(dir.path());
        let address = broker.address().to_owned();
        // However often the broker is killed.
        let reconnect = Reconnect { give_up_after: None, ..Reconnect::default() };
        let options = ConnectOptions { reconnect, ..ConnectOptions::default() };
        let client = Client::connect(&broker.url().parse().unwrap(), options).await.unwrap();
        let (topic, name): (TopicName, SubscriptionName) = ("t".parse().unwrap(), "jobs".parse().unwrap());
        client
            .create_topic(topic.clone(), TopicConfig { partitions: 2, ..TopicConfig::default() })
            .await
            .unwrap();
        let publisher = client
            .publisher(topic.clone(), PublishOptions { batch_bytes: 4_000, ..PublishOptions::default() });
        let publisher = publisher.await.unwrap();
        for n in 0..RECORDS {
            let record = Record::new(n.to_string()).with_key(format!("{}", n % 50));
            drop(publisher.publish(record).await.unwrap());
        }
        publisher.close().await.unwrap();
        let (took, mut taken) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        for who in 0..3usize {
            let delivery = DeliveryConfig { backoff_ms: vec![0], tries: 100, ..DeliveryConfig::of(mode) };
            let options = WorkOptions::new(topic.clone(), name.clone()).delivery(delivery).records(100);
            let mut worker = client.work(options).await.unwrap();
            let took = took.clone();
            tasks.spawn(async move {
                let mut seen = 0;
                while let Some(message) = worker.next_message().await {
                    let message = message.unwrap();
                    seen += 1;
                    let place = (message.partition(), message.offset());
                    if (seen + who).is_multiple_of(97) {
                        worker.nack(&message, "again");
                    } else if seen.is_multiple_of(5) {
                        took.send((place, Some(worker.ack_confirmed(&message).await))).unwrap();
                    } else {
                        worker.ack(&message);
                        took.send((place, None)).unwrap();
                    }
                }
            });
        }
        let (mut settled, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut kills = 0;
        while seen.len() < RECORDS || kills < kills_wanted {
            let (place, told) = soon("a record, over all kills", taken.recv()).await.unwrap();
            assert!(!settled.contains(&place), "{place:?} was settled and came again");
            seen.insert(place);
            if told == Some(Settled::Done) {
                settled.insert(place);
            }
            if kills < kills_wanted && seen.len() >= (kills + 1) * RECORDS / (kills_wanted + 2) {
                kills += 1;
                broker.kill();
                broker = Binary::serve_at(dir.path(), &address);
            }
        }
        assert!(settled.len() > RECORDS / 20, "{}", settled.len());
        soon("everything to be settled", async {
            loop {
                let info = client.describe_subscription(name.clone()).await.unwrap();
                if info.positions.iter().all(|at| at.settled == at.latest) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

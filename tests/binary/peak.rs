//! A peak: a million small orders in a burst, while one who is slow drains them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use millstream_client::{
    Client, ConnectOptions, DeliveryMode, Durability, PublishOptions, Record, SubscribeOptions, TopicConfig,
    TopicName, WorkOptions,
};
use millstream_tests::{Binary, soon};

const ORDERS: usize = 1_000_000;
/// What the broker may have in memory at most, MiB: journal and memtables, caches, what is on its way.
const RSS_MIB_MAX: u64 = 400;

fn rss_mib(broker: &Binary) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_absorbed_and_a_slow_worker_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    let connect = || async {
        Client::connect(&broker.url().parse().unwrap(), ConnectOptions::default()).await.unwrap()
    };
    let client = connect().await;
    let topic: TopicName = "orders".parse().unwrap();
    let config = TopicConfig { partitions: 4, durability: Durability::Interval, ..TopicConfig::default() };
    client.create_topic(topic.clone(), config).await.unwrap();

    // One works record by record, and waits for each ack to be stored; another one takes what it may and says nothing.
    let done = Arc::new(AtomicBool::new(false));
    let (slow_client, silent_client) = (connect().await, connect().await);
    let options =
        || WorkOptions::new(topic.clone(), "slow".parse().unwrap()).mode(DeliveryMode::Shared).records(50);
    let mut slow = slow_client.work(options()).await.unwrap();
    let silent = silent_client.work(options()).await.unwrap();
    let working = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let mut worked = 0u64;
            while !done.load(Ordering::Relaxed) {
                let message = soon("an order for the slow one", slow.next_message()).await.unwrap().unwrap();
                slow.ack_confirmed(&message).await;
                worked += 1;
            }
            worked
        }
    });
    let reader_client = connect().await;
    let mut reader = reader_client.subscribe(SubscribeOptions::ephemeral(topic.clone())).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut read = 0;
        while read < ORDERS {
            read += soon("orders", reader.next_batch()).await.unwrap().unwrap().batch.view().len();
        }
        read
    });
    let publisher = client.publisher(topic.clone(), PublishOptions::default()).await.unwrap();
    for n in 0..ORDERS {
        let order = format!("{{\"order\": {n}, \"items\": 3, \"total\": \"42.00\"}}");
        drop(
            publisher.publish(Record::new(order).with_key(format!("customer-{}", n % 5_000))).await.unwrap(),
        );
    }
    soon("the receipts", publisher.close()).await.unwrap();
    assert_eq!(reading.await.unwrap(), ORDERS, "one who keeps up has everything");
    done.store(true, Ordering::Relaxed);
    let worked = working.await.unwrap();
    let info = client.describe_subscription("slow".parse().unwrap()).await.unwrap();
    assert!(worked > 0 && info.unscanned > ORDERS as u64 / 2, "{worked} of {ORDERS}, {info:?}");
    assert!(info.pending <= 100, "what is on its way is bounded by the windows: {info:?}");
    let rss = rss_mib(&broker);
    println!("{worked} worked on meanwhile; at most {rss} MiB in memory");
    assert!(rss <= RSS_MIB_MAX, "{rss} MiB");
    drop(silent);
}

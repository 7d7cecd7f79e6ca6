//! Thousands of connections and subscriptions on one broker: each gets an answer, and memory is bounded.

use millstream_client::{
    Client, ConnectOptions, DeliveryConfig, DeliveryMode, NewSubscription, OnFault, StartAt, TopicConfig,
    TopicName,
};
use millstream_tests::{Binary, soon};
use tokio::task::JoinSet;

const CONNECTIONS: u64 = 5_000;
const SUBSCRIPTIONS: u64 = 10_000;
/// KiB each, an allocator's slack included.
const CONNECTION_KIB_MAX: u64 = 64;
const SUBSCRIPTION_KIB_MAX: u64 = 16;

fn resident_kib(broker: &Binary) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_and_subscriptions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    let url = broker.url().parse().unwrap();
    let before = resident_kib(&broker);
    let mut clients = Vec::new();
    for n in 0..CONNECTIONS {
        // By one attempt each: none may be left without an answer.
        let client = Client::connect(&url, ConnectOptions::default()).await;
        clients.push(client.unwrap_or_else(|error| panic!("connection {n}: {error}")));
    }
    for client in &clients {
        soon("a sign of life", client.ping()).await.unwrap();
    }
    let each = (resident_kib(&broker) - before) / CONNECTIONS;
    println!("{each} KiB a connection");
    assert!(each <= CONNECTION_KIB_MAX, "{each} KiB a connection");

    let topic: TopicName = "t".parse().unwrap();
    clients[0].create_topic(topic.clone(), TopicConfig::default()).await.unwrap();
    let before = resident_kib(&broker);
    let mut creating = JoinSet::new();
    for n in 0..SUBSCRIPTIONS {
        let client = clients[usize::try_from(n % 50).unwrap()].clone();
        let new = NewSubscription {
            name: format!("s{n}").parse().unwrap(),
            topic: topic.clone().into(),
            from: StartAt::Earliest,
            pipeline: Vec::new(),
            on_fault: OnFault::Halt,
            delivery: DeliveryConfig::of(DeliveryMode::Shared),
        };
        if creating.len() >= 200 {
            creating.join_next().await.unwrap().unwrap();
        }
        creating.spawn(async move {
            drop(soon("a subscription", client.create_subscription(new)).await.unwrap())
        });
    }
    creating.join_all().await;
    let each = (resident_kib(&broker).saturating_sub(before)) / SUBSCRIPTIONS;
    println!("{each} KiB a subscription");
    assert!(each <= SUBSCRIPTION_KIB_MAX, "{each} KiB a subscription");
    assert_eq!(clients[1].list_subscriptions().await.unwrap().len() as u64, SUBSCRIPTIONS);
}

//! Processes that are killed: what they held is for others long before any time-out, and the living are left alone.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use millstream_client::{
    Client, ConnectOptions, DeliveryConfig, DeliveryMode, Record, SubscribeOptions, SubscriptionName,
    TopicName, WorkOptions,
};
use millstream_tests::{Binary, millstream, publish, soon};

/// A command that runs until it is killed.
struct Running(Child);

impl Running {
    fn start(broker: &Binary, args: &[&str]) -> Self {
        let mut command = Command::new(millstream());
        command.args(args).env("MILLSTREAM_URL", broker.url());
        Self(command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap())
    }

    /// As the kernel does when memory is short.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn start(dir: &Path) -> (Binary, Client, TopicName, SubscriptionName) {
    let broker = Binary::serve(dir);
    let client = Client::connect(&broker.url().parse().unwrap(), ConnectOptions::default()).await.unwrap();
    let topic: TopicName = "t".parse().unwrap();
    client.create_topic(topic.clone(), Default::default()).await.unwrap();
    (broker, client, topic, "s".parse().unwrap())
}

/// Waits until workers hold so many records.
async fn leased(client: &Client, name: &SubscriptionName, records: u64) {
    soon("the records to be leased", async {
        loop {
            let described = client.describe_subscription(name.clone()).await;
            if described.is_ok_and(|info| info.positions.iter().map(|at| at.leased).sum::<u64>() == records) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The lease is 12 hours; that it is not the idle time-out of 30 s is what the broker counts.
#[tokio::test]
async fn what_a_killed_worker_held_is_delivered_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, client, topic, name) = start(dir.path()).await;
    publish(&client, &topic, (0..10).map(|n| Record::new(n.to_string()))).await;
    let args = ["work", "t", "s", "--mode", "shared", "--lease", "12h", "--backoff", "0s", "--"];
    // It starts a command on the first, and holds the others until that ends.
    let killed = Running::start(&broker, &[&args[..], &["sh", "-c", "exec sleep 3"]].concat());
    leased(&client, &name, 10).await;
    // One that lives, and is as idle, keeps what it has.
    let delivery = DeliveryConfig {
        lease_ms: 12 * 3_600_000,
        backoff_ms: vec![0],
        ..DeliveryConfig::of(DeliveryMode::Shared)
    };
    let options = || WorkOptions::new(topic.clone(), name.clone()).delivery(delivery.clone());
    let other = Client::connect(&broker.url().parse().unwrap(), ConnectOptions::default()).await.unwrap();
    let mut living = other.work(options()).await.unwrap();
    publish(&client, &topic, [Record::new("of the living")]).await;
    let its = soon("a record", living.next_message()).await.unwrap().unwrap();
    living.set_window(1, 1_000);
    let mut heir = client.work(options()).await.unwrap();

    killed.kill();
    for _ in 0..10 {
        let message = soon("what the killed one held", heir.next_message()).await.unwrap().unwrap();
        assert_ne!(message.offset(), its.offset());
        assert_eq!(message.failures(), 1, "it broke off");
        heir.ack(&message);
    }
    heir.flush().await.unwrap();
    assert_eq!(client.info().await.unwrap().vanished, 1, "it was not the idle time-out");
    assert_eq!(living.ack_confirmed(&its).await, millstream_client::Settled::Done);
}

#[tokio::test]
async fn what_a_killed_reader_held_can_be_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, client, topic, name) = start(dir.path()).await;
    let killed = Running::start(&broker, &["subscribe", "t", "--name", "s"]);
    soon("the reader", async {
        loop {
            if client.describe_subscription(name.clone()).await.is_ok_and(|info| info.consumers == 1) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    killed.kill();
    publish(&client, &topic, [Record::new("late")]).await;
    // Told to it: that is noticed at once.
    let mut heir = soon("the subscription", async {
        loop {
            match client.subscribe(SubscribeOptions::durable(topic.clone(), name.clone())).await {
                Ok(consumer) => return consumer,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert_eq!(client.info().await.unwrap().vanished, 1, "it was not the idle time-out");
    let message = soon("a record", heir.next_message()).await.unwrap().unwrap();
    assert_eq!(message.payload(), Some(&b"late"[..]));
}

//! A network that loses, repeats, reorders and delays, and a NAT that changes addresses: nothing is lost by that, stored
//! twice or out of order, and no subscription.
//!
//! `MILLSTREAM_SOAK=1` makes each longer; `MILLSTREAM_SEED` repeats the chances of a run that failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millstream_client::{
    Client, DeliveryConfig, DeliveryMode, PublishOptions, Record, Settled, StartAt, SubscribeOptions,
    SubscriptionName, TopicName, WorkOptions,
};
use millstream_tests::{Damage, Proxy, Rng, Seed, Suffered, TestServer, publish, read_all, soak, soon};
use tokio::{sync::mpsc, task::JoinSet};

const PARTITIONS: u32 = 3;
const KEYS: usize = 40;

const LOST: Damage = Damage { lost: 0.05, ..NONE };
const REPEATED: Damage = Damage { repeated: 0.3, ..NONE };
const REORDERED: Damage = Damage { delayed: 0.3, delay: Duration::from_millis(2), ..NONE };
const DELAYED: Damage = Damage { delayed: 1.0, delay: Duration::from_millis(8), ..NONE };
const MOVING: Damage = Damage { moves_after: Some(40), ..NONE };
const ALL: Damage = Damage {
    lost: 0.02,
    repeated: 0.05,
    delayed: 0.1,
    delay: Duration::from_millis(5),
    moves_after: Some(60),
};
const NONE: Damage =
    Damage { lost: 0.0, repeated: 0.0, delayed: 0.0, delay: Duration::ZERO, moves_after: None };

fn keyed(from: usize, to: usize) -> impl Iterator<Item = Record> {
    (from..to).map(|n| Record::new(format!("{n:0>200}")).with_key(format!("{}", n % KEYS)))
}

fn name() -> SubscriptionName {
    "s".parse().unwrap()
}

/// Has a client speak now and then, as those do that have more than one thing to do. After a move, the broker learns of the
/// new address by what the client says; one that only listens says something at its next keep-alive, which is 10 s.
fn chatter(client: &Client) -> JoinSet<()> {
    let (client, mut speaking) = (client.clone(), JoinSet::new());
    speaking.spawn(async move {
        loop {
            // What matters is that it was sent.
            let _ = client.ping().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    speaking
}

/// Whether the network did what it was to do, and not by chance nothing.
fn check_suffered(network: &Proxy, damage: Damage) {
    let Suffered { datagrams, lost, repeated, delayed, moves } = network.suffered();
    for (what, wanted, found) in [
        ("lost", damage.lost > 0.0, lost),
        ("repeated", damage.repeated > 0.0, repeated),
        ("delayed", damage.delayed > 0.0, delayed),
        ("moves", damage.moves_after.is_some(), moves),
    ] {
        assert_eq!(wanted, found > 0, "{found} {what} of {datagrams}");
    }
}

/// What a topic holds, by partition and offset.
async fn stored(client: &Client, topic: &TopicName) -> BTreeMap<(u32, u64), usize> {
    let all = read_all(client, SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest)).await;
    all.into_iter()
        .map(|(partition, offset, payload)| ((partition, offset), payload.parse().unwrap()))
        .collect()
}

async fn each_sequence_is_appended_once(damage: Damage) {
    let seed = Seed::of_run();
    let count = soak(3_000, 60_000);
    let server = TestServer::start().await;
    let (direct, topic) = server.topic("t", PARTITIONS).await;
    let network = server.network(damage, seed.0).await;
    let client = server.client_behind(&network).await;
    // Small batches, so that there are many sequences, and many of them on the way.
    let options = PublishOptions { batch_bytes: 300, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    let (pending, mut receipts) = mpsc::unbounded_channel();
    let publishing = tokio::spawn(async move {
        for (n, record) in keyed(0, count).enumerate() {
            pending.send((n, publisher.publish(record).await.unwrap())).unwrap();
        }
    });
    let mut acknowledged = BTreeMap::new();
    while let Some((n, receipt)) = receipts.recv().await {
        let receipt = soon("a receipt", receipt).await.unwrap();
        let before = acknowledged.insert((receipt.partition, receipt.offset), n);
        assert_eq!(before, None, "an offset was given twice");
    }
    publishing.await.unwrap();
    check_suffered(&network, damage);
    let found = stored(&direct, &topic).await;
    assert_eq!(acknowledged.len(), count);
    assert_eq!(found, acknowledged, "each once, where its receipt says");
    for key in 0..KEYS {
        let of_key: Vec<_> = found.values().filter(|n| **n % KEYS == key).collect();
        assert!(of_key.is_sorted(), "key {key} lost its order");
    }
}

#[tokio::test]
async fn each_sequence_is_appended_once_where_datagrams_are_lost() {
    each_sequence_is_appended_once(LOST).await;
}

#[tokio::test]
async fn each_sequence_is_appended_once_where_datagrams_are_repeated() {
    each_sequence_is_appended_once(REPEATED).await;
}

#[tokio::test]
async fn each_sequence_is_appended_once_where_datagrams_are_reordered() {
    each_sequence_is_appended_once(REORDERED).await;
}

#[tokio::test]
async fn each_sequence_is_appended_once_where_datagrams_are_delayed() {
    each_sequence_is_appended_once(DELAYED).await;
}

#[tokio::test]
async fn each_sequence_is_appended_once_while_the_address_changes() {
    each_sequence_is_appended_once(MOVING).await;
}

#[tokio::test]
async fn each_sequence_is_appended_once_where_everything_happens() {
    each_sequence_is_appended_once(ALL).await;
}

/// Half is there before, the other half comes while it reads.
async fn a_reader_misses_nothing(damage: Damage) {
    let seed = Seed::of_run();
    let count = soak(4_000, 80_000);
    let server = TestServer::start().await;
    let (direct, topic) = server.topic("t", PARTITIONS).await;
    publish(&direct, &topic, keyed(0, count / 2)).await;
    let network = server.network(damage, seed.0).await;
    let client = server.client_behind(&network).await;
    let mut options = SubscribeOptions::durable(topic.clone(), name());
    // Far less than there is, so that it must give credit often.
    options.credit_bytes = 10_000;
    let mut consumer = client.subscribe(options).await.unwrap();
    let _chatter = chatter(&client);
    let publishing = tokio::spawn({
        let (direct, topic) = (direct.clone(), topic.clone());
        async move {
            for from in (count / 2..count).step_by(100) {
                publish(&direct, &topic, keyed(from, (from + 100).min(count))).await;
            }
        }
    });
    let mut seen: BTreeMap<(u32, u64), usize> = BTreeMap::new();
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    while seen.len() < count {
        let message = soon("a record", consumer.next_message()).await.unwrap().unwrap();
        let expected = next.entry(message.partition()).or_default();
        assert_eq!(message.offset(), *expected, "partition {}", message.partition());
        *expected += 1;
        let n = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
        seen.insert((message.partition(), message.offset()), n);
        consumer.ack(&message);
    }
    publishing.await.unwrap();
    soon("the acks", consumer.close()).await.unwrap();
    check_suffered(&network, damage);
    assert_eq!(stored(&direct, &topic).await, seen);
    let info = direct.describe_subscription(name()).await.unwrap();
    assert!(info.positions.iter().all(|at| at.settled == at.latest), "{info:?}");
}

#[tokio::test]
async fn a_reader_misses_nothing_where_datagrams_are_lost() {
    a_reader_misses_nothing(LOST).await;
}

#[tokio::test]
async fn a_reader_misses_nothing_where_datagrams_are_repeated_and_reordered() {
    a_reader_misses_nothing(Damage { repeated: REPEATED.repeated, ..REORDERED }).await;
}

#[tokio::test]
async fn a_reader_misses_nothing_while_the_address_changes() {
    a_reader_misses_nothing(MOVING).await;
}

#[tokio::test]
async fn a_reader_misses_nothing_where_everything_happens() {
    a_reader_misses_nothing(ALL).await;
}

/// What was settled is settled, whatever else comes again.
async fn workers_miss_nothing(damage: Damage) {
    let seed = Seed::of_run();
    let count = soak(2_000, 40_000);
    let server = TestServer::start().await;
    let (direct, topic) = server.topic("t", PARTITIONS).await;
    let network = server.network(damage, seed.0).await;
    let mut chance = Rng::new(seed.0);
    let delivery =
        DeliveryConfig { backoff_ms: vec![1], tries: 1_000, ..DeliveryConfig::of(DeliveryMode::Shared) };
    let (settled, mut settlements) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        let client = server.client_behind(&network).await;
        let options = WorkOptions::new(topic.clone(), name()).delivery(delivery.clone()).records(50);
        let mut worker = client.work(options).await.unwrap();
        let speaking = chatter(&client);
        let (settled, mut chance) = (settled.clone(), Rng::new(chance.any()));
        workers.spawn(async move {
            let mut confirming = speaking;
            while let Some(Ok(message)) = worker.next_message().await {
                let place = (message.partition(), message.offset());
                if chance.chance(0.1) {
                    worker.nack(&message, "try again");
                    continue;
                }
                let (settler, settled) = (worker.settler(), settled.clone());
                confirming.spawn(async move {
                    let outcome = settler.ack_confirmed(&message).await;
                    // The test may have ended.
                    let _ = settled.send((place, outcome));
                });
            }
        });
    }
    publish(&direct, &topic, keyed(0, count)).await;
    let mut done = BTreeSet::new();
    while done.len() < count {
        let (place, outcome) = soon("a settlement", settlements.recv()).await.unwrap();
        // No connection is lost, and no lease ends.
        assert_eq!(outcome, Settled::Done, "{place:?}");
        assert!(done.insert(place), "{place:?} was settled, and came again");
    }
    check_suffered(&network, damage);
    let places: BTreeSet<_> = stored(&direct, &topic).await.into_keys().collect();
    assert_eq!(done, places);
    let info = direct.describe_subscription(name()).await.unwrap();
    assert!(info.positions.iter().all(|at| at.settled == at.latest && at.leased == 0), "{info:?}");
}

#[tokio::test]
async fn workers_miss_nothing_where_datagrams_are_lost() {
    workers_miss_nothing(LOST).await;
}

#[tokio::test]
async fn workers_miss_nothing_where_datagrams_are_repeated_and_reordered() {
    workers_miss_nothing(Damage { repeated: REPEATED.repeated, ..REORDERED }).await;
}

#[tokio::test]
async fn workers_miss_nothing_while_the_address_changes() {
    workers_miss_nothing(MOVING).await;
}

#[tokio::test]
async fn workers_miss_nothing_where_everything_happens() {
    workers_miss_nothing(ALL).await;
}

#[tokio::test]
async fn a_consumer_keeps_its_subscription_when_its_address_changes() {
    let server = TestServer::start().await;
    let (direct, topic) = server.topic("t", 1).await;
    let network = server.network(NONE, 0).await;
    let client = server.client_behind(&network).await;
    let mut consumer = client.subscribe(SubscribeOptions::ephemeral(topic.clone())).await.unwrap();
    // A reconnect would make another one: its name goes with the stream.
    let subscribed = consumer.name().clone();
    for round in 0..10_usize {
        publish(&direct, &topic, [Record::new(round.to_string())]).await;
        let message = soon("a record", consumer.next_message()).await.unwrap().unwrap();
        assert_eq!(message.payload(), Some(round.to_string().as_bytes()));
        network.move_clients();
        // Said from the new address; the consumer itself may have nothing to say for long.
        soon("an answer", client.ping()).await.unwrap();
        let names: Vec<_> =
            direct.list_subscriptions().await.unwrap().into_iter().map(|info| info.name).collect();
        assert_eq!(names, std::slice::from_ref(&subscribed), "round {round}");
    }
    assert_eq!(network.suffered().moves, 10);
}

/// With `MILLSTREAM_SOAK=1` only, since a connection ends after 30 s of silence: what had no receipt then is sent again by the
/// next one, and stored once; what workers held is delivered again, and what they had settled is not.
#[tokio::test]
async fn connections_that_die_of_silence_lose_nothing() {
    if soak(0, 1) == 0 {
        return;
    }
    let seed = Seed::of_run();
    let server = TestServer::start().await;
    let (direct, topic) = server.topic("t", PARTITIONS).await;
    let network = server.network(ALL, seed.0).await;
    let client = server.client_behind(&network).await;
    let options = PublishOptions { batch_bytes: 300, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    let mut worker =
        client.work(WorkOptions::new(topic.clone(), name()).mode(DeliveryMode::Shared)).await.unwrap();
    let (count, mut done) = (20_000, BTreeSet::new());
    let publishing = tokio::spawn(async move {
        for record in keyed(0, count) {
            drop(publisher.publish(record).await.unwrap());
        }
        publisher.flush().await.unwrap();
    });
    while done.len() < count {
        let wait = tokio::time::timeout(Duration::from_secs(120), worker.next_message()).await;
        let message = wait.expect("a record, over the silence").unwrap().unwrap();
        let place = (message.partition(), message.offset());
        assert!(!done.contains(&place), "{place:?} was settled, and came again");
        if place.1.is_multiple_of(50) {
            if worker.ack_confirmed(&message).await == Settled::Done {
                done.insert(place);
            }
        } else {
            worker.ack(&message);
            done.insert(place);
        }
        if done.len() == count / 3 {
            // All that was said until now is stored.
            worker.flush().await.unwrap();
            network.set_dark(true);
            tokio::time::sleep(Duration::from_secs(35)).await;
            network.set_dark(false);
        }
    }
    publishing.await.unwrap();
    assert_eq!(stored(&direct, &topic).await.into_values().collect::<BTreeSet<_>>().len(), count);
    assert_eq!(stored(&direct, &topic).await.len(), count, "each once");
}

//! Subscriptions to all topics that a pattern means, those included that are made later.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millstream_client::{
    Client, ConsumeError, Consumer, DeadLetterPage, DeliveryConfig, DeliveryMode, ErrorCode, Event, Leased,
    Record, Settled, StartAt, SubscribeOptions, SubscriptionName, TopicConfig, TopicName, TopicPattern,
    WorkOptions, Worker,
};
use millstream_tests::{TestServer, drain, publish, soon};

fn jobs() -> SubscriptionName {
    "jobs".parse().unwrap()
}

fn pattern(text: &str) -> TopicPattern {
    text.parse().unwrap()
}

fn durable(text: &str) -> SubscribeOptions {
    SubscribeOptions::durable(pattern(text), jobs())
}

/// Makes a topic and publishes `from` to `to` to it, each payload with the topic's name.
async fn fill(client: &Client, name: &str, partitions: u32, from: u64, to: u64) -> TopicName {
    let topic: TopicName = name.parse().unwrap();
    let config = TopicConfig { partitions, ..TopicConfig::default() };
    client.create_topic(topic.clone(), config).await.unwrap();
    let records = (from..to).map(|n| Record::new(format!("{name} {n}")).with_key(format!("{n}")));
    publish(client, &topic, records).await;
    topic
}

/// So many messages, each checked to be of the topic that it says; all are acknowledged.
async fn take(consumer: &mut Consumer, many: usize) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    while taken.len() < many {
        let message = soon("a message", consumer.next_message()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(message.payload().unwrap()).into_owned();
        assert!(text.starts_with(&format!("{} ", message.topic())), "{text} of {}", message.place());
        consumer.ack(&message);
        assert!(taken.insert(text), "it came twice");
    }
    taken
}

fn texts(name: &str, from: u64, to: u64) -> BTreeSet<String> {
    (from..to).map(|n| format!("{name} {n}")).collect()
}

#[tokio::test]
async fn a_stream_brings_all_topics_and_those_made_later() {
    let server = TestServer::start().await;
    let client = server.client().await;
    fill(&client, "orders.eu", 3, 0, 50).await;
    fill(&client, "orders.us", 1, 0, 50).await;
    fill(&client, "stock.eu", 1, 0, 50).await;
    let mut consumer = client.subscribe(durable("orders.*")).await.unwrap();
    assert_eq!(take(&mut consumer, 100).await, &texts("orders.eu", 0, 50) | &texts("orders.us", 0, 50));
    // One is made while it reads, one while nobody reads, one while the broker is away.
    fill(&client, "orders.cn", 2, 0, 50).await;
    fill(&client, "orders.cn.north", 2, 0, 50).await;
    assert_eq!(take(&mut consumer, 50).await, texts("orders.cn", 0, 50));
    consumer.close().await.unwrap();
    fill(&client, "orders.br", 2, 0, 50).await;
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    fill(&client, "orders.in", 1, 0, 20).await;
    let mut consumer = client.subscribe(durable("orders.*").until_end()).await.unwrap();
    let rest: BTreeSet<_> = drain(&mut consumer).await.into_iter().map(|(.., text)| text).collect();
    assert_eq!(rest, &texts("orders.br", 0, 50) | &texts("orders.in", 0, 20), "the others were acknowledged");
    consumer.close().await.unwrap();

    let info = client.describe_subscription(jobs()).await.unwrap();
    assert_eq!(info.topic, pattern("orders.*"));
    let mut partitions = BTreeMap::new();
    for at in &info.positions {
        *partitions.entry(at.topic.as_ref().unwrap().to_string()).or_insert(0) += 1;
    }
    let wanted = [("orders.br", 2), ("orders.cn", 2), ("orders.eu", 3), ("orders.in", 1), ("orders.us", 1)];
    assert_eq!(partitions, wanted.into_iter().map(|(name, many)| (name.to_owned(), many)).collect());
}

#[tokio::test]
async fn a_topic_that_is_deleted_and_made_again_is_another() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let topic = fill(&client, "t.a", 1, 0, 30).await;
    fill(&client, "t.b", 1, 0, 30).await;
    let mut consumer = client.subscribe(durable("t.>")).await.unwrap();
    take(&mut consumer, 60).await;
    consumer.ack_flush().await.unwrap();
    client.delete_topic(topic).await.unwrap();
    soon("the end of it", async {
        loop {
            match consumer.next_event().await.unwrap().unwrap() {
                Event::Gone { place } => return assert_eq!(place.topic().as_str(), "t.a"),
                Event::Progress { .. } => {}
                Event::Batch(batch) => panic!("{batch:?}"),
            }
        }
    })
    .await;
    // The same offsets come again, for other records.
    fill(&client, "t.a", 1, 100, 120).await;
    assert_eq!(take(&mut consumer, 20).await, texts("t.a", 100, 120));
    consumer.close().await.unwrap();
    let info = client.describe_subscription(jobs()).await.unwrap();
    let settled: Vec<_> = info.positions.iter().map(|at| (at.topic.clone().unwrap(), at.settled)).collect();
    assert_eq!(settled, [("t.b".parse().unwrap(), 30), ("t.a".parse().unwrap(), 20)]);
    // The last one goes: the subscription stays, and waits for others.
    for name in ["t.a", "t.b"] {
        client.delete_topic(name.parse().unwrap()).await.unwrap();
    }
    let mut consumer = client.subscribe(durable("t.>")).await.unwrap();
    fill(&client, "t.c", 2, 0, 10).await;
    assert_eq!(take(&mut consumer, 10).await, texts("t.c", 0, 10));
}

#[tokio::test]
async fn until_the_end_does_not_wait_for_what_is_deleted() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let topic = fill(&client, "t.a", 1, 0, 30_000).await;
    fill(&client, "t.b", 1, 0, 30).await;
    let mut options = durable("t.*").until_end();
    // So that not all of it is on its way when it is deleted.
    options.credit_bytes = 1;
    let mut consumer = client.subscribe(options).await.unwrap();
    client.delete_topic(topic).await.unwrap();
    fill(&client, "t.c", 1, 0, 30).await;
    let rest = soon("the end", drain(&mut consumer)).await;
    let of = |name| rest.iter().filter(|(.., text)| text.starts_with(name)).count();
    assert!(of("t.a") < 30_000);
    assert_eq!((of("t.b"), of("t.c")), (30, 0), "what is made since is behind the end");
}

#[tokio::test]
async fn an_ephemeral_one_goes_on_after_a_lost_connection() {
    let server = TestServer::start().await;
    let client = server.client().await;
    fill(&client, "t.a", 2, 0, 500).await;
    let mut consumer = client.subscribe(SubscribeOptions::ephemeral(pattern("t.*"))).await.unwrap();
    take(&mut consumer, 500).await;
    // Its connection is gone with the broker, and so is the subscription; topics are made meanwhile.
    let server = server.restart_there().await;
    let other = server.client().await;
    fill(&other, "t.b", 2, 0, 300).await;
    let topic: TopicName = "t.a".parse().unwrap();
    let records = (500..600).map(|n| Record::new(format!("t.a {n}")).with_key(format!("{n}")));
    publish(&other, &topic, records).await;
    let rest = take(&mut consumer, 400).await;
    assert_eq!(rest, &texts("t.b", 0, 300) | &texts("t.a", 500, 600), "nothing came twice, and all came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn topics_come_and_go_under_readers_and_workers() {
    let server = TestServer::start().await;
    let client = server.client().await;
    fill(&client, "keep", 1, 0, 1).await;
    let mut consumer = client.subscribe(SubscribeOptions::ephemeral(pattern(">"))).await.unwrap();
    let mut worker = join(&client, ">", DeliveryMode::KeyShared).await;
    let kept = |topic: &TopicName| topic.as_str() == "keep";
    let read = tokio::spawn(async move {
        let mut kept_read = BTreeSet::new();
        while kept_read.len() < 400 {
            let message = consumer.next_message().await.unwrap().unwrap();
            if kept(message.topic()) {
                assert!(kept_read.insert(message.offset()), "it came twice");
            }
        }
    });
    let work = tokio::spawn(async move {
        let mut kept_done = BTreeSet::new();
        while kept_done.len() < 400 {
            let message = worker.next_message().await.unwrap().unwrap();
            worker.ack(&message);
            if kept(message.topic()) {
                assert!(kept_done.insert(message.offset()), "it came twice");
            }
        }
    });
    let mut churn = tokio::task::JoinSet::new();
    for who in 0..4 {
        let client = server.client().await;
        churn.spawn(async move {
            for _ in 0..25 {
                let topic = fill(&client, &format!("t.{who}"), 3, 0, 20).await;
                publish(&client, &"keep".parse().unwrap(), (0..4).map(|n| Record::new(format!("keep {n}"))))
                    .await;
                client.delete_topic(topic).await.unwrap();
            }
        });
    }
    soon("the churn", churn.join_all()).await;
    soon("all that stays to be read", read).await.unwrap();
    soon("all that stays to be done", work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_topic_that_is_deleted_ends_no_routing_of_the_others() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let topic = fill(&client, "t.keep", 1, 0, 0).await;
    let options = durable("t.*").with_module("std/route", r#"{"template": "out.{kind}"}"#);
    let mut consumer = client.subscribe(options).await.unwrap();
    let routing = tokio::spawn(async move {
        while let Some(event) = consumer.next_event().await {
            if let Err(error) = event {
                return error.to_string();
            }
        }
        "it ended".to_owned()
    });
    let record = |n: u64| Record::new(format!("{n}")).with_header("kind", "all");
    for round in 0..30 {
        let gone = fill(&client, "t.gone", 4, 0, 0).await;
        publish(&client, &gone, (0..400).map(record)).await;
        publish(&client, &topic, [record(round)]).await;
        client.delete_topic(gone).await.unwrap();
    }
    let from_keep = soon("all of the topic that stays to be routed", async {
        loop {
            assert!(!routing.is_finished(), "its reading ended");
            let info = client.describe_subscription(jobs()).await.unwrap();
            let keep = info.positions.iter().find(|at| at.topic.as_ref() == Some(&topic)).unwrap();
            if keep.scanned == 30 {
                return info.counters.routed;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(from_keep.await >= 30);
    routing.abort();
}

fn quick(mode: DeliveryMode) -> DeliveryConfig {
    DeliveryConfig { backoff_ms: vec![0], tries: 2, ..DeliveryConfig::of(mode) }
}

async fn join(client: &Client, text: &str, mode: DeliveryMode) -> Worker {
    let options = WorkOptions::new(pattern(text), jobs()).delivery(quick(mode));
    soon("a worker", client.work(options)).await.unwrap()
}

async fn next(worker: &mut Worker) -> Leased {
    let message = soon("a message", worker.next_message()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(message.payload().unwrap()).into_owned();
    assert!(text.starts_with(&format!("{} ", message.topic())), "{text} of {}", message.place());
    message
}

#[tokio::test]
async fn workers_share_all_topics_by_every_mode() {
    for mode in
        [DeliveryMode::Shared, DeliveryMode::KeyShared, DeliveryMode::Failover, DeliveryMode::Exclusive]
    {
        let server = TestServer::start().await;
        let client = server.client().await;
        fill(&client, "t.a", 3, 0, 100).await;
        let workers = if mode == DeliveryMode::Exclusive { 1 } else { 3 };
        let (took, mut taken) = tokio::sync::mpsc::unbounded_channel();
        for who in 0..workers {
            let client = server.client().await;
            let mut worker = join(&client, "t.*", mode).await;
            let took = took.clone();
            tokio::spawn(async move {
                let mut newest: BTreeMap<_, u64> = BTreeMap::new();
                while let Some(Ok(message)) = worker.next_message().await {
                    let before = newest.insert(message.place().clone(), message.offset());
                    if mode != DeliveryMode::Shared && workers == 1 {
                        assert!(before < Some(message.offset()), "in order");
                    }
                    worker.ack(&message);
                    let text = String::from_utf8_lossy(message.payload().unwrap()).into_owned();
                    took.send((who, message.topic().clone(), text)).unwrap();
                }
                client.close().await;
            });
        }
        fill(&client, "t.b", 4, 0, 100).await;
        fill(&client, "t.c", 5, 0, 100).await;
        let (mut shares, mut all) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..300 {
            let (who, topic, text) = soon("a record", taken.recv()).await.unwrap();
            assert!(text.starts_with(&format!("{topic} ")));
            assert!(all.insert(text), "it came twice");
            shares.insert(who);
        }
        assert_eq!(shares.len(), workers, "each had some, by {mode}");
        soon("everything to be settled", async {
            loop {
                let info = client.describe_subscription(jobs()).await.unwrap();
                if info.positions.iter().map(|at| at.settled).sum::<u64>() == 300 {
                    return assert_eq!((info.pending, info.unscanned), (0, 0));
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// The dead letters of a subscription, once there are so many.
async fn letters(client: &Client, subscription: SubscriptionName, many: usize) -> DeadLetterPage {
    soon("the letters", async {
        loop {
            match client.dead_letters(subscription.clone(), 0, 0).await {
                Ok(page) if page.letters.as_ref().is_some_and(|batch| batch.view().len() == many) => {
                    return page;
                }
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn two_that_fail_on_everything_send_each_other_nothing() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let topic = fill(&client, "a", 1, 0, 3).await;
    let names = ["one", "two"].map(|name| name.parse::<SubscriptionName>().unwrap());
    for name in &names {
        let delivery = DeliveryConfig { tries: 1, ..DeliveryConfig::of(DeliveryMode::Shared) };
        let options = WorkOptions::new(pattern(">"), name.clone()).delivery(delivery);
        let mut worker = soon("a worker", client.work(options)).await.unwrap();
        for _ in 0..3 {
            let message = next(&mut worker).await;
            worker.nack(&message, "no");
        }
        letters(&client, name.clone(), 3).await;
        worker.close().await.unwrap();
    }
    for name in &names {
        let info = client.describe_subscription(name.clone()).await.unwrap();
        assert_eq!((info.pending, info.unscanned, info.positions.len()), (0, 0, 1), "{info:?}");
    }
    // Where the topic is gone its letters are still there, to be looked at and to be purged.
    client.delete_topic(topic).await.unwrap();
    let page = letters(&client, names[0].clone(), 3).await;
    let places: Vec<_> = page.letters.unwrap().view().records().map(|letter| (0, letter.offset)).collect();
    assert_eq!(client.redrive(names[0].clone(), places.clone()).await.unwrap(), 0);
    assert_eq!(client.purge(names[0].clone(), places).await.unwrap(), 3);
    assert!(client.dead_letters(names[0].clone(), 0, 0).await.unwrap().letters.is_none());
}

#[tokio::test]
async fn dead_letters_say_of_which_topic_and_come_back_there() {
    let server = TestServer::start().await;
    let client = server.client().await;
    fill(&client, "a.a", 2, 0, 10).await;
    // All topics: its own dead letters are not among them.
    let mut worker = join(&client, ">", DeliveryMode::Shared).await;
    fill(&client, "b", 1, 0, 10).await;
    let (mut failed, mut done) = (0, 0);
    while failed < 4 || done < 18 {
        let message = next(&mut worker).await;
        match message.payload().unwrap() {
            b"a.a 3" | b"b 7" => {
                worker.nack(&message, "no");
                failed += 1;
            }
            _ => {
                worker.ack(&message);
                done += 1;
            }
        }
    }
    let letters = letters(&client, jobs(), 2).await;
    let said = letters.letters.as_ref().unwrap().view().records().map(|letter| {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap()).into_owned();
        (text(letter.header("dlq-topic")), text(letter.payload))
    });
    let said: BTreeSet<_> = said.collect();
    assert_eq!(said, [("a.a", "a.a 3"), ("b", "b 7")].map(|(a, b)| (a.into(), b.into())).into());
    let places =
        letters.letters.as_ref().unwrap().view().records().map(|letter| (0, letter.offset)).collect();
    assert_eq!(client.redrive(jobs(), places).await.unwrap(), 2);
    let mut again = BTreeSet::new();
    for _ in 0..2 {
        let message = next(&mut worker).await;
        again.insert(String::from_utf8_lossy(message.payload().unwrap()).into_owned());
        assert_eq!(worker.ack_confirmed(&message).await, Settled::Done);
    }
    assert_eq!(again, ["a.a 3", "b 7"].map(String::from).into());
    let info = client.describe_subscription(jobs()).await.unwrap();
    assert_eq!(info.positions.len(), 3, "its dead letters are not read");
    assert_eq!((info.pending, info.unscanned), (0, 0));
}

#[tokio::test]
async fn what_is_held_of_a_deleted_topic_is_stale() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for mode in [DeliveryMode::Shared, DeliveryMode::KeyShared, DeliveryMode::Failover] {
        let topic = fill(&client, "t.a", 2, 0, 20).await;
        let mut worker = join(&client, "t.*", mode).await;
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(next(&mut worker).await);
        }
        client.delete_topic(topic).await.unwrap();
        assert_eq!(worker.ack_confirmed(&held[0]).await, Settled::Stale, "{mode}");
        worker.nack_after(&held[1], Duration::ZERO, "no");
        worker.flush().await.unwrap();
        // The same window serves what is there.
        fill(&client, "t.a", 2, 20, 40).await;
        let mut others = BTreeSet::new();
        while others.len() < 20 {
            let message = next(&mut worker).await;
            others.insert(String::from_utf8_lossy(message.payload().unwrap()).into_owned());
            assert_eq!(worker.ack_confirmed(&message).await, Settled::Done, "{mode}");
        }
        assert_eq!(others, texts("t.a", 20, 40), "{mode}");
        let info = client.describe_subscription(jobs()).await.unwrap();
        assert_eq!((info.positions.len(), info.pending, info.unscanned), (2, 0, 0), "{mode}");
        worker.close().await.unwrap();
        client.delete_subscription(jobs()).await.unwrap();
        client.delete_topic("t.a".parse().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let server = TestServer::start().await;
    let client = server.client().await;
    fill(&client, "t.a", 1, 0, 10).await;
    let refused = |result: Result<Consumer, ConsumeError>| match result {
        Err(ConsumeError::Open(error)) => (error.code().unwrap(), error.to_string()),
        other => panic!("{other:?}"),
    };
    let (code, text) = refused(client.subscribe(durable("t.*").from(StartAt::Offset(3))).await);
    assert_eq!(code, ErrorCode::BadRequest);
    assert!(text.contains("earliest, latest or a time"), "{text}");
    assert_eq!(client.list_subscriptions().await.unwrap().len(), 0, "nothing was made");

    drop(client.subscribe(durable("t.*").from(StartAt::Latest)).await.unwrap());
    let (code, text) = refused(client.subscribe(durable("t.>")).await);
    assert_eq!(code, ErrorCode::SubscriptionExists);
    assert!(text.contains("another topic"), "{text}");
    for bad in ["", "t.*x", "t.>.a", "t..*"] {
        let error = bad.parse::<TopicPattern>().unwrap_err().to_string();
        assert!(error.contains("`*` matches one segment"), "{error}");
    }
    // Nothing is published to a pattern.
    assert!("t.*".parse::<TopicName>().is_err());
    // From the end, but all of what is made later.
    let topic = fill(&client, "t.b", 1, 0, 5).await;
    publish(&client, &topic, [Record::new("t.b 5")]).await;
    let mut consumer = soon("a consumer", async {
        loop {
            // The one before may not have been noticed to be gone.
            match client.subscribe(durable("t.*")).await {
                Ok(consumer) => return consumer,
                Err(error) => assert!(error.to_string().contains("exclusive"), "{error}"),
            }
        }
    })
    .await;
    assert_eq!(take(&mut consumer, 6).await, texts("t.b", 0, 6));
}

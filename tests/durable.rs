//! Subscriptions that keep their place.

use millstream_client::{ErrorCode, OnFault, Record, StartAt, SubscribeOptions, SubscriptionName};
use millstream_tests::{TestServer, drain, publish, soon};

use crate::messages::code;

fn lines(from: usize, to: usize) -> impl Iterator<Item = Record> {
    (from..to).map(|n| Record::new(format!("{n}")))
}

#[tokio::test]
async fn resumes_behind_what_was_acknowledged() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, lines(0, 100)).await;
    let durable = || SubscribeOptions::durable(topic.clone(), "s".parse().unwrap());
    let mut consumer = client.subscribe(durable()).await.unwrap();
    for offset in 0..50 {
        let message = soon("a record", consumer.next_message()).await.unwrap().unwrap();
        assert_eq!(message.offset(), offset);
        if offset == 29 {
            consumer.ack(&message);
        }
    }
    consumer.close().await.unwrap();
    let mut consumer = client.subscribe(durable()).await.unwrap();
    assert_eq!(soon("a record", consumer.next_message()).await.unwrap().unwrap().offset(), 30);
    consumer.close().await.unwrap();
    client.close().await;

    let server = server.restart().await;
    let client = server.client().await;
    let mut consumer = client.subscribe(durable().until_end()).await.unwrap();
    let rest = drain(&mut consumer).await;
    assert_eq!((rest.first().unwrap().1, rest.len()), (30, 70));
    consumer.close().await.unwrap();
    let info = client.describe_subscription("s".parse().unwrap()).await.unwrap();
    assert_eq!(info.positions[0].settled, 100);
    assert!(info.durable);
}

#[tokio::test]
async fn is_exclusive_and_free_again() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let durable = || SubscribeOptions::durable(topic.clone(), "only".parse().unwrap());
    let first = client.subscribe(durable()).await.unwrap();
    // Refused for now; a client would try again by itself, so it is asked by its own means.
    let info = client.describe_subscription("only".parse().unwrap()).await.unwrap();
    assert_eq!(info.state, millstream_types::SubscriptionState::Active);
    let waiting = tokio::spawn({
        let (client, options) = (client.clone(), durable());
        async move { client.subscribe(options).await }
    });
    first.close().await.unwrap();
    match soon("the second consumer", waiting).await.unwrap() {
        Ok(second) => second.close().await.unwrap(),
        Err(error) => assert!(error.to_string().contains("exclusive"), "{error}"),
    }
    soon("the subscription to be free", async {
        loop {
            let info = client.describe_subscription("only".parse().unwrap()).await.unwrap();
            if info.state == millstream_types::SubscriptionState::Idle {
                return;
            }
        }
    })
    .await;
    drop(soon("a consumer", client.subscribe(durable())).await.unwrap());
}

#[tokio::test]
async fn broadcast_is_a_subscription_each() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 2).await;
    publish(&client, &topic, lines(0, 500)).await;
    for name in ["a", "b", "c"] {
        let options = SubscribeOptions::durable(topic.clone(), name.parse().unwrap()).until_end();
        let mut consumer = client.subscribe(options).await.unwrap();
        assert_eq!(drain(&mut consumer).await.len(), 500, "{name}");
        consumer.close().await.unwrap();
    }
    let all = client.list_subscriptions().await.unwrap();
    assert_eq!(all.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(all.iter().all(|info| info.counters.records_out == 500));
}

#[tokio::test]
async fn is_created_described_and_deleted() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, lines(0, 10)).await;
    let name: SubscriptionName = "s".parse().unwrap();
    let new = |from| millstream_client::NewSubscription {
        name: name.clone(),
        topic: topic.clone().into(),
        from,
        pipeline: Vec::new(),
        on_fault: OnFault::Halt,
        delivery: millstream_client::DeliveryConfig::default(),
    };
    let info = client.create_subscription(new(StartAt::Latest)).await.unwrap();
    assert_eq!(info.positions[0].settled, 10);
    // Again with the same settings: the same one, where it was.
    let info = client.create_subscription(new(StartAt::Earliest)).await.unwrap();
    assert_eq!(info.positions[0].settled, 10);
    let skip = millstream_client::NewSubscription { on_fault: OnFault::Skip, ..new(StartAt::Latest) };
    assert_eq!(code(client.create_subscription(skip).await), ErrorCode::SubscriptionExists);

    let mut reader = client.subscribe(SubscribeOptions::durable(topic.clone(), name.clone())).await.unwrap();
    client.delete_subscription(name.clone()).await.unwrap();
    let end = soon("the end", reader.next_message()).await.unwrap().unwrap_err().to_string();
    assert!(end.contains("was deleted"), "{end}");
    assert_eq!(code(client.describe_subscription(name.clone()).await), ErrorCode::UnknownSubscription);
    assert_eq!(code(client.delete_subscription(name).await), ErrorCode::UnknownSubscription);
}

#[tokio::test]
async fn an_ephemeral_one_goes_with_its_consumer() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let consumer = client.subscribe(SubscribeOptions::ephemeral(topic)).await.unwrap();
    let name = consumer.name().clone();
    assert!(!client.describe_subscription(name.clone()).await.unwrap().durable);
    consumer.close().await.unwrap();
    soon("its end", async { while client.describe_subscription(name.clone()).await.is_ok() {} }).await;
}

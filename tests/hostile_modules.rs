//! A bad module hurts its own subscription alone. What each kind of misbehaviour is told as, the engine's own tests say.

use bytes::Bytes;
use millstream_client::{Client, ErrorCode, OnFault, Record, StartAt, SubscribeOptions, TopicName};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, publish, read_all, soon};
use millstream_types::SubscriptionState;

use crate::messages::code;

/// A record's first letter says how it misbehaves, `-` not at all.
fn hostile() -> Bytes {
    guest("hostile").into()
}

fn earliest(topic: &TopicName) -> SubscribeOptions {
    SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest)
}

async fn publish_letters(client: &Client, topic: &TopicName, letters: &str) {
    publish(client, topic, letters.chars().map(|letter| Record::new(letter.to_string()))).await;
}

#[tokio::test]
async fn a_poison_record_halts_its_subscription_and_nobody_else() {
    let server = TestServer::start().await;
    // Traps, panics, loops, devours memory, overflows the stack, answers too much, nonsense, or what it did not announce.
    for letter in "TPLMSOWCNBUDEG".chars() {
        let (client, topic) = server.topic(&format!("poison-{letter}"), 1).await;
        publish_letters(&client, &topic, &format!("---{letter}---")).await;
        let name = format!("halted-{letter}");
        let options = SubscribeOptions::durable(topic.clone(), name.parse().unwrap())
            .with_private_module(hostile(), "\"\"");
        let mut consumer = client.subscribe(options).await.unwrap();
        for offset in 0..3 {
            let message = soon("a record before the fault", consumer.next_message()).await.unwrap().unwrap();
            assert_eq!(message.offset(), offset, "{letter}");
        }
        let end = soon("the fault", consumer.next_message()).await.unwrap().unwrap_err().to_string();
        assert!(end.contains("offset 3") && end.contains(topic.as_str()), "{letter}: {end}");
        if letter == 'P' {
            assert!(end.contains("no such carrier") && end.contains("src/lib.rs:42"), "{end}");
        }
        let info = client.describe_subscription(name.parse().unwrap()).await.unwrap();
        assert_eq!(info.state, SubscriptionState::Faulted, "{letter}");
        assert_eq!(info.fault.as_deref().map(|fault| fault.contains("offset 3")), Some(true));
        // Its backlog is all there, for it and for others.
        assert_eq!(info.positions[0].latest, 7);
        assert_eq!(read_all(&client, earliest(&topic)).await.len(), 7);
    }
}

#[tokio::test]
async fn skipping_passes_over_the_poison_record_alone() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("skip", 1).await;
    publish_letters(&client, &topic, &"-T--P-----M----".repeat(20)).await;
    let mut options = earliest(&topic).with_private_module(hostile(), "\"\"").until_end();
    options.on_fault = OnFault::Skip;
    let mut consumer = client.subscribe(options).await.unwrap();
    let name = consumer.name().clone();
    let records = millstream_tests::drain(&mut consumer).await;
    assert_eq!(records.len(), 12 * 20);
    assert!(records.iter().all(|(_, _, payload)| payload == "-"));
    let info = client.describe_subscription(name).await.unwrap();
    assert_eq!((info.counters.records_in, info.counters.faulted), (300, 60));
}

#[tokio::test]
async fn others_go_on_while_one_burns_its_time() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("busy", 1).await;
    publish_letters(&client, &topic, &"L".repeat(200)).await;
    let mut burning = earliest(&topic).with_private_module(hostile(), "\"\"");
    burning.on_fault = OnFault::Skip;
    let mut burning = client.subscribe(burning).await.unwrap();
    let (other, quiet) = server.topic("quiet", 1).await;
    for round in 0..20 {
        publish(&other, &quiet, [Record::new(format!("{round}")).with_header("a", "b")]).await;
    }
    let options = earliest(&quiet).with_module("std/headers", r#"{"header": "a", "equals": "b"}"#);
    assert_eq!(read_all(&other, options).await.len(), 20);
    // Too many faults in a row end it, not before it has had its tries.
    let end = soon("the breaker", burning.next_message()).await.unwrap().unwrap_err().to_string();
    assert!(end.contains("in a row"), "{end}");
}

#[tokio::test]
async fn what_cannot_be_a_module_is_refused() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let put = async |wasm: Vec<u8>| {
        let error = client.put_module("bad@1".parse().unwrap(), wasm.into()).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::ModuleRefused), "{error}");
        error.to_string()
    };
    assert!(put(b"GIF89a, surely".to_vec()).await.contains("not"));
    assert!(put(b"\0asm\x01\0\0\0".to_vec()).await.contains("component"));
    assert!(put(guest("clock")).await.contains("wasi:clocks"));
    let mut huge = hostile().to_vec();
    huge.resize(11 << 20, 0);
    let error = client.put_module("huge@1".parse().unwrap(), huge.into()).await.unwrap_err().to_string();
    assert!(error.contains("modules.module_bytes"), "{error}");
    assert!(client.list_modules().await.unwrap().iter().all(|module| module.name.starts_with("std/")));
    // `configure` may misbehave too: told to who subscribes, and nothing is left behind.
    for (config, told) in
        [("\"r\"", "\"r\""), ("\"l\"", "CPU"), ("\"p\"", "no such carrier"), ("\"n\"", "no verdicts")]
    {
        let options = earliest(&topic).with_private_module(hostile(), config);
        let error = client.subscribe(options).await.unwrap_err().to_string();
        assert!(error.contains(told), "{config}: {error}");
    }
    assert!(client.list_subscriptions().await.unwrap().is_empty());
    assert_eq!(code(client.describe_module("bad").await), ErrorCode::UnknownModule);
}

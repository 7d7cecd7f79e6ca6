//! A bad module hurts its own subscription alone. What each kind of misbehaviour is told as, the engine's own tests say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream_client::{
    Binding, Client, ErrorCode, ModuleLogFilter, ModuleLogLevel, OnFault, Rebinding, Record, StartAt,
    SubscribeOptions, SubscriptionInfo, TopicName, WorkOptions,
};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, drain, publish, read_all, soon};
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
        let mut options = SubscribeOptions::durable(topic.clone(), name.parse().unwrap())
            .with_private_module(hostile(), "\"\"");
        options.on_fault = OnFault::Halt;
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
    let records = drain(&mut consumer).await;
    assert_eq!(records.len(), 12 * 20);
    assert!(records.iter().all(|(_, _, payload)| payload == "-"));
    let info = client.describe_subscription(name).await.unwrap();
    assert_eq!((info.counters.records_in, info.counters.faulted), (300, 60));
}

/// Waits until so many records are settled.
async fn settled(client: &Client, name: &str, records: u64) -> SubscriptionInfo {
    soon("everything to be settled", async {
        loop {
            let info = client.describe_subscription(name.parse().unwrap()).await.unwrap();
            if info.positions.iter().map(|at| at.settled).sum::<u64>() >= records {
                return info;
            }
        }
    })
    .await
}

/// Reasons and errors of the dead letters of a subscription, by offset of their records.
async fn letters(client: &Client, subscription: &str) -> BTreeMap<u64, (String, String)> {
    let dlq: TopicName = format!("dlq.{subscription}").parse().unwrap();
    let mut consumer = client.subscribe(earliest(&dlq).until_end()).await.unwrap();
    let mut letters = BTreeMap::new();
    while let Some(message) = soon("a letter", consumer.next_message()).await {
        let message = message.unwrap();
        let said = |name: &str| String::from_utf8_lossy(message.header(name).unwrap()).into_owned();
        letters.insert(said("dlq-offset").parse().unwrap(), (said("dlq-reason"), said("dlq-error")));
    }
    letters
}

#[tokio::test]
async fn a_poison_record_becomes_a_dead_letter_and_its_neighbours_arrive() {
    let server = TestServer::start().await;
    // With `R`, whose module asks for another try as often as it is asked.
    let poison = "TPMSOWCNBUDEGR";
    let (client, topic) = server.topic("mixed", 1).await;
    let letters_of: String = poison.chars().flat_map(|letter| ['-', letter, '-']).collect();
    publish_letters(&client, &topic, &letters_of).await;
    let options = SubscribeOptions::durable(topic.clone(), "s".parse().unwrap())
        .with_private_module(hostile(), "\"\"")
        .until_end();
    let mut consumer = client.subscribe(options).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 2 * poison.len());
    consumer.close().await.unwrap();
    let info = settled(&client, "s", letters_of.len() as u64).await;
    assert_eq!((info.state, info.fault), (SubscriptionState::Idle, None));
    assert_eq!(info.counters.faulted, poison.len() as u64);
    let found = letters(&client, "s").await;
    let wanted: Vec<u64> = (0..poison.len() as u64).map(|at| at * 3 + 1).collect();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), wanted);
    assert!(found.values().all(|(reason, _)| reason == "module_fault"), "{found:?}");
    assert!(found[&40].1.contains("asks to be tried again"), "{found:?}");
    let panic = &found[&4].1;
    assert!(panic.contains("no such carrier") && panic.contains("src/lib.rs:42"), "{panic}");
    // Who follows the module knows as well.
    let mut log = client.module_log(Default::default(), 1_000, false).await.unwrap();
    let mut told = String::new();
    while let Some(line) = soon("a line", log.next()).await.unwrap() {
        told.push_str(&format!(
            "{} {} {}: {}\n",
            line.level.as_str(),
            line.subscription,
            line.module,
            line.text
        ));
    }
    assert!(told.contains("panic s sha256:") && told.contains("topic mixed partition 0 offset 1:"), "{told}");
}

#[tokio::test]
async fn a_module_that_fails_on_everything_is_let_alone_and_loses_nothing() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish_letters(&client, &topic, &"T".repeat(100)).await;
    let options =
        SubscribeOptions::durable(topic.clone(), "s".parse().unwrap()).with_private_module(hostile(), "\"\"");
    let mut consumer = client.subscribe(options).await.unwrap();
    let describe = async || client.describe_subscription("s".parse().unwrap()).await.unwrap();
    let faulted = soon("the breaker", async {
        loop {
            let info = describe().await;
            if info.state == SubscriptionState::Faulted {
                return info;
            }
        }
    })
    .await;
    let fault = faulted.fault.unwrap();
    assert!(fault.contains("in a row") && fault.contains("module bind s"), "{fault}");
    // It is tried on a record now and then.
    soon("a probe", async { while describe().await.counters.faulted <= faulted.counters.faulted {} }).await;
    let backlog = describe().await;
    assert!(backlog.unscanned > 80, "{backlog:?}");
    // Once another module is bound, the reader, who is still there, gets all that is left.
    let keeps = Binding {
        module: "std/headers".into(),
        config: r#"{"not": {"header": "x", "exists": true}}"#.into(),
    };
    client
        .rebind("s".parse().unwrap(), Rebinding::To { pipeline: Some(vec![keeps]), on_fault: None })
        .await
        .unwrap();
    let mut arrived = BTreeSet::new();
    while arrived.last() != Some(&99) {
        let message = soon("a record", consumer.next_message()).await.unwrap().unwrap();
        assert!(arrived.insert(message.offset()), "{} came twice", message.offset());
        consumer.ack(&message);
    }
    consumer.close().await.unwrap();
    let info = describe().await;
    assert_eq!((info.state, info.fault), (SubscriptionState::Idle, None));
    let dead: BTreeSet<_> = letters(&client, "s").await.into_keys().collect();
    assert!(dead.is_disjoint(&arrived) && dead.len() <= 15, "{dead:?}");
    assert_eq!(dead.union(&arrived).count(), 100);
    // What became dead letters meanwhile comes again, and is judged by what is bound now.
    let page = client.dead_letters("s".parse().unwrap(), 0, 0).await.unwrap();
    let all = (0..page.end).map(|offset| (0, offset)).collect();
    assert_eq!(client.redrive("s".parse().unwrap(), all).await.unwrap(), dead.len() as u64);
    let again = SubscribeOptions::durable(topic.clone(), "s".parse().unwrap()).until_end();
    let mut consumer = client.subscribe(again).await.unwrap();
    let offsets: BTreeSet<_> = drain(&mut consumer).await.into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(offsets, dead);
}

#[tokio::test]
async fn a_subscription_that_halts_goes_on_with_another_module() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish_letters(&client, &topic, "--T--").await;
    let mut options =
        SubscribeOptions::durable(topic.clone(), "s".parse().unwrap()).with_private_module(hostile(), "\"\"");
    options.on_fault = OnFault::Halt;
    let mut consumer = client.subscribe(options.clone()).await.unwrap();
    for offset in 0..2 {
        let message = soon("a record", consumer.next_message()).await.unwrap().unwrap();
        assert_eq!(message.offset(), offset);
        consumer.ack(&message);
    }
    assert!(soon("the fault", consumer.next_message()).await.unwrap().is_err());
    drop(consumer);
    // The policy alone: the module is the same.
    let rebinding = Rebinding::To { pipeline: None, on_fault: Some(OnFault::DeadLetter) };
    let info = client.rebind("s".parse().unwrap(), rebinding).await.unwrap();
    assert_eq!((info.state, info.on_fault), (SubscriptionState::Idle, OnFault::DeadLetter));
    let mut consumer = client.subscribe(options.until_end()).await.unwrap();
    // Those before it may come again: whether they were acknowledged in time is open.
    let offsets: Vec<_> = drain(&mut consumer).await.iter().map(|record| record.1).collect();
    assert!(offsets.ends_with(&[3, 4]) && !offsets.contains(&2), "{offsets:?}");
    consumer.close().await.unwrap();
    assert_eq!(letters(&client, "s").await.keys().copied().collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn workers_get_the_neighbours_of_poison_records_and_their_redrives() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 2).await;
    publish_letters(&client, &topic, &"-T--P---".repeat(50)).await;
    let options =
        WorkOptions::new(topic.clone(), "s".parse().unwrap()).with_private_module(hostile(), "\"\"");
    let mut worker = client.work(options).await.unwrap();
    for _ in 0..300 {
        let message = soon("a message", worker.next_message()).await.unwrap().unwrap();
        assert_eq!(message.payload(), Some(b"-".as_slice()));
        worker.ack(&message);
    }
    let info = settled(&client, "s", 400).await;
    assert_eq!((info.counters.faulted, info.pending), (100, 0));
    assert_eq!(client.dead_letters("s".parse().unwrap(), 0, 0).await.unwrap().end, 100);
}

#[tokio::test]
async fn what_modules_write_can_be_followed() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let only = ModuleLogFilter { subscription: Some("s".parse().unwrap()), ..ModuleLogFilter::default() };
    let mut log = client.module_log(only, 0, true).await.unwrap();
    let mut others = client
        .module_log(ModuleLogFilter { module: Some("std/redact".into()), ..Default::default() }, 0, true)
        .await
        .unwrap();
    // `V` writes 5,000 lines: the limit lets 200 through at once, and counts the others.
    publish_letters(&client, &topic, "V").await;
    let options = SubscribeOptions::durable(topic.clone(), "s".parse().unwrap())
        .with_private_module(hostile(), "\"\"")
        .until_end();
    let mut consumer = client.subscribe(options).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 1);
    let line = soon("a line", log.next()).await.unwrap().unwrap();
    assert_eq!((line.level, line.left_out), (ModuleLogLevel::Info, 0));
    assert!(line.text.contains("no such carrier") && line.module.starts_with("sha256:"), "{line:?}");
    let mut kept = client.module_log(ModuleLogFilter::default(), 10_000, false).await.unwrap();
    let mut lines = 0;
    while soon("a line", kept.next()).await.unwrap().is_some() {
        lines += 1;
    }
    assert!((200..1_000).contains(&lines), "{lines}");
    let rejecting = earliest(&topic).with_module("std/redact", r#"{"mask": ["a"]}"#);
    read_all(&client, rejecting).await;
    // All that came before is of no concern to who follows this one.
    let line = soon("a line", others.next()).await.unwrap().unwrap();
    assert!(line.module.starts_with("std/redact@") && line.text.contains("rejected 1 records"), "{line:?}");
    assert_eq!(line.level, ModuleLogLevel::Warn);
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

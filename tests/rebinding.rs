//! Other modules for a subscription in use: they take over, run beside, and go back, and no record is lost, doubled or
//! judged by two versions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream_client::{
    Binding, Client, DeliveryConfig, DeliveryMode, ErrorCode, NewSubscription, OnFault, Rebinding, Record,
    ShadowInfo, StartAt, SubscribeOptions, SubscriptionName, TopicName, WorkOptions,
};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, drain, publish, read_all, soon};

use crate::messages::code;

const RECORDS: usize = 6_000;
const VERSIONS: usize = 12;

fn name() -> SubscriptionName {
    "s".parse().unwrap()
}

/// A version of a module, which writes its number into each record.
fn version(number: usize) -> Vec<Binding> {
    let config = format!(r#"{{"mask": ["/by"], "mask_with": "{number}"}}"#);
    vec![Binding { module: "std/redact".into(), config }]
}

fn keep(header: &str) -> Vec<Binding> {
    let config = format!(r#"{{"header": "{header}", "exists": true}}"#);
    vec![Binding { module: "std/headers".into(), config }]
}

fn to(pipeline: Vec<Binding>) -> Rebinding {
    Rebinding::To { pipeline: Some(pipeline), on_fault: None }
}

async fn create(client: &Client, topic: &TopicName, pipeline: Vec<Binding>, mode: DeliveryMode) {
    let new = NewSubscription {
        name: name(),
        topic: topic.clone().into(),
        from: StartAt::Earliest,
        pipeline,
        on_fault: OnFault::DeadLetter,
        delivery: DeliveryConfig::of(mode),
    };
    client.create_subscription(new).await.unwrap();
}

fn record(number: usize) -> Record {
    Record::new(format!(r#"{{"n": {number}, "by": "nobody"}}"#)).with_key(format!("k{}", number % 7))
}

/// Which record it is, and which version judged it.
fn judged(payload: &[u8]) -> (usize, usize) {
    let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
    (value["n"].as_u64().unwrap() as usize, value["by"].as_str().unwrap().parse().unwrap())
}

/// Publishes all records while versions take over one after the other, each of which has some to judge.
async fn publish_and_rebind(server: &TestServer, topic: &TopicName) {
    let (publisher, binder) = (server.client().await, server.client().await);
    let each = RECORDS / VERSIONS;
    for number in 0..VERSIONS {
        let from = number * each;
        // The first half is being judged when the next takes over, and the second comes right behind.
        publish(&publisher, topic, (from..from + each / 2).map(record)).await;
        let publishing = publish(&publisher, topic, (from + each / 2..from + each).map(record));
        let binding = async {
            if number + 1 < VERSIONS {
                let info = binder.rebind(name(), to(version(number + 1))).await.unwrap();
                assert_eq!(info.revision, number as u64 + 2);
            }
        };
        tokio::join!(publishing, binding);
    }
}

/// That each record came once, and that within a partition versions follow each other.
fn assert_once(found: &BTreeMap<u32, Vec<(u64, usize, usize)>>) {
    let mut records: Vec<_> = found.values().flatten().map(|(_, number, _)| *number).collect();
    records.sort_unstable();
    assert!(records.into_iter().eq(0..RECORDS), "a record is lost or doubled");
    for (partition, records) in found {
        let mut by_offset = records.clone();
        by_offset.sort_unstable();
        let versions: Vec<_> = by_offset.iter().map(|(_, _, version)| *version).collect();
        assert!(versions.is_sorted(), "partition {partition}: {versions:?}");
    }
    let versions: BTreeSet<_> = found.values().flatten().map(|(_, _, version)| *version).collect();
    assert!(versions.len() > VERSIONS / 2, "most of them judged something: {versions:?}");
}

#[tokio::test]
async fn versions_take_over_from_each_other_under_a_reader() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 3).await;
    create(&client, &topic, version(0), DeliveryMode::Exclusive).await;
    let mut consumer = client.subscribe(SubscribeOptions::durable(topic.clone(), name())).await.unwrap();
    let reading = async {
        let mut found = BTreeMap::<u32, Vec<_>>::new();
        for _ in 0..RECORDS {
            let message = soon("a record", consumer.next_message()).await.unwrap().unwrap();
            let (number, version) = judged(message.payload().unwrap());
            found.entry(message.partition()).or_default().push((message.offset(), number, version));
            consumer.ack(&message);
        }
        found
    };
    let (found, ()) = tokio::join!(reading, publish_and_rebind(&server, &topic));
    assert_once(&found);
    consumer.close().await.unwrap();
    let info = client.describe_subscription(name()).await.unwrap();
    assert_eq!((info.counters.records_in, info.counters.records_out), (RECORDS as u64, RECORDS as u64));
}

#[tokio::test]
async fn versions_take_over_from_each_other_under_workers() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 3).await;
    create(&client, &topic, version(0), DeliveryMode::Shared).await;
    let (took, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (client, took, topic) = (server.client().await, took.clone(), topic.clone());
        workers.spawn(async move {
            let mut worker = client.work(WorkOptions::new(topic, name())).await.unwrap();
            while let Some(message) = worker.next_message().await {
                let message = message.unwrap();
                let (number, version) = judged(message.payload().unwrap());
                took.send((message.partition(), (message.offset(), number, version))).unwrap();
                worker.ack(&message);
            }
        });
    }
    let reading = async {
        let mut found = BTreeMap::<u32, Vec<_>>::new();
        for _ in 0..RECORDS {
            let (partition, record) = soon("a record", taken.recv()).await.unwrap();
            found.entry(partition).or_default().push(record);
        }
        found
    };
    let (found, ()) = tokio::join!(reading, publish_and_rebind(&server, &topic));
    assert_once(&found);
    workers.abort_all();
}

#[tokio::test]
async fn what_versions_send_to_topics_is_there_once() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 2).await;
    let version = |number: usize| {
        let config =
            format!(r#"{{"header": "no such", "table": {{"x": "sink.x"}}, "default": "sink.v{number}"}}"#);
        vec![Binding { module: "std/route".into(), config }]
    };
    create(&client, &topic, version(0), DeliveryMode::Exclusive).await;
    let mut consumer = client.subscribe(SubscribeOptions::durable(topic.clone(), name())).await.unwrap();
    let reading = tokio::spawn(async move { while consumer.next_event().await.is_some() {} });
    let sinks = async |client: &Client| {
        let mut found = Vec::new();
        for number in 0..4 {
            let sink: TopicName = format!("sink.v{number}").parse().unwrap();
            if client.describe_topic(sink.clone()).await.is_ok() {
                let options = SubscribeOptions::ephemeral(sink).from(StartAt::Earliest);
                found.extend(read_all(client, options).await.into_iter().map(|(_, _, payload)| payload));
            }
        }
        found
    };
    for number in 0..4 {
        publish(&client, &topic, (0..500).map(|n| Record::new(format!("{}", number * 500 + n)))).await;
        if number < 3 {
            client.rebind(name(), to(version(number + 1))).await.unwrap();
        }
    }
    soon("everything to be routed", async {
        while client.describe_subscription(name()).await.unwrap().counters.routed < 2_000 {}
    })
    .await;
    reading.abort();
    let mut found: Vec<usize> = sinks(&client).await.iter().map(|payload| payload.parse().unwrap()).collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..2_000), "a record is lost or doubled");
    assert!(client.describe_topic("sink.v3".parse().unwrap()).await.is_ok(), "the last version judged none");
}

#[tokio::test]
async fn what_cannot_take_over_changes_nothing() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    create(&client, &topic, keep("a"), DeliveryMode::Exclusive).await;
    let before = client.describe_subscription(name()).await.unwrap();
    assert_eq!((before.revision, before.earlier.len()), (1, 0));
    let binding = |module: &str, config: &str| vec![Binding { module: module.into(), config: config.into() }];
    for (rebinding, wanted) in [
        (to(binding("std/headers", r#"{"header": 1}"#)), ErrorCode::ConfigRefused),
        (to(binding("nobody/nothing", "{}")), ErrorCode::UnknownModule),
        (Rebinding::Shadow { pipeline: binding("std/headers", "[]") }, ErrorCode::ConfigRefused),
        (Rebinding::Back { to: None }, ErrorCode::BadRequest),
        (Rebinding::Back { to: Some(7) }, ErrorCode::BadRequest),
        (Rebinding::Promote, ErrorCode::BadRequest),
    ] {
        assert_eq!(code(client.rebind(name(), rebinding.clone()).await), wanted, "{rebinding:?}");
    }
    assert_eq!(client.describe_subscription(name()).await.unwrap(), before);
    // The same again is the same revision.
    assert_eq!(client.rebind(name(), to(keep("a"))).await.unwrap().revision, 1);
    let nobody = "nobody".parse().unwrap();
    assert_eq!(code(client.rebind(nobody, to(keep("a"))).await), ErrorCode::UnknownSubscription);
    let reader = client.subscribe(SubscribeOptions::ephemeral(topic.clone())).await.unwrap();
    let refused = client.rebind(reader.name().clone(), to(keep("a"))).await.unwrap_err().to_string();
    assert!(refused.contains("is ephemeral"), "{refused}");
}

#[tokio::test]
async fn what_was_bound_before_takes_over_again_also_after_a_restart() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    // A module of its own, which nothing but an earlier revision binds after a while.
    let wasm = Bytes::from(guest("every_second"));
    let private = client.put_private_module(wasm).await.unwrap();
    let halves = vec![Binding { module: private.name.clone(), config: "{}".into() }];
    create(&client, &topic, halves.clone(), DeliveryMode::Exclusive).await;
    client.rebind(name(), to(version(1))).await.unwrap();
    let skips = Rebinding::To { pipeline: Some(Vec::new()), on_fault: Some(OnFault::Skip) };
    let info = client.rebind(name(), skips).await.unwrap();
    assert_eq!((info.revision, info.on_fault, info.pipeline.len()), (3, OnFault::Skip, 0));
    client.close().await;

    let server = server.restart().await;
    let client = server.client().await;
    let info = client.describe_subscription(name()).await.unwrap();
    assert_eq!(info.earlier.iter().map(|revision| revision.number).collect::<Vec<_>>(), [1, 2]);
    let info = client.rebind(name(), Rebinding::Back { to: Some(1) }).await.unwrap();
    assert_eq!((info.revision, info.on_fault, &info.pipeline), (4, OnFault::DeadLetter, &halves));
    publish(&client, &topic, (0..10).map(record)).await;
    // Who subscribes with modules that were bound once gets those that are.
    let mut options = SubscribeOptions::durable(topic.clone(), name()).until_end();
    options = options.with_module("std/redact", version(1)[0].config.clone());
    let mut consumer = client.subscribe(options.clone()).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 5);
    consumer.close().await.unwrap();
    let other = SubscribeOptions::durable(topic.clone(), name())
        .with_module("std/headers", keep("x")[0].config.clone());
    assert!(client.subscribe(other).await.unwrap_err().to_string().contains("pipeline"));
    // Back and forth.
    assert_eq!(client.rebind(name(), Rebinding::Back { to: None }).await.unwrap().on_fault, OnFault::Skip);
    assert_eq!(client.rebind(name(), Rebinding::Back { to: None }).await.unwrap().pipeline, halves);
    // With its subscription it goes.
    client.delete_subscription(name()).await.unwrap();
    assert_eq!(code(client.describe_module(private.name).await), ErrorCode::UnknownModule);
}

async fn compared(client: &Client, records: u64) -> ShadowInfo {
    soon("the comparison", async {
        loop {
            let info = client.describe_subscription(name()).await.unwrap().shadow.unwrap();
            if info.compared + info.left_out >= records {
                return info;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_shadow_tells_what_would_be_different_and_changes_nothing() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    create(&client, &topic, keep("a"), DeliveryMode::Exclusive).await;
    let shadow = [keep("b"), version(9)].concat();
    let started = client.rebind(name(), Rebinding::Shadow { pipeline: shadow.clone() }).await.unwrap();
    assert_eq!((started.revision, started.shadow.unwrap().compared), (1, 0));
    // 100 records with neither header, 50 with one, 25 with the other, and 10 with both: of these, 5 are no JSON.
    let record = |headers: &str, payload: &str| {
        headers
            .chars()
            .fold(Record::new(payload.to_owned()), |record, it| record.with_header(it.to_string(), ""))
    };
    let json = r#"{"by": "nobody"}"#;
    let records = [(100, "", json), (50, "a", json), (25, "b", json), (5, "ab", json), (5, "ab", "no JSON")];
    for (count, headers, payload) in records {
        publish(&client, &topic, (0..count).map(|_| record(headers, payload))).await;
    }
    let reader = || SubscribeOptions::durable(topic.clone(), name()).until_end();
    let mut consumer = client.subscribe(reader()).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 60, "as if there were no shadow");
    consumer.close().await.unwrap();
    let info = compared(&client, 185).await;
    assert_eq!((info.compared, info.same, info.left_out), (185, 100, 0));
    let changes: Vec<_> =
        info.changes.iter().map(|it| (it.from.as_str(), it.to.as_str(), it.records)).collect();
    assert_eq!(
        changes,
        [("drop", "change", 25), ("keep", "change", 5), ("keep", "drop", 50), ("keep", "reject", 5)]
    );
    assert_eq!(info.samples.len(), 20);
    for sample in &info.samples {
        let (from, to) = match sample.offset {
            100..150 => ("keep", "drop"),
            150..175 => ("drop", r#"change to b= {"by": "9"}"#),
            175..180 => ("keep", r#"change to a= b= {"by": "9"}"#),
            _ => ("keep", "reject: the payload is not JSON"),
        };
        assert!(sample.from == from && sample.to.starts_with(to), "{sample:?}");
    }
    // No dead letters come of it.
    let info = client.describe_subscription(name()).await.unwrap();
    assert_eq!((info.counters.rejected, info.counters.records_out), (0, 60));

    let info = client.rebind(name(), Rebinding::Promote).await.unwrap();
    assert_eq!((info.revision, info.shadow), (2, None));
    assert!(info.pipeline.iter().map(|it| &it.config).eq(shadow.iter().map(|it| &it.config)));
    publish(&client, &topic, [record("b", json)]).await;
    let mut consumer = client.subscribe(reader()).await.unwrap();
    assert_eq!(drain(&mut consumer).await, [(0, 185, r#"{"by": "9"}"#.to_owned())]);
}

#[tokio::test]
async fn a_shadow_that_fails_or_burns_its_time_hurts_nobody() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    create(&client, &topic, Vec::new(), DeliveryMode::Exclusive).await;
    let hostile = client.put_private_module(guest("hostile").into()).await.unwrap().name;
    // Also beside nothing: what a first module would do can be seen before it is bound.
    let shadow = vec![Binding { module: hostile, config: "\"\"".into() }, version(1)[0].clone()];
    client.rebind(name(), Rebinding::Shadow { pipeline: shadow }).await.unwrap();
    publish(&client, &topic, (0..300).map(|_| Record::new("- this is no JSON, so all are rejected"))).await;
    let mut consumer =
        client.subscribe(SubscribeOptions::durable(topic.clone(), name()).until_end()).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 300);
    consumer.close().await.unwrap();
    let info = compared(&client, 300).await;
    assert_eq!(
        info.changes.iter().map(|it| (it.from.as_str(), it.to.as_str(), it.records)).collect::<Vec<_>>(),
        [("keep", "reject", 300)]
    );
    assert!(info.samples[0].to.contains("not JSON"), "{:?}", info.samples[0]);

    // Another shadow, whose every record fails: it is let alone after ten, and what it left out is counted.
    let failing = client.put_private_module(guest("failing").into()).await.unwrap().name;
    let shadow = vec![Binding { module: failing, config: "{}".into() }];
    client.rebind(name(), Rebinding::Shadow { pipeline: shadow }).await.unwrap();
    publish(&client, &topic, (0..2_000).map(|_| Record::new("-"))).await;
    let mut consumer =
        client.subscribe(SubscribeOptions::durable(topic.clone(), name()).until_end()).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 2_000);
    consumer.close().await.unwrap();
    let info = compared(&client, 2_000).await;
    assert!(info.left_out > 1_000 && info.same == 0, "{info:?}");
    assert!(info.fault.unwrap().contains("unreachable"));
    assert_eq!(client.rebind(name(), Rebinding::EndShadow).await.unwrap().shadow, None);
}

#[tokio::test]
async fn all_who_bind_at_the_same_time_take_over_one_after_the_other() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    create(&client, &topic, version(0), DeliveryMode::Exclusive).await;
    let mut binding = tokio::task::JoinSet::new();
    for number in 1..=5 {
        let client = server.client().await;
        binding.spawn(async move { client.rebind(name(), to(version(number))).await.unwrap().revision });
    }
    let mut revisions = binding.join_all().await;
    revisions.sort_unstable();
    let info = client.describe_subscription(name()).await.unwrap();
    assert_eq!((info.revision, info.earlier.len()), (6, 5), "{revisions:?}");
}

#[tokio::test]
async fn a_dead_letter_that_is_sent_back_is_routed_once_by_the_modules_bound_then() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let route = |rest: &str| {
        let config = format!(r#"{{"header": "c", "table": {{"a": "sink.a"}}{rest}}}"#);
        vec![Binding { module: "std/route".into(), config }]
    };
    create(&client, &topic, route(""), DeliveryMode::Exclusive).await;
    // What has no place is rejected, and those behind it are routed.
    let records = ["a", "x", "a", "x", "a"].iter().enumerate();
    publish(&client, &topic, records.map(|(n, c)| Record::new(n.to_string()).with_header("c", *c))).await;
    let read = async |client: &Client| {
        let options = SubscribeOptions::durable(topic.clone(), name()).until_end();
        let mut consumer = client.subscribe(options).await.unwrap();
        assert!(drain(&mut consumer).await.is_empty());
        consumer.close().await.unwrap();
    };
    let sink = async |client: &Client, sink: &str| {
        let options = SubscribeOptions::ephemeral(sink.parse::<TopicName>().unwrap()).from(StartAt::Earliest);
        read_all(client, options).await.into_iter().map(|(_, _, payload)| payload).collect::<Vec<_>>()
    };
    read(&client).await;
    assert_eq!(sink(&client, "sink.a").await, ["0", "2", "4"]);
    client.rebind(name(), to(route(r#", "default": "sink.rest""#))).await.unwrap();
    assert_eq!(client.redrive(name(), vec![(0, 0), (0, 1)]).await.unwrap(), 2);
    client.close().await;
    // Also over a restart.
    let server = server.restart().await;
    let client = server.client().await;
    for _ in 0..2 {
        read(&client).await;
        assert_eq!(sink(&client, "sink.rest").await, ["1", "3"]);
        assert_eq!(sink(&client, "sink.a").await, ["0", "2", "4"]);
    }
    let info = client.describe_subscription(name()).await.unwrap();
    assert_eq!((info.positions[0].settled, info.pending), (5, 0));
}

#[tokio::test]
async fn what_is_delivered_again_and_fails_then_is_not_lost() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let delivery = DeliveryConfig { backoff_ms: vec![0], ..DeliveryConfig::of(DeliveryMode::Shared) };
    let options = WorkOptions::new(topic.clone(), name()).delivery(delivery);
    let mut worker = client.work(options).await.unwrap();
    publish(&client, &topic, ["R", "-", "T"].map(Record::new)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(soon("a record", worker.next_message()).await.unwrap().unwrap());
    }
    // What judges them when they come again asks for another try each time, keeps, and traps.
    let hostile = client.put_private_module(guest("hostile").into()).await.unwrap().name;
    let pipeline = vec![Binding { module: hostile, config: "\"\"".into() }];
    client.rebind(name(), to(pipeline)).await.unwrap();
    held.iter().for_each(|message| worker.nack(message, "again"));
    let again = soon("the one that is kept", worker.next_message()).await.unwrap().unwrap();
    assert_eq!(again.payload(), Some(b"-".as_slice()));
    worker.ack(&again);
    soon("the others to be dead letters", async {
        while client.describe_subscription(name()).await.unwrap().positions[0].settled < 3 {}
    })
    .await;
    let page = client.dead_letters(name(), 0, 0).await.unwrap();
    let letters = page.letters.unwrap();
    let payloads: BTreeSet<_> =
        letters.view().records().map(|letter| letter.payload.unwrap().to_vec()).collect();
    assert_eq!(payloads, BTreeSet::from([b"R".to_vec(), b"T".to_vec()]));
}

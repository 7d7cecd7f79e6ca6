//! Filter, transform, route: the stock modules over real QUIC.

use millstream_client::{ErrorCode, Record, StartAt, SubscribeOptions, TopicName};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, drain, publish, read_all, soon};

use crate::messages::code;

fn flights(count: usize) -> impl Iterator<Item = Record> {
    (0..count).map(|n| {
        let carrier = ["UA", "AA", "DL"][n % 3];
        Record::new(format!(
            r#"{{"n": {n}, "carrier": "{carrier}", "delay": {}, "secret": "s{n}"}}"#,
            n % 100
        ))
        .with_key(carrier)
        .with_header("carrier", carrier)
    })
}

fn earliest(topic: &TopicName) -> SubscribeOptions {
    SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest)
}

#[tokio::test]
async fn filters_keep_what_they_should() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("flights", 2).await;
    publish(&client, &topic, flights(3_000)).await;
    let count = async |module: &str, config: &str| {
        read_all(&client, earliest(&topic).with_module(module, config)).await.len()
    };
    assert_eq!(count("std/headers", r#"{"header": "carrier", "equals": "UA"}"#).await, 1_000);
    assert_eq!(count("std/json", r#"{"pointer": "/delay", "gt": 60}"#).await, 39 * 30);
    assert_eq!(
        count(
            "std/json",
            r#"{"all": [{"pointer": "/delay", "gt": 60}, {"pointer": "/carrier", "in": ["AA"]}]}"#
        )
        .await,
        390
    );
    assert_eq!(count("std/headers", r#"{"header": "carrier", "equals": "none"}"#).await, 0);
}

#[tokio::test]
async fn transforms_change_what_is_delivered() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("flights", 1).await;
    publish(&client, &topic, flights(300)).await;
    let options = earliest(&topic)
        .with_module("std/headers", r#"{"header": "carrier", "equals": "DL"}"#)
        .with_module("std/redact", r#"{"remove": ["/secret"]}"#);
    let records = read_all(&client, options).await;
    assert_eq!(records.len(), 100);
    assert!(records.iter().all(|(_, _, payload)| !payload.contains("secret") && payload.contains("DL")));
    // A transformed record keeps its offset.
    assert_eq!(
        records.iter().map(|record| record.1).collect::<Vec<_>>(),
        (2..300).step_by(3).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn what_one_record_became_may_fill_several_batches() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    // Each `x` becomes 4,000 copies, 2 MB of them.
    let payload = |letter: &str| Record::new(letter.repeat(500));
    publish(&client, &topic, ["x", "-", "x"].map(payload)).await;
    let mut options = SubscribeOptions::durable(topic, "s".parse().unwrap())
        .with_private_module(guest("emitter").into(), "{}");
    // One batch at a time, each acknowledged before the next one is sent.
    options.credit_bytes = 1;
    let mut consumer = client.subscribe(options.until_end()).await.unwrap();
    let mut batches = Vec::new();
    while let Some(delivery) = soon("a batch", consumer.next_batch()).await {
        let delivery = delivery.unwrap();
        consumer.ack_through(&delivery.place, delivery.next);
        consumer.ack_flush().await.unwrap();
        let offsets: Vec<_> = delivery.batch.view().records().map(|record| record.offset).collect();
        batches.push((offsets, delivery.next));
    }
    let offsets: Vec<_> = batches.iter().flat_map(|(offsets, _)| offsets).copied().collect();
    assert_eq!(offsets, [[0; 4_000].as_slice(), &[1], &[2; 4_000]].concat());
    let mut split = 0;
    for pair in batches.windows(2) {
        assert_eq!(pair[0].1, pair[1].0[0], "scanned up to what comes next");
        split += usize::from(pair[0].0.last() == pair[1].0.first());
    }
    assert!(split >= 2, "each `x` fills more than one batch");
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn routing_is_done_once() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("flights", 2).await;
    publish(&client, &topic, flights(900)).await;
    let router = || {
        SubscribeOptions::durable(topic.clone(), "router".parse().unwrap())
            .with_module("std/route", r#"{"template": "by.{carrier}"}"#)
            .until_end()
    };
    // Read without acknowledging, then again: what was routed stays routed once.
    let mut consumer = client.subscribe(router()).await.unwrap();
    while let Some(event) = consumer.next_event().await {
        event.unwrap();
    }
    drop(consumer);
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    let mut consumer = client.subscribe(router()).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 0, "everything went elsewhere");
    consumer.close().await.unwrap();
    for carrier in ["UA", "AA", "DL"] {
        let sink: TopicName = format!("by.{carrier}").parse().unwrap();
        let records = read_all(&client, earliest(&sink)).await;
        assert_eq!(records.len(), 300, "{carrier}");
        assert!(records.iter().all(|(_, _, payload)| payload.contains(carrier)));
    }
    let info = client.describe_subscription("router".parse().unwrap()).await.unwrap();
    let settled: u64 = info.positions.iter().map(|position| position.settled).sum();
    assert_eq!(settled, 900, "routed records are settled by progress");
}

#[tokio::test]
async fn a_filter_that_matches_nothing_moves_on() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("flights", 1).await;
    publish(&client, &topic, flights(2_000)).await;
    let options = SubscribeOptions::durable(topic.clone(), "silent".parse().unwrap())
        .with_module("std/headers", r#"{"header": "carrier", "equals": "none"}"#)
        .until_end();
    let mut consumer = client.subscribe(options).await.unwrap();
    assert!(drain(&mut consumer).await.is_empty());
    consumer.close().await.unwrap();
    let info = client.describe_subscription("silent".parse().unwrap()).await.unwrap();
    assert_eq!(info.positions[0].settled, 2_000);
    assert_eq!((info.counters.records_in, info.counters.dropped), (2_000, 2_000));
}

#[tokio::test]
async fn the_registry_holds_versions() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let stock = client.list_modules().await.unwrap();
    assert_eq!(stock.len(), millstream_filters::stock().len(), "{stock:?}");
    let [headers, json] =
        [0, 1].map(|index| bytes::Bytes::from_static(millstream_filters::stock()[index].wasm));
    let pushed = client.put_module("mine@1.0.0".parse().unwrap(), headers.clone()).await.unwrap();
    assert_eq!(client.put_module("mine@1.0.0".parse().unwrap(), headers.clone()).await.unwrap(), pushed);
    assert_eq!(
        code(client.put_module("mine@1.0.0".parse().unwrap(), json.clone()).await),
        ErrorCode::ModuleExists
    );
    assert_eq!(
        code(client.put_module("std/mine@1.0.0".parse().unwrap(), json.clone()).await),
        ErrorCode::BadName
    );
    assert_eq!(code(client.describe_module("other").await), ErrorCode::UnknownModule);
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    assert_eq!(client.describe_module("mine").await.unwrap(), pushed);
    assert_eq!(client.describe_module("std/headers").await.unwrap().sha256, pushed.sha256);
}

#[tokio::test]
async fn a_private_module_goes_with_its_subscription() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("flights", 1).await;
    publish(&client, &topic, flights(30)).await;
    // Not byte for byte a stock module: those are never private.
    let mut wasm = millstream_filters::stock()[0].wasm.to_vec();
    wasm.extend_from_slice(&[0, 2, 1, b'x']);
    let options = earliest(&topic)
        .with_private_module(wasm.into(), r#"{"header": "carrier", "equals": "UA"}"#)
        .until_end();
    let reference = options.pipeline.as_ref().unwrap()[0].module.clone();
    let mut consumer = client.subscribe(options).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 10);
    assert!(client.describe_module(reference.clone()).await.is_ok());
    consumer.close().await.unwrap();
    millstream_tests::soon("its end", async {
        while client.describe_module(reference.clone()).await.is_ok() {}
    })
    .await;
}

#[tokio::test]
async fn a_private_module_of_many_is_there_for_each() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, [Record::new("x")]).await;
    // Whichever ends last takes the module along, which others have stored and not bound yet.
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (client, topic) = (server.client().await, topic.clone());
        readers.spawn(async move {
            for _ in 0..50 {
                let options = earliest(&topic).with_private_module(guest("keep_all").into(), "{}");
                assert_eq!(read_all(&client, options).await.len(), 1);
            }
        });
    }
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn a_bad_configuration_is_refused_when_bound() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("flights", 1).await;
    for (module, config, named) in [
        ("std/headers", r#"{"header": "carrier", "equls": "UA"}"#, "equls"),
        ("std/json", r#"{"pointer": "no-slash", "gt": 1}"#, "no-slash"),
        ("std/headers", "not json", "JSON"),
        ("std/nothing", "{}", "std/nothing"),
        ("sha256:00", "{}", "sha256:00"),
    ] {
        let error =
            client.subscribe(earliest(&topic).with_module(module, config)).await.unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    assert!(client.list_subscriptions().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_slow_module_keeps_does_not_wait_for_what_follows() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("slow", 1).await;
    // Small enough to be read at once, and some ten ms for each.
    publish(&client, &topic, (0..3_000).map(|n| Record::new(n.to_string()))).await;
    let options =
        earliest(&topic).with_private_module(millstream_filters::floor().into(), r#"{"spin": 20000000}"#);
    let mut consumer = client.subscribe(options).await.unwrap();
    let name = consumer.name().clone();
    for n in 0..3 {
        let message = soon("a record", consumer.next_message()).await.unwrap().unwrap();
        assert_eq!(message.offset(), n);
    }
    let judged = client.describe_subscription(name).await.unwrap().counters.records_in;
    assert!(judged < 1_000, "{judged} records were judged before anything was handed out");
}

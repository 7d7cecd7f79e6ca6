//! All bad modules at once, beside subscriptions that are honest: what those get is the same, byte for byte.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use millstream_client::{Client, OnFault, Record, StartAt, SubscribeOptions, TopicName};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, drain, publish, soon};

/// Ways in which `hostile.wat` misbehaves over a record.
const LETTERS: &str = "TPLMSOWCNBUDEGRJFVY";
/// And in `configure`.
const CONFIGS: [&str; 6] = ["\"r\"", "\"l\"", "\"p\"", "\"m\"", "\"n\"", "\"b\""];
const RECORDS: usize = 2_000;

fn record(index: usize) -> Record {
    let payload = format!(
        r#"{{"n": {index}, "carrier": "{}", "tail": "N{:05}", "note": "{}"}}"#,
        if index.is_multiple_of(3) { "UA" } else { "DL" },
        index * 7,
        "x".repeat(index % 400)
    );
    Record::new(payload)
        .with_key(format!("k{}", index % 97))
        .with_header("carrier", if index.is_multiple_of(3) { "UA" } else { "DL" })
        .with_header("n", index.to_string())
}

/// All that a subscription delivers: the batches' records, byte for byte.
async fn delivered(client: &Client, options: SubscribeOptions) -> Vec<(u32, u64, Record)> {
    let mut consumer = client.subscribe(options.from(StartAt::Earliest).until_end()).await.unwrap();
    let mut records = Vec::new();
    while let Some(message) = soon("a record or the end", consumer.next_message()).await {
        let message = message.unwrap();
        records.push((message.partition(), message.offset(), message.to_record()));
        consumer.ack(&message);
    }
    records.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    records
}

/// What honest subscriptions get.
async fn honest(client: &Client, topic: &TopicName) -> Vec<Vec<(u32, u64, Record)>> {
    let plain = || SubscribeOptions::ephemeral(topic.clone());
    let mut all = Vec::new();
    for options in [
        plain(),
        plain().with_module("std/headers", r#"{"header": "carrier", "equals": "UA"}"#),
        plain().with_module("std/json", r#"{"pointer": "/n", "gt": 500, "select": ["n", "tail"]}"#),
        plain()
            .with_module("std/headers", r#"{"header": "n", "lt": 1000}"#)
            .with_module("std/redact", r#"{"mask": ["tail"]}"#),
    ] {
        all.push(delivered(client, options).await);
    }
    all
}

/// Subscribes with a hostile module again and again, until `over`; whatever comes of it, it ends.
async fn misbehave(
    client: Client,
    topic: TopicName,
    config: &'static str,
    over: Arc<AtomicBool>,
    ran: Arc<AtomicU64>,
) {
    let module = Bytes::from(guest("hostile"));
    while !over.load(Ordering::Relaxed) {
        let mut options = SubscribeOptions::ephemeral(topic.clone())
            .from(StartAt::Earliest)
            .with_private_module(module.clone(), config)
            .until_end();
        options.on_fault = OnFault::Skip;
        if let Ok(mut consumer) = client.subscribe(options).await {
            while let Some(Ok(message)) = soon("a record or the end", consumer.next_message()).await {
                consumer.ack(&message);
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        ran.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_subscriptions_get_the_same_beside_all_hostile_ones() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("honest", 3).await;
    publish(&client, &topic, (0..RECORDS).map(record)).await;
    let alone = honest(&client, &topic).await;
    assert_eq!(alone[0].len(), RECORDS);
    assert!(alone[1..].iter().all(|records| !records.is_empty() && records.len() < RECORDS));

    let (over, ran) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut hostile = tokio::task::JoinSet::new();
    for letter in LETTERS.chars() {
        let (client, poison) = server.topic(&format!("poison-{letter}"), 1).await;
        publish(
            &client,
            &poison,
            (0..30).map(|at| Record::new(if at % 3 == 0 { letter.to_string() } else { "-".to_owned() })),
        )
        .await;
        hostile.spawn(misbehave(client, poison, "\"\"", Arc::clone(&over), Arc::clone(&ran)));
    }
    let refused = Arc::new(AtomicU64::new(0));
    for config in CONFIGS {
        let client = server.client().await;
        hostile.spawn(misbehave(client, topic.clone(), config, Arc::clone(&over), Arc::clone(&refused)));
    }
    for _ in 0..3 {
        assert_eq!(honest(&client, &topic).await, alone);
    }
    soon("each of them to have had its way", async {
        while ran.load(Ordering::Relaxed) < 10 || refused.load(Ordering::Relaxed) < 6 {
            assert_eq!(honest(&client, &topic).await, alone);
        }
    })
    .await;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = soon("the hostile ones to end", hostile.join_next()).await {
        ended.unwrap();
    }
    assert_eq!(honest(&client, &topic).await, alone);
}

#[tokio::test]
async fn a_hundred_thousand_lines_leave_the_last_thousand() {
    let server = TestServer::start_with(|config| config.modules.call_ms = 60_000).await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, ["Y", "-"].map(|payload| Record::new(payload.to_owned()))).await;
    let options = SubscribeOptions::ephemeral(topic.clone())
        .from(StartAt::Earliest)
        .with_private_module(guest("hostile").into(), "\"\"")
        .until_end();
    let mut consumer = client.subscribe(options).await.unwrap();
    let name = consumer.name().clone();
    assert_eq!(drain(&mut consumer).await.len(), 2);
    let mut log = client.module_log(Default::default(), 10_000, false).await.unwrap();
    let (mut lines, mut bytes) = (0, 0);
    while let Some(line) = soon("a line", log.next()).await.unwrap() {
        lines += 1;
        bytes += line.text.len();
    }
    assert!((200..=1_000).contains(&lines) && bytes <= 1 << 20, "{lines} lines of {bytes} bytes");
    // And what it used is told of.
    let info = client.describe_subscription(name).await.unwrap();
    let [used] = info.modules.as_slice() else { panic!("{:?}", info.modules) };
    assert!(used.module.starts_with("sha256:") && used.calls >= 1 && used.records >= 2, "{used:?}");
    assert!(used.longest_ns > 0 && used.longest_ns <= used.module_ns, "{used:?}");
    assert_eq!((used.faults, used.budget_ms), (0, 60_000));
}

#[tokio::test]
async fn what_a_module_used_is_told_of_it_and_of_each_subscription() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, "--T--".chars().map(|letter| Record::new(letter.to_string()))).await;
    client.put_module("bad@1".parse().unwrap(), guest("hostile").into()).await.unwrap();
    assert_eq!(client.describe_module("bad").await.unwrap().usage, None);
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let mut options = SubscribeOptions::ephemeral(topic.clone())
            .from(StartAt::Earliest)
            .with_module("bad@1", "\"\"")
            .with_module("std/headers", r#"{"header": "x", "exists": false}"#)
            .until_end();
        options.on_fault = OnFault::Skip;
        let mut consumer = client.subscribe(options).await.unwrap();
        assert_eq!(drain(&mut consumer).await.len(), 4);
        consumers.push(consumer);
    }
    let info = client.describe_subscription(consumers[0].name().clone()).await.unwrap();
    let [bad, headers] = info.modules.as_slice() else { panic!("{:?}", info.modules) };
    assert!(bad.module == "bad@1" && bad.faults > 0 && bad.calls > bad.faults, "{bad:?}");
    assert!(headers.module.starts_with("std/headers@") && headers.faults == 0, "{headers:?}");
    assert_eq!((headers.records, headers.budget_ms, headers.memory_budget_bytes), (4, 50, 16 << 20));
    assert!((64 << 10..2 << 20).contains(&headers.memory_bytes), "{headers:?}");
    assert_eq!(bad.module_ns + headers.module_ns, info.counters.module_ns);
    let both = client.describe_module("bad").await.unwrap().usage.unwrap();
    assert_eq!((both.calls, both.faults), (bad.calls * 2, bad.faults * 2));
    // Lists are not to be long.
    assert!(client.list_subscriptions().await.unwrap().iter().all(|info| info.modules.is_empty()));
}

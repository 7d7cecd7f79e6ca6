//! Processors: what they make, what they remember and how far they came, as a user sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use millstream_client::{
    Binding, Client, DeadLetters, ErrorCode, NewProcessor, NewSubscription, OnFault, ProcessorConfig,
    Rebinding, Record, StartAt, SubscribeOptions, SubscriptionInfo, SubscriptionName, TopicConfig, TopicName,
    WorkOptions,
};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, publish, read_all, soon};

use crate::messages::code;

const YEAR: u64 = 366 * 24 * 3_600;

fn name() -> SubscriptionName {
    "p".parse().unwrap()
}

fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

/// Lets the first `records` of each key through, and sends the others to the topic `over`.
fn first(records: u64) -> Vec<Binding> {
    let config = format!(r#"{{"records": {records}, "per_seconds": {YEAR}, "over": "over"}}"#);
    vec![Binding { module: "std/throttle".into(), config }]
}

fn once() -> Vec<Binding> {
    vec![Binding { module: "std/dedup".into(), config: format!(r#"{{"within_seconds": {YEAR}}}"#) }]
}

fn processor(sources: &[&str], pipeline: Vec<Binding>) -> NewProcessor {
    NewProcessor {
        name: name(),
        config: ProcessorConfig {
            sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
            sink: Some(topic("sink")),
            state_bytes_max: ProcessorConfig::STATE_BYTES,
        },
        from: StartAt::Earliest,
        pipeline,
        on_fault: OnFault::DeadLetter,
        dead_letters: DeadLetters::Auto,
    }
}

fn record(key: &str, number: usize) -> Record {
    Record::new(number.to_string()).with_key(key.to_owned())
}

/// Once the processor has nothing left to do and `holds`.
async fn until(client: &Client, holds: impl Fn(&SubscriptionInfo) -> bool) -> SubscriptionInfo {
    let waiting = async {
        loop {
            let info = client.describe_subscription(name()).await.unwrap();
            if holds(&info) {
                return info;
            }
            tokio::task::yield_now().await;
        }
    };
    soon("the processor", waiting).await
}

async fn done(client: &Client) -> SubscriptionInfo {
    until(client, |info| info.unscanned == 0).await
}

async fn all(client: &Client, name: &str) -> Vec<String> {
    let found = read_all(client, SubscribeOptions::ephemeral(topic(name)).from(StartAt::Earliest)).await;
    found.into_iter().map(|(_, _, payload)| payload).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_remembers_over_batches_revisions_and_restarts() {
    let server = TestServer::start().await;
    let (client, source) = server.topic("t", 1).await;
    client.create_processor(processor(&["t"], first(3))).await.unwrap();
    publish(&client, &source, (0..4).map(|number| record("a", number))).await;
    done(&client).await;
    assert_eq!(all(&client, "sink").await, ["0", "1", "2"]);
    assert_eq!(all(&client, "over").await, ["3"]);

    let server = server.restart().await;
    let client = server.client().await;
    publish(&client, &source, [record("a", 4), record("b", 5)]).await;
    let info = done(&client).await;
    let processor = info.processor.unwrap();
    assert_eq!(processor.state_entries, 3, "the time and two keys");
    assert!(processor.state_bytes > 3 * 32);
    assert_eq!(all(&client, "over").await, ["3", "4"]);

    // Another version takes over with what was remembered.
    let more = Rebinding::To { pipeline: Some(first(7)), on_fault: None };
    client.rebind(name(), more).await.unwrap();
    publish(&client, &source, (6..9).map(|number| record("a", number))).await;
    done(&client).await;
    assert_eq!(all(&client, "sink").await, ["0", "1", "2", "5", "6", "7"]);
    assert_eq!(all(&client, "over").await, ["3", "4", "8"]);
    let counts = client.processor_state(name(), Vec::new(), None, 100).await.unwrap();
    let values: BTreeSet<Bytes> = counts.into_iter().map(|(_, value)| value).collect();
    assert!(values.contains("8".as_bytes()) && values.contains("1".as_bytes()), "{values:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_come_together_oldest_first() {
    let server = TestServer::start().await;
    let (client, _) = server.topic("in.a", 2).await;
    for name in ["in.b", "else"] {
        client.create_topic(topic(name), TopicConfig::default()).await.unwrap();
    }
    // Each time to another topic, and each topic is behind at first.
    for number in 0..60 {
        let source = topic(["in.a", "in.b", "else"][number % 3]);
        publish(&client, &source, [record(&format!("k{number}"), number)]).await;
        // Times have a resolution of a millisecond.
        let stored = SystemTime::now();
        while stored.elapsed().is_ok_and(|elapsed| elapsed < Duration::from_millis(2)) {
            tokio::task::yield_now().await;
        }
    }
    client.create_processor(processor(&["in.*", "else"], once())).await.unwrap();
    done(&client).await;
    let found: Vec<usize> = all(&client, "sink").await.iter().map(|it| it.parse().unwrap()).collect();
    assert_eq!(found, (0..60).collect::<Vec<_>>());

    // A topic that is made later belongs to the pattern, and one that goes leaves the others.
    client.create_topic(topic("in.c"), TopicConfig::default()).await.unwrap();
    client.delete_topic(topic("else")).await.unwrap();
    publish(&client, &topic("in.c"), [record("k0", 100), record("new", 101)]).await;
    publish(&client, &topic("in.b"), [record("other", 102)]).await;
    let added = async {
        while all(&client, "sink").await.len() < 62 {
            tokio::task::yield_now().await;
        }
    };
    soon("the topic made later", added).await;
    let found = all(&client, "sink").await;
    assert!(!found.contains(&"100".into()) && found.contains(&"101".into()) && found.contains(&"102".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_pauses_and_goes_on_where_it_was() {
    let mut server = TestServer::start().await;
    let (mut client, source) = server.topic("t", 1).await;
    client.create_processor(processor(&["t"], once())).await.unwrap();
    let paused = client.pause_processor(name()).await.unwrap();
    assert!(paused.processor.is_some_and(|processor| processor.paused));
    publish(&client, &source, (0..10).map(|number| record("a", number))).await;
    server = server.restart().await;
    client = server.client().await;
    let info = client.describe_subscription(name()).await.unwrap();
    assert_eq!((info.unscanned, serde_json::to_value(info.state).unwrap()), (10, "paused".into()));
    client.resume_processor(name()).await.unwrap();
    done(&client).await;
    assert_eq!(all(&client, "sink").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_rejects_is_a_dead_letter_and_comes_again() {
    let server = TestServer::start().await;
    let (client, source) = server.topic("t", 1).await;
    client.create_processor(processor(&["t"], once())).await.unwrap();
    let long = "k".repeat(501);
    publish(&client, &source, [record("a", 0), record(&long, 1), record("a", 2), record("b", 3)]).await;
    let info = done(&client).await;
    assert_eq!((info.counters.rejected, info.counters.records_out), (1, 2));
    assert_eq!(all(&client, "sink").await, ["0", "3"]);
    let letters = client.dead_letters(name(), 0, 0).await.unwrap();
    let letters = letters.letters.expect("a letter");
    let letter = letters.view().record(0).unwrap();
    assert_eq!(letter.header("dlq-reason"), Some(b"rejected".as_slice()));
    assert_eq!(letter.header("dlq-offset"), Some(b"1".as_slice()));

    // Sent back to what is bound then, for which it is a record as others.
    let lets_through = Rebinding::To { pipeline: Some(only_json()), on_fault: None };
    client.rebind(name(), lets_through).await.unwrap();
    assert_eq!(client.redrive(name(), vec![(0, letter.offset)]).await.unwrap(), 1);
    let again = async {
        while all(&client, "sink").await.len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    soon("the record that was sent back", again).await;
    assert_eq!(all(&client, "sink").await, ["0", "3", "1"]);
    done(&client).await;
}

/// Lets every record through whose payload is JSON, and keeps no state.
fn only_json() -> Vec<Binding> {
    vec![Binding { module: "std/json".into(), config: r#"{"pointer": "/n", "exists": false}"#.into() }]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_state_takes_its_own_records_alone() {
    let server = TestServer::start().await;
    let (client, source) = server.topic("t", 1).await;
    client.put_module("fills@1".parse().unwrap(), guest("counter").into()).await.unwrap();
    let mut wanted = processor(&["t"], vec![Binding { module: "fills@1".into(), config: "{}".into() }]);
    wanted.config.state_bytes_max = 1 << 20;
    client.create_processor(wanted).await.unwrap();
    // Every eighth puts 256 KiB: three fit.
    let records = (0..64).map(|number| Record::new(if number % 8 == 7 { "#" } else { "-" }));
    publish(&client, &source, records).await;
    let info = done(&client).await;
    let state = info.processor.clone().unwrap();
    assert!(state.state_bytes <= 1 << 20 && state.state_bytes > 3 << 18, "{state:?}");
    assert_eq!(info.counters.faulted, 5, "{info:?}");
    assert_eq!(all(&client, "sink").await.len(), 59);
    let letters = client.dead_letters(name(), 0, 0).await.unwrap().letters.expect("letters");
    let error = letters.view().record(0).unwrap().header("dlq-error").map(<[u8]>::to_vec).unwrap();
    let error = String::from_utf8(error).unwrap();
    assert!(
        error.contains("its limit is 1048576") && error.contains("processor update NAME --state-limit"),
        "{error}"
    );
    let counts = client.processor_state(name(), b"-".to_vec(), None, 1).await.unwrap();
    assert_eq!(counts, [(Bytes::from("-"), Bytes::from(56_u32.to_le_bytes().to_vec()))], "each once");
    // With room for two more, those that are sent back find it, until it is full again; also over a restart.
    let refused = client.set_processor_state_limit(name(), 0).await;
    assert_eq!(code(refused), ErrorCode::BadRequest);
    let changed = client.set_processor_state_limit(name(), 3 << 19).await.unwrap();
    assert_eq!(changed.processor.unwrap().config.state_bytes_max, 3 << 19);
    publish(&client, &source, (0..3).map(|_| Record::new("#"))).await;
    let info = done(&client).await;
    assert_eq!(info.counters.faulted, 6, "{info:?}");
    // Below what it holds: what is there stays, and may not grow.
    client.set_processor_state_limit(name(), 1).await.unwrap();
    publish(&client, &source, [Record::new("new")]).await;
    let info = done(&client).await;
    assert_eq!((info.counters.faulted, info.processor.unwrap().state_bytes > 5 << 18), (7, true));
    client.set_processor_state_limit(name(), 3 << 19).await.unwrap();
    client.close().await;
    let client = server.restart().await.client().await;
    let kept = client.describe_subscription(name()).await.unwrap().processor.unwrap();
    assert_eq!((kept.config.state_bytes_max, kept.state_bytes > 5 << 18), (3 << 19, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_processor_is_refused() {
    let server = TestServer::start().await;
    let (client, source) = server.topic("t", 1).await;
    let refused = async |new: NewProcessor, wanted: &str| {
        let error = client.create_processor(new).await.expect_err(wanted);
        assert!(error.to_string().contains(wanted), "{error}");
    };
    refused(processor(&[], once()), "it has no source").await;
    refused(processor(&["t"], Vec::new()), "it has no module").await;
    refused(processor(&["none"], once()), "topic none does not exist").await;
    refused(processor(&["t", ">"], once()), "would read its own sink sink").await;
    refused(processor(&["t"], [once(), once()].concat()), "2 of its modules keep a state").await;
    let mut nowhere = processor(&["t"], once());
    nowhere.config.sink = None;
    refused(nowhere, "name one with --to").await;
    let mut bad = processor(&["t"], once());
    bad.pipeline[0].config = r#"{"within_seconds": 0}"#.into();
    refused(bad, "config.within_seconds").await;

    client.create_processor(processor(&["t"], once())).await.unwrap();
    client.create_processor(processor(&["t"], once())).await.unwrap();
    let mut other = processor(&["t"], once());
    other.config.sink = Some(topic("other"));
    refused(other, "processor p exists with another source, sink or state limit").await;
    let read = SubscribeOptions::durable(source.clone(), name());
    let error = client.subscribe(read).await.expect_err("it is the broker's");
    assert!(error.to_string().contains("is a processor"), "{error}");
    let error = client.work(WorkOptions::new(source.clone(), name())).await.expect_err("it is the broker's");
    assert!(error.to_string().contains("is a processor"), "{error}");
    let shadow = Rebinding::Shadow { pipeline: once() };
    assert!(client.rebind(name(), shadow).await.unwrap_err().to_string().contains("module replay"));
    let none = Rebinding::To { pipeline: Some(Vec::new()), on_fault: None };
    let error = client.rebind(name(), none).await.unwrap_err().to_string();
    assert!(error.contains("have it stop with `millstream processor pause p`"), "{error}");
    let error = client.pause_processor("nobody".parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("processor nobody does not exist"), "{error}");
    // A module with a state is nobody else's.
    let new = NewSubscription {
        name: "s".parse().unwrap(),
        topic: source.clone().into(),
        from: StartAt::Earliest,
        pipeline: once(),
        on_fault: OnFault::Skip,
        delivery: Default::default(),
    };
    let error = client.create_subscription(new).await.unwrap_err().to_string();
    assert!(error.contains("which only processors have"), "{error}");
    let unknown = client.pause_processor("none".parse().unwrap()).await;
    assert_eq!(code(unknown), ErrorCode::UnknownSubscription);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_one_remembered_is_not_its_successors() {
    let server = TestServer::start_with(|config| {
        config.broker.retention_interval = std::time::Duration::from_millis(20);
    })
    .await;
    let (client, source) = server.topic("t", 1).await;
    for _ in 0..2 {
        client.create_processor(processor(&["t"], once())).await.unwrap();
        publish(&client, &source, [record("a", 1)]).await;
        done(&client).await;
        assert_eq!(client.processor_state(name(), Vec::new(), None, 9).await.unwrap().len(), 3);
        client.delete_subscription(name()).await.unwrap();
    }
    // It was let through by the first, by the second from the beginning, and not twice.
    assert_eq!(all(&client, "sink").await, ["1", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_of_many_partitions_count_once() {
    const KEYS: usize = 50;
    const FIRST: u64 = 20;
    let server = TestServer::start().await;
    let (client, source) = server.topic("t", 4).await;
    client.create_processor(processor(&["t"], first(FIRST))).await.unwrap();
    for part in 0..10 {
        let records =
            (part * 500..(part + 1) * 500).map(|number| record(&format!("k{}", number % KEYS), number));
        publish(&client, &source, records).await;
    }
    let info = done(&client).await;
    let mut passed = BTreeMap::<usize, Vec<usize>>::new();
    for payload in all(&client, "sink").await {
        let number: usize = payload.parse().unwrap();
        passed.entry(number % KEYS).or_default().push(number);
    }
    for (key, numbers) in &passed {
        let wanted: Vec<_> = (0..FIRST as usize).map(|nth| key + nth * KEYS).collect();
        assert_eq!(numbers, &wanted, "the first of each key, in order");
    }
    assert_eq!((passed.len(), all(&client, "over").await.len()), (KEYS, 5_000 - KEYS * FIRST as usize));
    assert_eq!((info.counters.records_in, info.counters.records_out), (5_000, 1_000));
}

//! Processors on the command line, and over kills: each record counts once.

use std::collections::BTreeMap;

use millstream_client::{
    Binding, Client, ConnectOptions, DeadLetters, NewProcessor, OnFault, ProcessorConfig, Record, StartAt,
    SubscribeOptions, SubscriptionName, TopicConfig, TopicName,
};
use millstream_tests::{Binary, publish, read_all, soak, soon};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_processor_is_created_looked_into_paused_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    broker.run(["topic", "create", "orders"]).ok();
    let config = r#"{"by": {"header": "id"}, "within_seconds": 600}"#;
    let create =
        ["processor", "create", "once", "--from", "orders", "--to", "orders-once", "--module", "std/dedup"];
    let created = broker.run(create.iter().copied().chain(["--config", config])).ok();
    assert!(created.contains("processor once runs over orders"), "{created}");
    let orders = "{\"id\": 1}\n{\"id\": 2}\n{\"id\": 1}\n";
    broker.run_with(["publish", "orders", "--format", "ndjson", "--header", "id"], orders).ok();
    let described = || json(&broker.run(["--json", "processor", "describe", "once"]).ok());
    while described()["unscanned"] != 0 {}
    let found = broker.run(["subscribe", "orders-once", "--until-end"]).ok();
    assert_eq!(found.lines().count(), 2, "{found}");

    let shown = broker.run(["processor", "describe", "once"]).ok();
    for part in ["from          orders", "to            orders-once", "remembers     5 entries", "at most 64"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let listed = broker.run(["processor", "list"]).ok();
    assert!(listed.contains("orders-once") && listed.contains("5 entries"), "{listed}");
    assert!(broker.run(["subscription", "list"]).ok().contains("processor"));
    let state = broker.run(["processor", "state", "once", "--prefix", "seen", "--limit", "1"]).ok();
    assert_eq!(state.lines().count(), 1, "{state}");
    assert!(broker.run(["processor", "pause", "once"]).ok().contains("is paused"));
    assert_eq!(described()["state"], "paused");
    assert!(broker.run(["processor", "resume", "once"]).ok().contains("goes on"));

    let refused = broker.run(["module", "delete", "std/dedup"]).fails(1);
    assert!(refused.contains("comes with the broker"), "{refused}");
    let refused = broker.run(["subscribe", "orders", "--name", "once", "--until-end"]).fails(1);
    assert!(refused.contains("is a processor"), "{refused}");
    let refused = broker.run(["subscribe", "orders", "--module", "std/dedup", "--config", config]).fails(1);
    assert!(refused.contains("millstream processor create"), "{refused}");
    broker.run(["subscription", "create", "s", "orders"]).ok();
    assert!(
        broker.run(["processor", "describe", "s"]).fails(1).contains("is a subscription, not a processor")
    );
    assert!(broker.run(["processor", "delete", "s"]).fails(1).contains("is a subscription, not a processor"));
    assert!(
        broker.run(["subscription", "delete", "once"]).fails(1).contains("millstream processor delete once")
    );
    broker.run(["processor", "delete", "once"]).ok();
    assert_eq!(broker.run(["--json", "processor", "list"]).ok().trim(), "[]");
}

const KEYS: usize = 7;
const FIRST: usize = 900;
const RECORDS: usize = 12_000;

/// The first of each key go to one topic and the others to another, while the broker is killed again and again. If what is
/// remembered, what is made and how far it came were not one step, some would be missing, twice, or in the wrong one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_counts_once_over_kills() {
    let dir = tempfile::tempdir().unwrap();
    let [source, sink, over]: [TopicName; 3] = ["t", "sink", "over"].map(|name| name.parse().unwrap());
    let name: SubscriptionName = "p".parse().unwrap();
    let records = RECORDS * soak(1, 20);
    let mut broker = Binary::serve(dir.path());
    let mut client = connect(&broker).await;
    for topic in [&source, &sink, &over] {
        client
            .create_topic(topic.clone(), TopicConfig { partitions: 3, ..TopicConfig::default() })
            .await
            .unwrap();
    }
    let config = format!(r#"{{"records": {FIRST}, "per_seconds": 31622400, "over": "over"}}"#);
    client
        .create_processor(NewProcessor {
            name: name.clone(),
            config: ProcessorConfig {
                sources: vec![source.clone().into()],
                sink: Some(sink.clone()),
                state_bytes_max: ProcessorConfig::STATE_BYTES,
            },
            from: StartAt::Earliest,
            pipeline: vec![Binding { module: "std/throttle".into(), config }],
            on_fault: OnFault::Halt,
            dead_letters: DeadLetters::Auto,
        })
        .await
        .unwrap();
    let (rounds, mut processed) = (soak(6, 60), 0);
    for round in 0..rounds {
        let part = round * records / rounds..(round + 1) * records / rounds;
        let part = part.map(|number| Record::new(number.to_string()).with_key(format!("k{}", number % KEYS)));
        publish(&client, &source, part).await;
        // Somewhere in the middle, once it has come on.
        let came = async {
            loop {
                let info = client.describe_subscription(name.clone()).await.unwrap();
                let settled: u64 = info.positions.iter().map(|at| at.settled).sum();
                if settled > processed {
                    return settled;
                }
            }
        };
        processed = soon("the processor to come on", came).await;
        client.close().await;
        broker.kill();
        broker = Binary::serve(dir.path());
        client = connect(&broker).await;
    }
    let done = async { while client.describe_subscription(name.clone()).await.unwrap().unscanned > 0 {} };
    soon("the rest", done).await;

    let mut wanted = (Vec::new(), Vec::new());
    let mut seen = BTreeMap::<usize, usize>::new();
    for number in 0..records {
        let seen = seen.entry(number % KEYS).or_default();
        *seen += 1;
        if *seen <= FIRST { wanted.0.push(number) } else { wanted.1.push(number) }
    }
    for (topic, wanted) in [(&sink, wanted.0), (&over, wanted.1)] {
        let options = SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest);
        let mut found: Vec<usize> = read_all(&client, options)
            .await
            .into_iter()
            .map(|(_, _, payload)| payload.parse().unwrap())
            .collect();
        found.sort_unstable();
        assert!(found == wanted, "{topic}: {} records, and {} are to be there", found.len(), wanted.len());
    }
    let state = client.processor_state(name, Vec::new(), None, 100).await.unwrap();
    let counted =
        state.iter().filter_map(|(_, value)| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    assert_eq!(counted.sum::<usize>(), records, "what is remembered");
}

async fn connect(broker: &Binary) -> Client {
    let options = ConnectOptions::default();
    soon("a connection", Client::connect(&broker.url().parse().unwrap(), options)).await.unwrap()
}

//! Other modules for a subscription in use: on the command line, and over kills.

use std::collections::BTreeSet;

use millstream_client::{
    Binding, Client, ConnectOptions, DeliveryConfig, NewSubscription, OnFault, Rebinding, Record, StartAt,
    SubscribeOptions, SubscriptionName, TopicConfig, TopicName,
};
use millstream_tests::{Binary, publish, read_all, soak, soon};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn modules_are_bound_compared_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    broker.run(["topic", "create", "t"]).ok();
    let filter = |limit: u32| format!(r#"{{"pointer": "/n", "gt": {limit}}}"#);
    broker.run(["subscription", "create", "s", "t", "--module", "std/json", "--config", &filter(10)]).ok();
    let records: String = (0..20).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    let publish = || broker.run_with(["publish", "t", "--format", "ndjson"], &records).ok();
    let read = || broker.run(["subscribe", "t", "--name", "s", "--until-end"]).ok().lines().count();
    publish();
    assert_eq!(read(), 9);

    let started = broker.run(["module", "shadow", "s", "--module", "std/json", "--config", &filter(15)]).ok();
    assert!(started.contains("compared      0 records"), "{started}");
    publish();
    assert_eq!(read(), 9);
    soon_sync(|| broker.run(["module", "shadow", "s"]).ok().contains("20 records, 15 the same, 5 different"));
    let told = broker.run(["module", "shadow", "s"]).ok();
    assert!(told.contains("5 from keep to drop") && told.contains("t 0 offset 31: keep -> drop"), "{told}");
    let told = json(&broker.run(["--json", "module", "shadow", "s"]).ok());
    assert_eq!((&told["compared"], &told["changes"][0]["records"]), (&20.into(), &5.into()));
    let promoted = broker.run(["module", "shadow", "s", "--promote"]).ok();
    assert!(promoted.contains("is at revision 2: std/json@"), "{promoted}");
    publish();
    assert_eq!(read(), 4);

    let bound = broker.run(["module", "bind", "s", "--none", "--on-fault", "skip"]).ok();
    assert!(bound.contains("revision 3: no modules, on a fault skip"), "{bound}");
    publish();
    assert_eq!(read(), 20);
    let back = json(&broker.run(["--json", "module", "rollback", "s", "--to", "1"]).ok());
    assert_eq!((&back["revision"], &back["on_fault"]), (&4.into(), &"dead_letter".into()));
    let shown = broker.run(["subscription", "describe", "s"]).ok();
    assert!(shown.contains("revision      4, on a fault dead-letter"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.starts_with("earlier ")).count(), 3, "{shown}");

    // A record that cannot be judged is told to who follows the module.
    broker.run(["module", "bind", "s", "--module", "std/redact", "--config", r#"{"mask": ["n"]}"#]).ok();
    broker.run_with(["publish", "t", "--format", "lines"], "no JSON\n").ok();
    read();
    let log = broker.run(["module", "logs", "--subscription", "s", "--level", "warn"]).ok();
    assert!(
        log.contains("warn  s std/redact@") && log.contains("topic t partition 0 offset 80: rejected"),
        "{log}"
    );
    assert_eq!(json(log_json(&broker).lines().last().unwrap())["level"], "warn");

    for (arguments, code, said) in [
        (&["module", "bind", "s"][..], 2, "nothing is to be changed"),
        (&["module", "bind", "s", "--none", "--module", "std/json"], 2, "--none stands beside --module"),
        (&["module", "bind", "s", "--module", "std/json", "--config", "{}"], 1, "refused its configuration"),
        (&["module", "bind", "nobody", "--none"], 1, "nobody"),
        (&["module", "rollback", "s", "--to", "77"], 1, "no earlier revision 77; kept are 1, 2, 3, 4"),
        (&["module", "shadow", "s", "--promote"], 1, "has no shadow"),
        (&["module", "shadow", "s", "--promote", "--stop"], 2, "cannot be used with"),
        (&["module", "logs", "--level", "loud"], 2, "loud"),
    ] {
        let error = broker.run(arguments).fails(code);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn modules_are_replayed_over_what_a_topic_holds() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    broker.run(["topic", "create", "t", "--partitions", "2"]).ok();
    let records: String = (0..100).map(|n| format!("{{\"n\": {n}}}\n")).collect::<String>() + "no JSON\n";
    broker.run_with(["publish", "t", "--format", "lines"], &records).ok();
    let replay = |arguments: &[&str]| {
        let all = [&["--json", "module", "replay", "--topic", "t"], arguments].concat();
        json(&broker.run(all).ok())
    };
    let filter = |limit: u32| format!(r#"{{"pointer": "/n", "gt": {limit}}}"#);
    let (ten, twenty) = (filter(10), filter(20));
    let alone = replay(&["--module", "std/json", "--config", &ten]);
    assert_eq!((&alone["records"], &alone["made"]["keep"]), (&101.into(), &89.into()));
    assert!(alone.get("against").is_none());
    let two = replay(&[
        "--module",
        "std/json",
        "--config",
        &ten,
        "--against",
        "std/json",
        "--against-config",
        &twenty,
    ]);
    let against = &two["against"];
    assert_eq!((&against["compared"], &against["same"]), (&101.into(), &91.into()));
    assert_eq!(against["changes"], serde_json::json!([{ "from": "keep", "to": "drop", "records": 10 }]));
    assert_eq!(against["samples"].as_array().unwrap().len(), 10);
    // What is rejected is told, and where records would go; nothing goes there.
    let route = r#"{"template": "by.{/n}"}"#;
    let routed = replay(&["--module", "std/route", "--config", route, "--records", "101"]);
    assert_eq!((&routed["made"]["route"], &routed["made"]["reject"]), (&100.into(), &1.into()));
    assert!(routed["refused"][0]["what"].as_str().unwrap().contains("the payload is not JSON"), "{routed}");
    assert_eq!(json(&broker.run(["--json", "topic", "list"]).ok()).as_array().unwrap().len(), 1);
    assert_eq!(replay(&["--module", "std/json", "--config", &ten, "--records", "7"])["records"], 7);
    let shown = broker
        .run([
            "module",
            "replay",
            "--topic",
            "t",
            "--module",
            "std/json",
            "--config",
            &ten,
            "--against",
            "std/redact",
            "--against-config",
            r#"{"mask": ["n"]}"#,
        ])
        .ok();
    assert!(shown.contains("89 from keep to change") && shown.contains("11 from drop to change"), "{shown}");
    for (arguments, said) in [
        (&["module", "replay", "--topic", "t"][..], "no module is named"),
        (&["module", "replay", "--topic", "u", "--module", "std/json", "--config", "{}"], "std/json"),
        (&["module", "replay", "--topic", "t", "--module", "no.wasm"], "no module file no.wasm"),
    ] {
        let error = broker.run(arguments).fails(1);
        assert!(error.contains(said), "{error}");
    }
}

fn log_json(broker: &Binary) -> String {
    broker.run(["--json", "module", "logs", "--subscription", "s"]).ok()
}

fn soon_sync(mut holds: impl FnMut() -> bool) {
    // Each look is a process of its own.
    assert!((0..200).any(|_| holds()), "it did not come");
}

/// Versions of a route take over from each other while the broker is killed: each record is routed once, by one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_is_routed_by_one_version_over_kills() {
    let rounds = soak(5, 40);
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Binary::serve(dir.path());
    let address = broker.address().to_owned();
    let client = Client::connect(&broker.url().parse().unwrap(), ConnectOptions::default()).await.unwrap();
    let (topic, name): (TopicName, SubscriptionName) = ("t".parse().unwrap(), "s".parse().unwrap());
    client
        .create_topic(topic.clone(), TopicConfig { partitions: 2, ..TopicConfig::default() })
        .await
        .unwrap();
    let version = |number: usize| {
        let config = format!(r#"{{"header": "none", "table": {{"x": "x"}}, "default": "sink.v{number}"}}"#);
        vec![Binding { module: "std/route".into(), config }]
    };
    let new = NewSubscription {
        name: name.clone(),
        topic: topic.clone().into(),
        from: StartAt::Earliest,
        pipeline: version(0),
        on_fault: OnFault::DeadLetter,
        delivery: DeliveryConfig::default(),
    };
    client.create_subscription(new).await.unwrap();
    let reader = client.clone();
    let options = SubscribeOptions::durable(topic.clone(), name.clone());
    let reading = tokio::spawn(async move {
        let mut consumer = reader.subscribe(options).await.unwrap();
        while let Some(Ok(_)) = consumer.next_event().await {}
    });
    const EACH: usize = 3_000;
    let mut bound = 0;
    for round in 0..rounds {
        let records = (0..EACH).map(|n| {
            let number = round * EACH + n;
            Record::new(number.to_string()).with_key(number.to_string())
        });
        soon("the broker to be back", async { while client.ping().await.is_err() {} }).await;
        publish(&client, &topic, records).await;
        let rebinding = Rebinding::To { pipeline: Some(version(round + 1)), on_fault: None };
        bound = client.rebind(name.clone(), rebinding).await.unwrap().revision;
        // In the middle of it, and the next round right behind.
        broker.kill();
        broker = Binary::serve_at(dir.path(), &address);
    }
    assert_eq!(bound, rounds as u64 + 1, "what was bound is bound after a kill");
    soon("everything to be routed", async {
        loop {
            let info = client.describe_subscription(name.clone()).await.unwrap();
            if info.positions.iter().map(|at| at.settled).sum::<u64>() == (rounds * EACH) as u64 {
                return;
            }
        }
    })
    .await;
    reading.abort();
    let mut found = BTreeSet::new();
    for number in 0..=rounds {
        let sink: TopicName = format!("sink.v{number}").parse().unwrap();
        if client.describe_topic(sink.clone()).await.is_err() {
            continue;
        }
        for (_, _, payload) in
            read_all(&client, SubscribeOptions::ephemeral(sink).from(StartAt::Earliest)).await
        {
            assert!(found.insert(payload.parse::<usize>().unwrap()), "{payload} is there twice");
        }
    }
    assert!(found.into_iter().eq(0..rounds * EACH), "a record is lost");
}

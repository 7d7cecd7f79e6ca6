//! What operators watch, and what modules are granted.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use millstream_client::{Binding, Client, ErrorCode, OnFault, Record, StartAt, SubscribeOptions, TopicName};
use millstream_engine::{Capability, Isolation};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, drain, publish};
use millstream_types::SubscriptionState;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::messages::code;

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The samples of an answer: name and labels, and the value.
fn samples(answer: &str) -> BTreeMap<String, f64> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("text/plain; version=0.0.4"), "{head}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn counting(topic: &TopicName) -> SubscribeOptions {
    let options = SubscribeOptions::durable(topic.clone(), "counted".parse().unwrap());
    let mut options = options.from(StartAt::Earliest).with_module("meter@1", "{}").until_end();
    options.on_fault = OnFault::Skip;
    options
}

async fn with_meter(server: &TestServer) -> (Client, TopicName) {
    let (client, topic) = server.topic("t", 1).await;
    client.put_module("meter@1".parse().unwrap(), guest("meter").into()).await.unwrap();
    publish(&client, &topic, "aab!-".chars().map(|letter| Record::new(letter.to_string()))).await;
    (client, topic)
}

#[tokio::test]
async fn metrics_tell_how_all_stands_and_what_modules_use_and_count() {
    let server = TestServer::start_with(|config| config.metrics_listen = Some(ANYWHERE)).await;
    let (client, topic) = with_meter(&server).await;
    let binding = Binding { module: "std/schema".into(), config: r#"{"schema": {"type": "string"}}"#.into() };
    let judged: TopicName = "judged".parse().unwrap();
    client.create_judged_topic(judged.clone(), Default::default(), vec![binding]).await.unwrap();
    publish(&client, &judged, [Record::new(r#""x""#)]).await;
    let mut consumer = client.subscribe(counting(&topic)).await.unwrap();
    assert_eq!(drain(&mut consumer).await.len(), 4);

    let found = samples(&server.metrics().await);
    let value = |name: &str| *found.get(name).unwrap_or_else(|| panic!("no {name} in {found:#?}"));
    let at = r#"subscription="counted",module="meter@1""#;
    for (name, wanted) in [
        ("millstream_topics".to_owned(), 2.0),
        ("millstream_subscriptions".into(), 1.0),
        ("millstream_slow_downs_total".into(), 0.0),
        (r#"millstream_topic_records{topic="t"}"#.into(), 5.0),
        (
            r#"millstream_subscription_records_total{subscription="counted",topic="t",result="in"}"#.into(),
            5.0,
        ),
        (
            r#"millstream_subscription_records_total{subscription="counted",topic="t",result="faulted"}"#
                .into(),
            1.0,
        ),
        (r#"millstream_subscription_faulted{subscription="counted",topic="t"}"#.into(), 0.0),
        (r#"millstream_ingest_records_total{topic="judged",result="in"}"#.into(), 1.0),
        (r#"millstream_ingest_faulted{topic="judged"}"#.into(), 0.0),
        (format!("millstream_module_call_budget_seconds{{{at}}}"), 0.05),
        (format!("millstream_module_memory_bytes{{{at}}}"), 128.0 * 1024.0),
        (format!("millstream_module_memory_budget_bytes{{{at}}}"), 16.0 * 1024.0 * 1024.0),
        (format!("millstream_module_metrics_left_out_total{{{at}}}"), 1.0),
        (format!(r#"millstream_module_counter_total{{{at},counter="a"}}"#), 2.0),
        (format!(r#"millstream_module_counter_total{{{at},counter="b"}}"#), 1.0),
    ] {
        assert_eq!(value(&name), wanted, "{name}");
    }
    let [calls, faults, seconds, longest] =
        ["calls_total", "faults_total", "seconds_total", "longest_call_seconds"]
            .map(|name| value(&format!("millstream_module_{name}{{{at}}}")));
    assert!(calls > faults && faults > 0.0 && seconds >= longest && longest > 0.0);
    let gauge = value(&format!(r#"millstream_module_gauge{{{at},gauge="calls"}}"#));
    assert!((1.0..=calls).contains(&gauge), "{gauge} of {calls}");
    let schema = found.keys().find(|name| {
        name.starts_with(
            r#"millstream_module_records_total{subscription="ingest.judged",module="std/schema@"#,
        )
    });
    assert_eq!(schema.map(|name| found[name]), Some(1.0));

    // The same is told over the protocol.
    let info = client.describe_subscription("counted".parse().unwrap()).await.unwrap();
    let counted = &info.modules[0].metrics;
    assert_eq!((counted.counters["a"], counted.counters["b"], counted.left_out), (2, 1, 1));
    assert_eq!(client.describe_module("meter").await.unwrap().usage.unwrap().metrics.counters["a"], 2);
}

#[tokio::test]
async fn whoever_asks_for_something_else_is_told() {
    let server = TestServer::start_with(|config| config.metrics_listen = Some(ANYWHERE)).await;
    for (request, wanted) in [
        ("GET /", "404 Not Found"),
        ("POST /metrics", "405 Method Not Allowed"),
        ("nonsense", "400 Bad Request"),
    ] {
        let answer = server.get(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}")), "{request}: {answer}");
    }
    let head = server.get("HEAD /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    samples(&server.metrics().await);
}

#[tokio::test]
async fn whoever_asks_and_goes_or_never_asks_holds_up_nobody() {
    let server = TestServer::start_with(|config| config.metrics_listen = Some(ANYWHERE)).await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(server.metrics_address()).await.unwrap());
    }
    for _ in 0..100 {
        let mut gone = TcpStream::connect(server.metrics_address()).await.unwrap();
        gone.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    }
    samples(&server.metrics().await);
    // Those that are still there do not keep the store.
    let server = server.restart().await;
    samples(&server.metrics().await);
    drop(silent);
}

#[tokio::test]
async fn modules_have_what_the_operator_grants() {
    let only_log = |config: &mut millstream_server::ServerConfig| {
        config.modules.granted = [Capability::Log].into();
    };
    let server = TestServer::start().await;
    let (client, topic) = with_meter(&server).await;
    assert_eq!(client.describe_module("meter").await.unwrap().capabilities, ["metrics"]);
    drain(&mut client.subscribe(counting(&topic)).await.unwrap()).await;
    publish(&client, &topic, [Record::new("a")]).await;
    client.close().await;

    // What was bound before waits, and says why; nothing is lost.
    let server = server.restart_with(only_log).await;
    let client = server.client().await;
    let refused = client.put_private_module(guest("meter").into()).await.map(drop);
    assert_eq!(code(refused), ErrorCode::ModuleRefused);
    client.put_private_module(guest("keep_all").into()).await.unwrap();
    let as_it_is = SubscribeOptions::durable(topic.clone(), "counted".parse().unwrap()).until_end();
    let refused = client.subscribe(as_it_is).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("uses `metrics`, which modules are not granted here"), "{refused}");
    let info = client.describe_subscription("counted".parse().unwrap()).await.unwrap();
    assert_eq!((info.state, info.unscanned), (SubscriptionState::Faulted, 1));
    client.close().await;

    let server = server.restart_with(|config| config.modules.granted = Capability::ALL.into()).await;
    let client = server.client().await;
    assert_eq!(drain(&mut client.subscribe(counting(&topic)).await.unwrap()).await.len(), 1);
}

#[tokio::test]
async fn an_instance_for_each_batch_where_the_operator_wants_it() {
    let server = TestServer::start_with(|config| config.modules.isolation = Isolation::Batch).await;
    let (client, topic) = with_meter(&server).await;
    publish(&client, &topic, (0..1_000).map(|_| Record::new("a"))).await;
    assert_eq!(drain(&mut client.subscribe(counting(&topic)).await.unwrap()).await.len(), 1_004);
    let info = client.describe_subscription("counted".parse().unwrap()).await.unwrap();
    let used = &info.modules[0];
    assert!(used.calls >= 4, "{used:?}");
    assert_eq!((used.metrics.gauges["calls"], used.metrics.counters["a"]), (1.0, 1_002));
}

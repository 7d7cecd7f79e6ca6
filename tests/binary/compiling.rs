//! Modules that cost a compiler much, and the memory that hostile ones leave behind.

use std::path::Path;

use millstream_client::{
    Client, ConnectOptions, ErrorCode, OnFault, Record, StartAt, SubscribeOptions, TopicConfig, TopicName,
};
use millstream_test_guests::{compile_bomb, guest};
use millstream_tests::{Binary, millstream, publish, run, soon};

async fn connect(broker: &Binary) -> Client {
    Client::connect(&broker.url().parse().unwrap(), ConnectOptions::default()).await.unwrap()
}

async fn topic(client: &Client, name: &str, payloads: impl IntoIterator<Item = &str>) -> TopicName {
    let topic: TopicName = name.parse().unwrap();
    client.create_topic(topic.clone(), TopicConfig::default()).await.unwrap();
    publish(client, &topic, payloads.into_iter().map(|payload| Record::new(payload.to_owned()))).await;
    topic
}

fn compiled(data: &Path) -> usize {
    let files = std::fs::read_dir(data.join("compiled")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "cwasm")).count()
}

/// What `std/headers` leaves of a topic of three records.
async fn judged(client: &Client, topic: &TopicName) -> usize {
    let options = SubscribeOptions::ephemeral(topic.clone())
        .from(StartAt::Earliest)
        .with_module("std/headers", r#"{"header": "x", "exists": false}"#)
        .until_end();
    let mut consumer = client.subscribe(options).await.unwrap();
    let mut count = 0;
    while let Some(message) = soon("a record or the end", consumer.next_message()).await {
        consumer.ack(&message.unwrap());
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compile_bomb_is_ended_and_the_broker_lives() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("millstream.toml"));
    std::fs::write(&file, "[modules]\ncompile_ms = 6000\n").unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()];
    let broker = Binary::serve_with(&data, &flags);
    let client = connect(&broker).await;
    let topic = topic(&client, "t", ["a", "b", "c"]).await;
    assert_eq!(judged(&client, &topic).await, 3);
    assert_eq!(compiled(&data), 1, "in a process of its own");
    // 9 MB that take an optimising compiler tens of seconds.
    let bomb = compile_bomb(190, 3_700);
    assert!(bomb.len() > 8 << 20 && bomb.len() < 10 << 20, "{}", bomb.len());
    let refused = client.put_module("bomb@1".parse().unwrap(), bomb.into()).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::ModuleRefused), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("6000 ms") && said.contains("modules.compile_ms"), "{said}");
    // Nobody is the worse for it.
    client.put_module("fine@1".parse().unwrap(), guest("keep_all").into()).await.unwrap();
    assert_eq!(judged(&client, &topic).await, 3);
    assert_eq!(compiled(&data), 2);
    let modules = client.list_modules().await.unwrap();
    assert!(modules.iter().all(|module| module.name != "bomb@1"));
    assert!(children(broker.pid()).is_empty(), "no compiler is left");
}

/// Processes whose parent is `pid`.
fn children(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok());
    of.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn whoever_types_it_by_hand_is_told_and_gets_nothing() {
    let compile = |order: &str, input: &str| {
        run(std::process::Command::new(millstream()).args(["compile-module", order]), input)
    };
    let output = compile("{}", "");
    assert_eq!((output.code, output.stdout.as_str()), (Some(3), ""));
    assert!(output.stderr.contains("cannot be set up"), "{}", output.stderr);
    let order =
        r#"{"target":{"memory_reservation":null,"fuel":false},"cpu_ms":10000,"address_bytes":2000000000}"#;
    let output = compile(order, "nonsense");
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    // Less than a compiler needs: it dies, and alone.
    let order = r#"{"target":{"memory_reservation":null,"fuel":false},"cpu_ms":10000,"address_bytes":1000}"#;
    let output = compile(order, "nonsense");
    assert!(!matches!(output.code, Some(0)), "{}", output.stderr);
}

fn resident_mib(broker: &Binary) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1_024
}

/// So much more than before hostile modules may be resident after them: what allocators and pools keep.
const LEFT_MIB_MAX: u64 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_returns_after_storms_of_hostile_modules() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    let client = connect(&broker).await;
    let honest = topic(&client, "honest", ["a", "b", "c"]).await;
    assert_eq!(judged(&client, &honest).await, 3);
    let before = resident_mib(&broker);
    // Takes all its memory, answers too much, writes lines without end, overflows its stack, grows its table, traps.
    let poison = topic(&client, "poison", ["M", "O", "V", "S", "G", "T", "E", "W", "-", "M", "O", "-"]).await;
    client.put_module("hostile@1".parse().unwrap(), guest("hostile").into()).await.unwrap();
    let mut most = before;
    for _ in 0..4 {
        let mut storm = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (client, poison) = (connect(&broker).await, poison.clone());
            storm.spawn(async move {
                let mut options = SubscribeOptions::ephemeral(poison)
                    .from(StartAt::Earliest)
                    .with_module("hostile@1", "\"\"")
                    .until_end();
                options.on_fault = OnFault::Skip;
                let mut consumer = client.subscribe(options).await.unwrap();
                let mut kept = 0;
                while let Some(message) = soon("a record or the end", consumer.next_message()).await {
                    consumer.ack(&message.unwrap());
                    kept += 1;
                }
                assert!(kept >= 2, "what does nothing is kept");
            });
        }
        while let Some(ended) = storm.join_next().await {
            ended.unwrap();
            most = most.max(resident_mib(&broker));
        }
    }
    soon("memory to return", async {
        while resident_mib(&broker) > before + LEFT_MIB_MAX {
            assert_eq!(judged(&client, &honest).await, 3);
        }
    })
    .await;
    println!("{before} MiB before, at most {most} MiB, {} MiB after", resident_mib(&broker));
}

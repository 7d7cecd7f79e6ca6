//! The command line as scripts rely on it.

use millstream_tests::Binary;

fn broker() -> (Binary, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    (Binary::serve(dir.path()), dir)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn csv_goes_in_and_json_comes_out() {
    let (broker, dir) = broker();
    let file = dir.path().join("in.csv");
    std::fs::write(&file, "id,carrier,delay,note\n1,UA,2.50,\"a, b\"\n2,AA,NA,\n3,UA,-7,x\n").unwrap();
    broker.run(["topic", "create", "flights", "--partitions", "2"]).ok();
    let summary = broker.run([
        "--json",
        "publish",
        "flights",
        file.to_str().unwrap(),
        "--format",
        "csv",
        "--key",
        "carrier",
        "--header",
        "carrier",
        "--set-header",
        "source=test",
    ]);
    assert_eq!(json(&summary.ok())["records"], 3);
    let read =
        broker.run(["subscribe", "flights", "--from", "earliest", "--until-end", "--format", "json"]).ok();
    let mut records: Vec<_> = read.lines().map(json).collect();
    records.sort_by_key(|record| record["payload"]["id"].as_i64());
    assert_eq!(records.len(), 3);
    // Numbers keep their digits; NA and empty are null.
    assert!(read.contains("2.50"), "{read}");
    assert_eq!(records[0]["payload"]["note"], "a, b");
    assert!(records[1]["payload"]["delay"].is_null() && records[1]["payload"]["note"].is_null());
    assert_eq!(records[2]["payload"]["delay"], -7);
    assert_eq!((&records[0]["key"], &records[0]["headers"]["carrier"]), (&"UA".into(), &"UA".into()));
    assert_eq!((&records[0]["headers"]["source"], &records[0]["topic"]), (&"test".into(), &"flights".into()));

    let filtered = broker.run([
        "subscribe",
        "flights",
        "--until-end",
        "--format",
        "json",
        "--module",
        "std/headers",
        "--config",
        r#"{"header": "carrier", "equals": "UA"}"#,
        "--module",
        "std/json",
        "--config",
        r#"{"pointer": "/delay", "lt": 0}"#,
    ]);
    assert_eq!(json(filtered.ok().trim())["payload"]["id"], 3);
}

#[test]
fn a_named_subscription_goes_on_where_it_was() {
    let (broker, _dir) = broker();
    broker.run(["topic", "create", "t"]).ok();
    broker.run_with(["publish", "t", "--format", "lines"], "one\ntwo\nthree\n").ok();
    assert_eq!(broker.run(["subscribe", "t", "--name", "s", "--limit", "2"]).ok(), "one\ntwo\n");
    assert_eq!(broker.run(["subscribe", "t", "--name", "s", "--until-end"]).ok(), "three\n");
    assert_eq!(broker.run(["subscribe", "t", "--name", "s", "--until-end"]).ok(), "");
    let info = json(&broker.run(["--json", "subscription", "describe", "s"]).ok());
    assert_eq!(info["positions"][0]["settled"], 3);
    broker.run(["subscription", "delete", "s"]).ok();
    assert!(!broker.run(["subscription", "list"]).ok().contains('s'));
}

#[test]
fn a_pattern_reads_topics_that_come_and_go() {
    let (broker, _dir) = broker();
    let subscribe =
        || broker.run(["subscribe", "o.*", "--name", "s", "--until-end", "--format", "json"]).ok();
    assert_eq!(subscribe(), "", "there is no topic yet");
    for topic in ["o.a", "o.b", "p.a"] {
        broker.run(["topic", "create", topic]).ok();
        broker.run_with(["publish", topic, "--format", "lines"], &format!("to {topic}\n")).ok();
    }
    let brought = |lines: String| -> Vec<_> {
        let mut brought: Vec<_> =
            lines.lines().map(|line| (json(line)["topic"].clone(), json(line)["payload"].clone())).collect();
        brought.sort_by_key(|(topic, _)| topic.to_string());
        brought
    };
    let line = |topic: &str| (topic.into(), format!("to {topic}").into());
    assert_eq!(brought(subscribe()), [line("o.a"), line("o.b")]);
    broker.run(["topic", "delete", "o.a"]).ok();
    broker.run(["topic", "create", "o.c"]).ok();
    broker.run_with(["publish", "o.c", "--format", "lines"], "to o.c\n").ok();
    assert_eq!(brought(subscribe()), [line("o.c")]);
    let info = json(&broker.run(["--json", "subscription", "describe", "s"]).ok());
    assert_eq!(info["topic"], "o.*");
    assert_eq!(info["positions"][1]["topic"], "o.c");
    let table = broker.run(["subscription", "describe", "s"]).ok();
    assert!(table.contains("o.b 0") && table.contains("o.c 0"), "{table}");
    let worked =
        broker.run(["work", "o.>", "w", "--limit", "2", "--", "sh", "-c", "echo $MILLSTREAM_TOPIC >&2"]);
    assert!(worked.stderr.contains("2 records done"), "{worked:?}");
}

#[test]
fn bad_input_is_named_and_nothing_happens() {
    let (broker, dir) = broker();
    broker.run(["topic", "create", "t"]).ok();
    let missing = dir.path().join("missing.csv");
    let missing = missing.to_str().unwrap();
    for (args, input, code, told) in [
        (&["publish", "nowhere", "--format", "lines"][..], "x\n", 1, "topic nowhere does not exist"),
        (&["publish", "t", missing, "--format", "csv"], "", 1, "missing.csv"),
        (&["publish", "t", "--format", "csv"], "a,b\n1,2\n1,2,3\n", 1, "3"),
        (&["publish", "t", "--format", "ndjson"], "{\"a\": 1}\n{oops\n", 1, "line 2"),
        (&["publish", "t", "--format", "xml"], "", 2, "xml"),
        (&["topic", "create", "a..b"], "", 2, "a..b"),
        (&["topic", "create", "t", "--partitions", "7"], "", 1, "other settings"),
        (&["topic", "describe", "nowhere"], "", 1, "nowhere"),
        (&["topic", "update", "nowhere", "--retention-age", "7d"], "", 1, "nowhere"),
        (&["topic", "update", "t"], "", 2, "--retention-age"),
        (&["topic", "update", "t", "--retention-age", "7"], "", 2, "12h"),
        (&["topic", "create", "u", "--retention-bytes", "0"], "", 2, "more than 0"),
        (&["subscribe", "t", "--from", "offset:99", "--until-end"], "", 1, "99"),
        (&["subscribe", "t.*", "--from", "offset:0", "--until-end"], "", 1, "several topics"),
        (&["subscribe", "t.*x", "--until-end"], "", 2, "matches one segment"),
        (&["publish", "t.*", "--format", "lines"], "x\n", 2, "t.*"),
        (&["subscribe", "t", "--from", "yesterday"], "", 2, "yesterday"),
        (&["subscribe", "t", "--module", "std/headers", "--config", "{\"header\": 1}"], "", 1, "header"),
        (&["subscribe", "t", "--module", "std/headers", "--config", "{"], "", 1, "JSON"),
        (&["module", "push", missing, "--name", "m@1"], "", 1, "missing.csv"),
        (&["module", "describe", "nothing"], "", 1, "nothing"),
        (&["subscription", "describe", "nothing"], "", 1, "nothing"),
    ] {
        let output = broker.run_with(args, input);
        let told_at = output.stderr.contains(told);
        assert!(output.code == Some(code) && told_at, "{args:?}: {code} and {told:?} expected: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    }
    // What came before the bad line is in, and said to be.
    let records = json(&broker.run(["--json", "topic", "describe", "t"]).ok())["records"].as_u64();
    assert!(records <= Some(2), "{records:?}");
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let args = ["--connect-timeout", "300ms", "--url", "millstream://127.0.0.1:9?pin=sha256:00"];
    let mut command = std::process::Command::new(millstream_tests::millstream());
    let bad_pin = millstream_tests::run(command.args(args).args(["topic", "list"]), "");
    assert!(bad_pin.fails(2).contains("sha256"));
    let pin = format!("millstream://127.0.0.1:9?pin=sha256:{}", "00".repeat(32));
    let mut command = std::process::Command::new(millstream_tests::millstream());
    let away = command.args(["--connect-timeout", "300ms", "--url", &pin, "topic", "list"]);
    assert!(millstream_tests::run(away, "").fails(1).contains("127.0.0.1:9"));

    let (broker, _dir) = broker();
    let authority = broker.url().split('?').next().unwrap();
    let mut command = std::process::Command::new(millstream_tests::millstream());
    let wrong = format!("{authority}?pin=sha256:{}", "00".repeat(32));
    let output = millstream_tests::run(command.args(["--url", &wrong, "topic", "list"]), "");
    assert!(output.fails(1).contains("pin"));
}

#[test]
fn a_certificate_file_is_trusted() {
    let (broker, dir) = broker();
    let authority = broker.url().split('?').next().unwrap();
    let url = format!("{authority}?ca={}", dir.path().join("tls/cert.pem").display());
    let mut command = std::process::Command::new(millstream_tests::millstream());
    millstream_tests::run(command.args(["--url", &url, "topic", "create", "t"]), "").ok();
}

//! "Slow down" on the command line: settings, what they look like, and what publishers are told.

use millstream_tests::Binary;

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_topic_s_rate_is_set_shown_kept_and_told_once_to_who_publishes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    let created = broker.run(["topic", "create", "t", "--rate-records", "20"]).ok();
    assert!(created.contains("publish at most 20 records/s"), "{created}");
    for (flag, value, remedy) in [
        ("--rate-records", "0", "more than 0"),
        ("--rate-bytes", "fast", "10GiB"),
        ("--rate-bytes", "10", ""),
    ] {
        let code = if remedy.is_empty() { 1 } else { 2 };
        let refused = broker.run(["topic", "update", "t", flag, value]).fails(code);
        assert!(
            refused.contains(if code == 1 { "1024 or more" } else { remedy }),
            "{flag} {value}: {refused}"
        );
    }
    // Small batches: each is a record or two.
    let lines: String = (0..40).map(|n| format!("record {n}\n")).collect();
    let publish = ["publish", "t", "--format", "lines", "--batch-bytes", "1"];
    let published = broker.run_with(publish, &lines);
    assert_eq!(published.stderr.matches("slow down").count(), 1, "{}", published.stderr);
    assert!(published.stderr.contains("the topic takes 20 records a second"), "{}", published.stderr);
    assert!(published.ok().contains("slowed down"));
    let as_json = broker.run_with([&publish[..], &["--json"]].concat(), &lines);
    assert!(!as_json.stderr.contains("slow down"), "{}", as_json.stderr);
    assert!(json(&as_json.ok())["slowed_seconds"].as_f64().unwrap() > 0.0);
    drop(broker);

    let broker = Binary::serve(dir.path());
    let described = broker.run(["topic", "describe", "t"]).ok();
    assert!(described.contains("publish     at most 20 records/s"), "{described}");
    let described = json(&broker.run(["topic", "describe", "t", "--json"]).ok());
    assert_eq!(described["rate"], serde_json::json!({ "bytes_per_s": null, "records_per_s": 20 }));
    let updated = broker.run(["topic", "update", "t", "--rate-records", "none"]).ok();
    assert!(!updated.contains("publish at most"), "{updated}");
}

#[test]
fn settings_with_which_nobody_can_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("millstream.toml");
    std::fs::write(&config, "[publish]\nconnection_bytes = 0\n").unwrap();
    let mut serve = std::process::Command::new(millstream_tests::millstream());
    serve.arg("serve").arg("--data").arg(dir.path()).arg("--config").arg(&config);
    let refused = millstream_tests::run(&mut serve, "").fails(2);
    assert!(refused.contains("publish.connection_bytes is 0: write 1048576 or more"), "{refused}");
}

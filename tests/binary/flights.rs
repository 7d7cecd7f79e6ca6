//! Real data: the January 2013 flights, with counts that were computed without Millstream.

use std::{collections::BTreeMap, process::Command};

use millstream_tests::{Binary, millstream, root, run};

#[test]
fn late_departures_from_jfk_are_523() {
    let packed = std::fs::read(root().join("examples/flights/flights-2013-01.csv.zst")).expect("the flights");
    let csv = String::from_utf8(zstd::decode_all(&packed[..]).expect("zstd")).expect("text");
    let dir = tempfile::tempdir().expect("a folder");
    let broker = Binary::serve(dir.path());
    broker.run(["topic", "create", "flights", "--partitions", "4"]).ok();
    let args = [
        "publish", "flights", "-", "--format", "csv", "--key", "tailnum", "--header", "origin", "--header",
        "carrier",
    ];
    broker.run_with(args, &csv).ok();
    let count = |args: &[&str]| {
        let all = [&["subscribe", "flights", "--until-end"], args].concat();
        broker.run(all).ok().lines().count()
    };
    assert_eq!(count(&[]), 27_004);
    let late = r#"{"all": [{"header": "origin", "equals": "JFK"}, {"pointer": "/dep_delay", "gt": 60}]}"#;
    assert_eq!(count(&["--module", "std/json", "--config", late]), 523);
    let united = csv.lines().skip(1).filter(|line| line.split(',').nth(9) == Some("UA")).count();
    assert_eq!(
        count(&["--module", "std/headers", "--config", r#"{"header": "carrier", "equals": "UA"}"#]),
        united
    );
}

/// Flights, minutes late and the worst delay of each carrier in each hour, from the file alone.
fn hours(csv: &str) -> BTreeMap<String, (u64, i64, i64)> {
    let mut hours = BTreeMap::new();
    for line in csv.lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        let Ok(delay) = cells[5].parse::<i64>() else { continue };
        let hour = hours.entry(format!("{} {}", cells[9], cells[18])).or_insert((0, 0, i64::MIN));
        *hour = (hour.0 + 1, hour.1 + delay, hour.2.max(delay));
    }
    hours
}

#[test]
fn delays_per_carrier_and_hour_are_those_of_the_file() {
    let packed = std::fs::read(root().join("examples/flights/flights-2013-01.csv.zst")).expect("the flights");
    let csv = String::from_utf8(zstd::decode_all(&packed[..]).expect("zstd")).expect("text");
    let dir = tempfile::tempdir().expect("a folder");
    let wasm = dir.path().join("carrier-hours.wasm");
    let source = root().join("examples/carrier-hours");
    let mut build = Command::new(millstream());
    build.args(["module", "build"]).arg(&source).arg("-o").arg(&wasm).env("CARGO_NET_OFFLINE", "true");
    run(&mut build, "").ok();

    let mut broker = Binary::serve(&dir.path().join("data"));
    broker.run(["topic", "create", "flights", "--partitions", "4"]).ok();
    broker.run(["module", "push", wasm.to_str().expect("a path"), "--name", "carrier-hours@1"]).ok();
    let create =
        ["processor", "create", "p", "--from", "flights", "--to", "hours", "--module", "carrier-hours@1"];
    broker.run(create).ok();
    broker.run_with(["publish", "flights", "-", "--format", "csv", "--key", "carrier"], &csv).ok();
    // It is killed while it works; what it did until then counts once.
    broker.kill();
    broker = Binary::serve(&dir.path().join("data"));
    let backlog = || {
        let described = broker.run(["--json", "processor", "describe", "p"]).ok();
        serde_json::from_str::<serde_json::Value>(&described).expect("JSON")["unscanned"].clone()
    };
    while backlog() != 0 {}

    let wanted = hours(&csv);
    let mut found = BTreeMap::<String, (u64, i64, i64)>::new();
    let told = broker.run(["--json", "subscribe", "hours", "--until-end"]).ok();
    for line in told.lines() {
        let told: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let (key, hour) = (told["key"].as_str().expect("a key"), &told["payload"]);
        let number = |field: &str| hour[field].as_f64().expect("a number") as i64;
        let last = found.entry(key.to_owned()).or_default();
        assert_eq!(number("flights"), last.0 as i64 + 1, "each flight counts once: {line}");
        *last = (last.0 + 1, number("minutes"), number("worst"));
    }
    assert!(found == wanted, "{} hours, and {} are to be there", found.len(), wanted.len());
}

//! Real data: the January 2013 flights, with counts that were computed without Millstream.

use millstream_tests::{Binary, root};

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

//! The module through the SDK's harness.

use super::*;
use test::Verdict::{Drop, Keep};

fn at(seconds: i64) -> test::TestRecord {
    test::record().timestamp(1_700_000_000_000 + seconds * 1_000)
}

#[test]
fn a_value_goes_through_once_within_the_time() {
    let config = json!({ "by": { "header": "order" }, "within_seconds": 60 });
    let order = |id: &str, seconds| at(seconds).header("order", id.to_owned());
    let verdicts = test::run::<dedup>(
        config,
        [order("1", 1), order("2", 2), order("1", 60), order("1", 61), at(62), at(62), order("1", 63)],
    );
    assert_eq!(verdicts, [Keep, Keep, Drop, Keep, Keep, Keep, Drop]);
}

#[test]
fn a_field_tells_records_apart() {
    let config = json!({ "by": { "pointer": "/id" }, "within_seconds": 60 });
    let records =
        [json!({"id": 7}), json!({"id": "7"}), json!({"id": 8}), json!({"other": 1}), json!({"other": 1})];
    let verdicts = test::run::<dedup>(config, records.map(|record| at(1).json(record)));
    assert_eq!(verdicts, [Keep, Drop, Keep, Keep, Keep], "a number and its text are one");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let refused = |config: Value| test::configure::<dedup>(config).expect_err("refused");
    assert!(refused(json!({ "within_seconds": 0 })).starts_with("config.within_seconds: 0 is not from 1"));
    assert!(refused(json!({})).contains("within_seconds"));
    let long = test::record().key("k".repeat(501));
    let verdicts = test::run::<dedup>(json!({ "within_seconds": 1 }), [long]);
    assert!(verdicts[0].reason().contains("501 bytes; 500 are the most"), "{verdicts:?}");
}

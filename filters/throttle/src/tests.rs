//! The module through the SDK's harness.

use super::*;
use test::Verdict::{Drop, Keep};

fn at(key: &str, seconds: i64) -> test::TestRecord {
    test::record().key(key.to_owned()).timestamp(1_700_000_040_000 + seconds * 1_000)
}

#[test]
fn so_many_of_each_key_go_through_in_each_window() {
    let config = json!({ "records": 2, "per_seconds": 60 });
    let records =
        [at("a", 0), at("a", 1), at("b", 2), at("a", 3), at("b", 59), at("b", 59), at("a", 60), at("a", 5)];
    let verdicts = test::run::<throttle>(&config, records);
    assert_eq!(
        verdicts,
        [Keep, Keep, Keep, Drop, Keep, Drop, Keep, Keep],
        "the last one is late, and counts now"
    );
    assert_eq!(test::run_on::<throttle>(&config, [at("a", 61)]), [Drop]);
    test::run_on::<throttle>(&config, [at("c", 600)]);
    assert_eq!(test::state().len(), 2, "the time, and the one key of this window");
}

#[test]
fn the_others_may_go_elsewhere() {
    let config = json!({ "by": { "header": "user" }, "records": 1, "per_seconds": 1, "over": "slow.lane" });
    let of = |user: &str| at("k", 0).header("user", user.to_owned());
    let verdicts = test::run::<throttle>(config, [of("x"), of("x"), of("y"), at("k", 0), at("k", 0)]);
    let over = verdicts.iter().map(|verdict| match verdict {
        test::Verdict::Emit(outputs) => outputs[0].topic.clone(),
        _ => None,
    });
    let slow = || Some("slow.lane".to_owned());
    assert_eq!(
        over.collect::<Vec<_>>(),
        [None, slow(), None, None, slow()],
        "those without the header are one"
    );
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let refused = |config: Value| test::configure::<throttle>(config).expect_err("refused");
    assert!(refused(json!({ "records": 0, "per_seconds": 1 })).starts_with("config.records: 0 lets nothing"));
    assert!(refused(json!({ "records": 1, "per_seconds": 0 })).starts_with("config.per_seconds: 0 is not"));
    assert!(refused(json!({ "records": 1, "per_seconds": 1, "over": "a b" })).starts_with("config.over: "));
}

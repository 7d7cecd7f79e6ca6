//! The module through the SDK's harness.

use proptest::prelude::*;

use super::*;
use test::Verdict::{Drop, Keep, Reject};

fn kept(config: &Value, records: impl IntoIterator<Item = test::TestRecord>) -> Vec<bool> {
    test::run::<sample>(config, records).iter().map(|verdict| *verdict == Keep).collect()
}

fn share(kept: &[bool]) -> f64 {
    kept.iter().filter(|kept| **kept).count() as f64 / kept.len() as f64
}

#[test]
fn the_hash_is_a_fixed_one() {
    // Whoever samples elsewhere by the same hash gets the same keys: these may never change.
    let keys = (0..12).map(|key| test::record().key(format!("k{key}")));
    let which: Vec<usize> = kept(&json!({"rate": 0.25}), keys)
        .iter()
        .enumerate()
        .filter(|(_, kept)| **kept)
        .map(|(key, _)| key)
        .collect();
    assert_eq!(which, FIXED);
}

const FIXED: [usize; 2] = [2, 11];

#[test]
fn keeps_records_of_a_key_together() {
    let config = json!({"rate": 0.5});
    let records = |payload: &'static str| {
        (0..200).map(move |key| test::record().key(format!("{key}")).payload(payload))
    };
    let (first, second) =
        (kept(&config, records("a")), kept(&config, records("b").map(|record| record.header("h", "x"))));
    assert_eq!(first, second);
    assert!(first.contains(&true) && first.contains(&false));
    assert_ne!(first, kept(&json!({"rate": 0.5, "salt": "other"}), records("a")));
}

#[test]
fn by_a_header_or_a_field() {
    let values = || (0..200).map(|value| value.to_string());
    let by_key = kept(&json!({"rate": 0.3}), values().map(|value| test::record().key(value)));
    let header = json!({"rate": 0.3, "by": {"header": "id"}});
    assert_eq!(kept(&header, values().map(|value| test::record().header("id", value))), by_key);
    let field = json!({"rate": 0.3, "by": {"pointer": "/id"}});
    assert_eq!(kept(&field, values().map(|value| test::record().json(json!({"id": value})))), by_key);
    let numbers = (0..200).map(|value| test::record().json(json!({"id": value})));
    assert_eq!(kept(&field, numbers), by_key);
    assert!(test::configure::<sample>(field.clone()).expect("config").reads_payload);
    assert!(!test::configure::<sample>(header).expect("config").reads_payload);
    assert!(matches!(test::run::<sample>(field, [test::record().payload("{")])[..], [Reject(_)]));
}

#[test]
fn records_without_the_value_are_sampled_one_by_one() {
    let records = || (0..2000).map(|_| test::record().json(json!({"id": null})));
    for by in [json!("key"), json!({"header": "id"}), json!({"pointer": "/id"})] {
        let config = json!({"rate": 0.5, "by": by});
        let first = kept(&config, records());
        assert!((0.4..0.6).contains(&share(&first)), "{}", share(&first));
        assert_eq!(first, kept(&config, records()), "a replay keeps the same");
    }
    assert_eq!(
        kept(&json!({"rate": 0.5}), [test::record().tombstone(), test::record().tombstone()]).len(),
        2
    );
}

#[test]
fn none_and_all() {
    let record = || [test::record().key("a"), test::record()];
    assert_eq!(test::run::<sample>(json!({"rate": 0}), record()), [Drop, Drop]);
    assert_eq!(test::run::<sample>(json!({"rate": 1}), record()), [Keep, Keep]);
}

#[test]
fn refuses_bad_configurations() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<sample>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(json!({}), "config: missing field `rate`");
    check(json!({"rate": 1.5}), "config.rate: 1.5 is no share");
    check(json!({"rate": -0.1}), "config.rate: -0.1 is no share");
    check(json!({"rate": "1%"}), "config field `rate`: invalid type");
    check(json!({"rate": 0.1, "slat": "x"}), "config field `slat`");
    check(
        json!({"rate": 0.1, "by": "header"}),
        "config field `by`: \"header\" says no value of a record: write",
    );
    check(json!({"rate": 0.1, "by": {"header": ""}}), "config.by.header: is empty");
    check(json!({"rate": 0.1, "by": {"pointer": "id"}}), "config.by.pointer: \"id\" is not a JSON Pointer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_share_is_kept(rate in 0.0..1.0_f64, salt in "[a-z]{0,4}") {
        let keys = (0..4000).map(|key| test::record().key(format!("key-{key}")));
        let found = share(&kept(&json!({"rate": rate, "salt": salt}), keys));
        // Six standard deviations of 4,000 draws, at most.
        prop_assert!((found - rate).abs() < 0.05, "{} of {}", found, rate);
    }

    #[test]
    fn a_smaller_share_lies_within_a_larger(small in 0.0..=1.0_f64, large in 0.0..=1.0_f64, keys in prop::collection::vec(any::<u64>(), 1..50)) {
        let (small, large) = (small.min(large), small.max(large));
        let records = || keys.iter().map(|key| test::record().key(key.to_le_bytes().to_vec()));
        let (small, large) = (kept(&json!({"rate": small}), records()), kept(&json!({"rate": large}), records()));
        prop_assert!(small.iter().zip(large).all(|(small, large)| !small || large));
    }
}

//! The module through the SDK's harness.

use proptest::prelude::*;

use super::*;
use test::Verdict::{Keep, Reject};

fn flat(config: Value, document: &str) -> String {
    let verdicts = test::run::<flatten>(config, [test::record().payload(document.to_owned())]);
    match &verdicts[0] {
        Keep => "untouched".to_owned(),
        Reject(why) => why.clone(),
        verdict => verdict.emitted().text().to_owned(),
    }
}

#[test]
fn brings_objects_to_one_level() {
    let document = r#"{ "z": 1.50, "a": {"b": {"c\u0064": "\u00e9"}, "x": [1, {"y": 2} ]}, "e": {}, "f": [], "g": null }"#;
    assert_eq!(
        flat(json!({}), document),
        r#"{"z":1.50,"a.b.cd":"\u00e9","a.x":[1, {"y": 2} ],"e":{},"f":[],"g":null}"#
    );
    assert_eq!(
        flat(json!({"separator": "_", "arrays": "index"}), document),
        r#"{"z":1.50,"a_b_cd":"\u00e9","a_x_0":1,"a_x_1_y":2,"e":{},"f":[],"g":null}"#
    );
    assert_eq!(flat(json!({"separator": "\""}), r#"{"a": {"b": 1}}"#), r#"{"a\"b":1}"#);
}

#[test]
fn what_is_flat_goes_on_untouched() {
    assert_eq!(flat(json!({}), r#"{ "a" : 1e2, "b": [{"c": 1}] }"#), "untouched");
    assert_eq!(flat(json!({}), "{}"), "untouched");
    assert_eq!(test::run::<flatten>(json!({}), [test::record().tombstone()]), [Keep]);
}

#[test]
fn conflicts_are_named() {
    let wanted = "two fields of the payload become \"a.b\": choose another separator";
    assert_eq!(flat(json!({}), r#"{"a.b": 1, "a": {"b": 2}}"#), wanted);
    assert_eq!(flat(json!({"separator": "/"}), r#"{"a.b": 1, "a": {"b": 2}}"#), r#"{"a.b":1,"a/b":2}"#);
    assert_eq!(flat(json!({}), r#"{"a": {"b": 1, "b": 2}}"#), wanted);
}

#[test]
fn rejects_what_is_no_object() {
    assert_eq!(flat(json!({}), "[1]"), "the payload is an array, not an object");
    assert_eq!(flat(json!({}), "7"), "the payload is a single value, not an object");
    assert!(flat(json!({}), r#"{"a": {"#).starts_with("the payload is not JSON"));
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
    assert!(flat(json!({}), &deep).starts_with("the payload is nested more than 128 deep, at \"a.a.a."));
    let deep = format!("{}1{}", r#"{"a":"#.repeat(128), "}".repeat(128));
    assert_eq!(flat(json!({}), &deep), format!(r#"{{"a{}":1}}"#, ".a".repeat(127)));
}

#[test]
fn refuses_bad_configurations() {
    let error = |config: Value| test::configure::<flatten>(config).expect_err("refused");
    assert!(error(json!({"seperator": "."})).starts_with("config field `seperator`"));
    assert!(error(json!({"separator": 1})).starts_with("config field `separator`: invalid type"));
    assert!(error(json!({"arrays": "drop"})).starts_with("config field `arrays`: unknown variant `drop`"));
}

proptest! {
    #[test]
    fn every_value_is_found_under_its_way(
        document in prop::collection::btree_map("[a-c]{1,2}", prop::collection::btree_map("[a-c]{1,2}", any::<i32>(), 1..4), 1..4),
    ) {
        let verdicts = test::run::<flatten>(json!({}), [test::record().json(&document)]);
        let wanted: std::collections::BTreeMap<String, i32> = document
            .iter()
            .flat_map(|(outer, inner)| inner.iter().map(move |(name, value)| (format!("{outer}.{name}"), *value)))
            .collect();
        prop_assert_eq!(verdicts[0].emitted().json(), json!(wanted));
    }
}

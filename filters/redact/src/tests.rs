//! The module through the SDK's harness.

use proptest::prelude::*;

use super::*;
use test::Verdict::{Keep, Reject};

fn check(config: Value, document: &str, wanted: &str) {
    let verdicts = test::run::<redact>(config, [test::record().payload(document.to_owned())]);
    assert_eq!(verdicts[0].emitted().text(), wanted);
}

#[test]
fn masks_any_kind_of_value() {
    let document =
        r#"{ "email": "a@b.c", "card": {"number": 4111, "ok": true}, "tags": ["x", "y"], "none": null}"#;
    check(
        json!({"mask": ["email", "/card/number", "/tags/1", "/none", "/not/there"]}),
        document,
        r#"{ "email": "***", "card": {"number": "***", "ok": true}, "tags": ["x", "***"], "none": "***"}"#,
    );
    check(
        json!({"mask": ["/card"], "mask_with": "\"gone\""}),
        document,
        r#"{ "email": "a@b.c", "card": "\"gone\"", "tags": ["x", "y"], "none": null}"#,
    );
}

#[test]
fn removes_a_field_with_one_comma() {
    let remove = |fields: &[&str]| json!({"remove": fields});
    check(remove(&["/a"]), r#"{"a": 1, "b": 2, "c": 3}"#, r#"{"b": 2, "c": 3}"#);
    check(remove(&["/b"]), r#"{"a": 1, "b": 2, "c": 3}"#, r#"{"a": 1, "c": 3}"#);
    check(remove(&["/c"]), r#"{"a": 1, "b": 2, "c": 3}"#, r#"{"a": 1, "b": 2}"#);
    check(remove(&["/a", "/b"]), r#"{"a": 1, "b": 2, "c": 3}"#, r#"{"c": 3}"#);
    check(remove(&["/b", "/c"]), r#"{"a": 1, "b": 2, "c": 3}"#, r#"{"a": 1}"#);
    check(remove(&["/a", "/b", "/c"]), r#"{"a": 1, "b": 2, "c": 3}"#, "{}");
    check(remove(&["/0", "/2"]), "[1, 2, 3]", "[2]");
    check(remove(&["/a/b"]), r#"{"a": {"b": {"c": 1}} }"#, r#"{"a": {} }"#);
}

#[test]
fn every_field_of_a_repeated_name_goes() {
    check(json!({"mask": ["a"]}), r#"{"a": 1, "\u0061": 2}"#, r#"{"a": "***", "\u0061": "***"}"#);
}

#[test]
fn the_outer_of_two_nested_fields_decides() {
    check(json!({"mask": ["/a/b"], "remove": ["/a"]}), r#"{"a": {"b": 1}, "c": 1.0}"#, r#"{"c": 1.0}"#);
}

#[test]
fn records_without_the_fields_go_on_untouched() {
    let records = [
        test::record().payload(r#"{"a" : 1e2}"#),
        test::record().payload("[]"),
        test::record().payload("7"),
        test::record().tombstone(),
    ];
    assert_eq!(test::run::<redact>(json!({"mask": ["/email", "/a/b"]}), records), [Keep, Keep, Keep, Keep]);
}

#[test]
fn what_is_not_json_is_rejected_and_not_passed_on() {
    for bad in ["", "email: x", r#"{"email": "x""#] {
        let verdicts = test::run::<redact>(json!({"mask": ["/email"]}), [test::record().payload(bad)]);
        assert!(verdicts[0].reason().starts_with("the payload is not JSON"), "{verdicts:?}");
    }
    let verdicts = test::run::<redact>(json!({"mask": ["/email"]}), [test::record().payload(vec![0xff])]);
    assert!(matches!(verdicts[0], Reject(_)));
}

#[test]
fn refuses_bad_configurations() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<redact>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(json!({}), "config: names no field: write");
    check(json!({"mask": []}), "config.mask: is empty");
    check(json!({"mask": "email"}), "config.mask: \"email\" is not a list");
    check(json!({"remove": [""]}), "config.remove[0]: names no field");
    check(json!({"masks": ["a"]}), "config.masks: is not known here");
    check(json!({"mask": ["a"], "mask_with": 1}), "config.mask_with: 1 is not a text");
    check(json!({"mask": ["a"], "remove": ["/a"]}), "config: \"/a\" stands in both");
}

proptest! {
    #[test]
    fn the_result_is_the_document_without_the_fields(
        map in prop::collection::btree_map("[a-d]", any::<i32>(), 0..5),
        gone in prop::collection::btree_set("[a-d]", 1..4),
        pretty in any::<bool>(),
    ) {
        let document = match pretty {
            true => millstream_sdk::serde_json::to_string_pretty(&map),
            false => millstream_sdk::serde_json::to_string(&map),
        };
        let record = test::record().payload(document.expect("json"));
        let mut rest = map.clone();
        rest.retain(|name, _| !gone.contains(name));
        let verdicts = test::run::<redact>(json!({"remove": gone}), [record]);
        if rest == map {
            prop_assert_eq!(&verdicts[0], &Keep);
        } else {
            prop_assert_eq!(verdicts[0].emitted().json(), json!(rest));
        }
    }
}

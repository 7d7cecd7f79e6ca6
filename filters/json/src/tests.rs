//! The module through the SDK's harness.

use proptest::prelude::*;

use super::*;
use test::Verdict::{Drop, Keep, Reject};

fn late() -> Value {
    json!({"all": [{"pointer": "/origin", "equals": "JFK"}, {"pointer": "/dep_delay", "gt": 60}]})
}

#[test]
fn keeps_what_meets_the_condition() {
    let verdicts = test::run::<json_fields>(
        late(),
        [
            test::record().json(json!({"origin": "JFK", "dep_delay": 61})),
            test::record().json(json!({"origin": "JFK", "dep_delay": null})),
            test::record().json(json!({"origin": "LGA", "dep_delay": 61})),
            test::record().json(json!({})),
            test::record().json(json!([1])),
            test::record().tombstone(),
        ],
    );
    assert_eq!(verdicts, [Keep, Drop, Drop, Drop, Drop, Drop]);
}

#[test]
fn headers_may_be_asked_too() {
    let config = json!({"all": [{"header": "source", "equals": "bts"}, {"pointer": "/n", "gte": 1}]});
    let record = test::record().json(json!({"n": 1}));
    let verdicts = test::run::<json_fields>(config, [record.clone().header("source", "bts"), record]);
    assert_eq!(verdicts, [Keep, Drop]);
}

#[test]
fn rejects_what_is_not_json() {
    for bad in ["", "late", "{\"origin\": \"JFK\"", "{} {}"] {
        let verdicts = test::run::<json_fields>(late(), [test::record().payload(bad)]);
        assert!(verdicts[0].reason().starts_with("the payload is not JSON"), "{verdicts:?}");
    }
    assert!(matches!(
        test::run::<json_fields>(late(), [test::record().payload(vec![b'"', 0xff, b'"'])])[..],
        [Reject(_)]
    ));
}

#[test]
fn selects_fields_as_they_stand() {
    let check = |select: Value, document: &str, wanted: &str| {
        let verdicts = test::run::<json_fields>(
            json!({"select": select}),
            [test::record().payload(document.to_owned())],
        );
        assert_eq!(verdicts[0].emitted().text(), wanted);
    };
    let document = r#"{ "b": 1.50, "a": {"x": [1, 2 ], "y": null}, "c\u0064": "\u00e9", "n": 123456789012345678901234567890 }"#;
    check(json!(["a", "b"]), document, r#"{"b":1.50,"a":{"x": [1, 2 ], "y": null}}"#);
    check(
        json!(["/a/y", "cd", "n"]),
        document,
        r#"{"a":{"y":null},"c\u0064":"\u00e9","n":123456789012345678901234567890}"#,
    );
    check(json!(["/a/x/1"]), document, r#"{"a":{"x":[2]}}"#);
    check(json!(["/a", "/a/x"]), document, r#"{"a":{"x": [1, 2 ], "y": null}}"#);
    check(json!(["none", "/b/x", "/a/z"]), document, "{}");
    check(json!(["/1"]), "[1, 2]", "[2]");
    check(json!(["a"]), "[1]", "[]");
    check(json!(["a"]), "7", "{}");
}

#[test]
fn a_selection_of_what_meets_the_condition() {
    let config = json!({"pointer": "/dep_delay", "gt": 60, "select": ["/dep_delay"]});
    let records =
        [61, 60].map(|delay| test::record().key("k").json(json!({"dep_delay": delay, "origin": "JFK"})));
    let verdicts = test::run::<json_fields>(config, records);
    assert_eq!(verdicts[0].emitted().text(), r#"{"dep_delay":61}"#);
    assert_eq!(verdicts[0].emitted().key.as_deref(), Some(b"k".as_slice()));
    assert_eq!(verdicts[1], Drop);
}

#[test]
fn tombstones_have_no_fields() {
    let missing = json!({"pointer": "/a", "exists": false, "select": ["a"]});
    assert_eq!(test::run::<json_fields>(missing, [test::record().tombstone()]), [Keep]);
}

#[test]
fn refuses_bad_configurations() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<json_fields>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(json!({}), "config: is no condition");
    check(json!({"select": []}), "config.select: is empty");
    check(json!({"select": "origin"}), "config.select: \"origin\" is not a list");
    check(json!({"select": ["a"], "pointer": "a", "gt": 1}), "config.pointer: \"a\" is not a JSON Pointer");
    check(json!({"select": ["a"], "pointer": "/a"}), "config: has no operator");
    check(json!([]), "config");
}

proptest! {
    #[test]
    fn never_panics_and_judges_only_json(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let verdicts = test::run::<json_fields>(json!({"select": ["a"]}), [test::record().payload(payload.clone())]);
        let is_json = millstream_sdk::serde_json::from_slice::<Value>(&payload).is_ok();
        prop_assert!(is_json || matches!(verdicts[0], Reject(_)), "{:?}", verdicts);
    }

    #[test]
    fn a_selection_of_all_top_level_fields_is_the_document(map in prop::collection::btree_map("[a-d/~]{1,3}", any::<i64>(), 1..6)) {
        let document = json!(map);
        let names: Vec<String> = map.keys().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect();
        let verdicts = test::run::<json_fields>(json!({"select": names}), [test::record().json(&document)]);
        prop_assert_eq!(verdicts[0].emitted().json(), document);
    }
}

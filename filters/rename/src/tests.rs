//! The module through the SDK's harness.

use proptest::prelude::*;

use super::*;
use test::Verdict::{Keep, Reject};

fn renamed(steps: Value, record: test::TestRecord) -> test::Verdict {
    test::run::<rename>(json!({"steps": steps}), [record]).remove(0)
}

fn payload(steps: Value, document: &str) -> String {
    match renamed(steps, test::record().payload(document.to_owned())) {
        Keep => "untouched".to_owned(),
        Reject(why) => why,
        verdict => verdict.emitted().text().to_owned(),
    }
}

fn headers(steps: Value, record: test::TestRecord) -> Vec<String> {
    let verdict = renamed(steps, record);
    let headers = verdict.emitted().headers.iter();
    headers.map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect()
}

const DOCUMENT: &str = r#"{ "a": 1.50, "b": {"c": "\u00e9", "d": [1, 2 ]}, "e": null }"#;

#[test]
fn fields() {
    let check = |steps: Value, wanted: &str| assert_eq!(payload(steps, DOCUMENT), wanted);
    check(json!([{"move": "/a", "to": "/z"}]), r#"{"z":1.50,"b":{"c": "\u00e9", "d": [1, 2 ]},"e":null}"#);
    check(json!([{"move": "/b/c", "to": "/b/x"}]), r#"{"a":1.50,"b":{"x":"\u00e9","d":[1, 2 ]},"e":null}"#);
    check(json!([{"move": "/a", "to": "/e"}]), r#"{"e":1.50,"b":{"c": "\u00e9", "d": [1, 2 ]}}"#);
    check(json!([{"move": "/b/d", "to": "/d"}]), r#"{"a":1.50,"b":{"c":"\u00e9"},"e":null,"d":[1, 2 ]}"#);
    check(
        json!([{"move": "/a", "to": "/a/b"}]),
        r#"{"b":{"c": "\u00e9", "d": [1, 2 ]},"e":null,"a":{"b":1.50}}"#,
    );
    check(
        json!([{"copy": "/a", "to": "/x/y"}]),
        r#"{"a":1.50,"b":{"c": "\u00e9", "d": [1, 2 ]},"e":null,"x":{"y":1.50}}"#,
    );
    check(json!([{"drop": "/b"}, {"drop": "/none"}]), r#"{"a":1.50,"e":null}"#);
    check(json!([{"drop": "/b/d/0"}]), r#"{"a":1.50,"b":{"c":"\u00e9","d":[2]},"e":null}"#);
    check(
        json!([{"move": "/a", "to": "/t"}, {"move": "/e", "to": "/a"}, {"move": "/t", "to": "/e"}, {"drop": "/b"}]),
        r#"{"e":1.50,"a":null}"#,
    );
    check(
        json!([{"move": "/b/d/0", "to": "/b/d/1"}]),
        r#"/b/d/1 has no place: there is an array of 1 elements, without "1""#,
    );
    check(json!([{"copy": "/e", "to": "/a/x"}]), r#"/a/x has no place: "/a" is 1.50, not an object"#);
}

#[test]
fn headers_and_fields() {
    let record = || test::record().header("x", "1").header("y", "2").header("x", "3").payload(DOCUMENT);
    assert_eq!(headers(json!([{"move": "x", "to": "z"}]), record()), ["z=1", "y=2", "z=3"]);
    assert_eq!(headers(json!([{"copy": "x", "to": "y"}]), record()), ["x=1", "x=3", "y=1"]);
    assert_eq!(headers(json!([{"drop": "x"}]), record()), ["y=2"]);
    let steps = json!([{"copy": "/b/c", "to": "c"}, {"copy": "/b/d", "to": "d"}, {"copy": "/e", "to": "y"}]);
    assert_eq!(headers(steps, record()), ["x=1", "x=3", "c=é", "d=[1, 2 ]", "y=null"]);
    let verdict = renamed(json!([{"move": "x", "to": "/x"}, {"drop": "/b"}]), record());
    assert_eq!(verdict.emitted().text(), r#"{"a":1.50,"e":null,"x":"1"}"#);
    assert_eq!(verdict.emitted().headers, [("y".to_owned(), b"2".to_vec())]);
    let bytes =
        renamed(json!([{"copy": "b", "to": "/b"}]), test::record().header("b", vec![0xff]).payload("{}"));
    assert!(bytes.reason().starts_with("a header cannot become a field: it is no text"));
}

#[test]
fn what_is_not_changed_goes_on_untouched() {
    assert_eq!(
        payload(json!([{"drop": "/x"}, {"move": "/x", "to": "/y"}, {"copy": "h", "to": "/y"}]), DOCUMENT),
        "untouched"
    );
    assert_eq!(renamed(json!([{"drop": "/x"}]), test::record().tombstone()), Keep);
    assert!(renamed(json!([{"copy": "h", "to": "/x"}]), test::record().header("h", "1").tombstone()) == Keep);
    assert!(payload(json!([{"drop": "/x"}]), "{").starts_with("the payload is not JSON"));
}

#[test]
fn what_is_missing_can_reject() {
    let config = json!({"steps": [{"drop": "/a"}, {"move": "h", "to": "/b/h"}], "on_missing": "reject"});
    let records = [test::record().payload("{}"), test::record().payload(DOCUMENT)];
    let verdicts = test::run::<rename>(config, records);
    assert_eq!(verdicts[0].reason(), "field \"/a\" is missing");
    assert_eq!(verdicts[1].reason(), "header \"h\" is missing");
}

#[test]
fn payloads_are_read_for_fields_alone() {
    let reads =
        |steps: Value| test::configure::<rename>(json!({"steps": steps})).expect("config").reads_payload;
    assert!(!reads(json!([{"move": "a", "to": "b"}, {"drop": "c"}])));
    assert!(reads(json!([{"move": "a", "to": "/b"}])));
    assert!(reads(json!([{"drop": "/b"}])));
}

#[test]
fn refuses_bad_configurations() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<rename>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    let step = |step: Value, wanted: &str| check(json!({"steps": [{"drop": "x"}, step]}), wanted);
    check(json!({}), "config: missing field `steps`");
    check(json!({"steps": []}), "config.steps: is empty: write");
    step(json!({}), "config.steps[1]: says nothing to do: write");
    step(json!({"to": "/a"}), "config.steps[1]: says nothing to do");
    step(json!({"move": "/a"}), "config.steps[1]: has no `to`");
    step(json!({"drop": "/a", "to": "/b"}), "config.steps[1]: has `to` beside `drop`");
    step(json!({"drop": "/a", "move": "/b", "to": "/c"}), "config.steps[1]: has several of");
    step(json!({"copy": "/a", "to": "/a"}), "config.steps[1].to: is the same as `copy`: field \"/a\"");
    step(json!({"copy": "/a~2", "to": "/a"}), "config.steps[1].copy: \"/a~2\" is not a JSON Pointer");
    step(json!({"copy": "/a", "to": ""}), "config.steps[1].to: is empty");
    step(json!({"rename": "/a", "to": "b"}), "config field `steps[1]");
}

proptest! {
    #[test]
    fn a_move_there_and_back_changes_no_values(
        document in prop::collection::btree_map("[a-c]", any::<i32>(), 0..4),
        from in "[a-c]",
    ) {
        let (from, there) = (format!("/{from}"), "/x/y".to_owned());
        let steps = json!([{"move": from, "to": there}, {"move": there, "to": from}, {"drop": "/x"}]);
        match renamed(steps, test::record().json(&document)) {
            Keep => prop_assert!(!document.contains_key(&from[1..])),
            verdict => prop_assert_eq!(verdict.emitted().json(), json!(document)),
        }
    }
}

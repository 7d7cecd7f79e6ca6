//! The module through the SDK's harness.

use proptest::prelude::*;

use super::*;
use test::Verdict::{Drop, Keep};

fn airlines(more: Value) -> Value {
    let mut config = json!({
        "by": {"pointer": "/carrier"},
        "table": {"UA": {"airline": "United", "code": 16}, "7": {"airline": "Seven"}},
        "into": {"pointer": ""},
    });
    for (name, value) in more.as_object().expect("an object") {
        config[name] = value.clone();
    }
    config
}

fn payload(config: Value, document: &str) -> String {
    let verdicts = test::run::<enrich>(config, [test::record().payload(document.to_owned())]);
    match &verdicts[0] {
        test::Verdict::Reject(why) => why.clone(),
        verdict => verdict.emitted().text().to_owned(),
    }
}

#[test]
fn sets_fields_of_the_payload() {
    let document = r#"{"carrier": "UA", "n": 1.50, "code": 0, "in": {"x": [1, 2]}}"#;
    let check = |more: Value, wanted: &str| assert_eq!(payload(airlines(more), document), wanted);
    check(json!({}), r#"{"carrier":"UA","n":1.50,"code":16,"in":{"x": [1, 2]},"airline":"United"}"#);
    check(
        json!({"into": {"pointer": "/in"}}),
        r#"{"carrier":"UA","n":1.50,"code":0,"in":{"x":[1, 2],"airline":"United","code":16}}"#,
    );
    check(
        json!({"into": {"pointer": "/by/carrier"}}),
        r#"{"carrier":"UA","n":1.50,"code":0,"in":{"x": [1, 2]},"by":{"carrier":{"airline":"United","code":16}}}"#,
    );
    check(json!({"into": {"pointer": "/n"}}), r#"/n/airline has no place: "/n" is 1.50, not an object"#);
    assert_eq!(payload(airlines(json!({})), r#"{"carrier": 7}"#), r#"{"carrier":7,"airline":"Seven"}"#);
    assert!(payload(airlines(json!({})), "{").starts_with("the payload is not JSON"));
    assert_eq!(
        test::run::<enrich>(airlines(json!({"by": "key"})), [test::record().key("UA").tombstone()]),
        [Keep]
    );
}

#[test]
fn adds_headers() {
    let run = |by: Value, record: test::TestRecord| {
        test::run::<enrich>(airlines(json!({"by": by, "into": "headers"})), [record]).remove(0)
    };
    let record = test::record().key("UA").header("carrier", "UA").header("code", "0").payload("not JSON");
    let headers = |verdict: &test::Verdict| {
        let headers = verdict.emitted().headers.iter();
        headers.map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect::<Vec<_>>()
    };
    let wanted = ["carrier=UA", "airline=United", "code=16"];
    assert_eq!(headers(&run(json!("key"), record.clone())), wanted);
    let verdict = run(json!({"header": "carrier"}), record.tombstone());
    assert_eq!(headers(&verdict), wanted);
    assert!(verdict.emitted().payload.is_none());
    let by_header = airlines(json!({"by": {"header": "carrier"}, "into": "headers"}));
    assert!(!test::configure::<enrich>(by_header).expect("config").reads_payload);
    assert!(test::configure::<enrich>(airlines(json!({"into": "headers"}))).expect("config").reads_payload);
}

#[test]
fn what_has_no_row() {
    let run = |on_missing: &str, document: Value| {
        test::run::<enrich>(airlines(json!({"on_missing": on_missing})), [test::record().json(document)])
            .remove(0)
    };
    assert_eq!(run("keep", json!({"carrier": "DL"})), Keep);
    assert_eq!(run("drop", json!({"carrier": "DL"})), Drop);
    assert_eq!(
        run("reject", json!({"carrier": "DL"})).reason(),
        "field \"/carrier\" is \"DL\", which is not in the table"
    );
    assert_eq!(run("reject", json!({})).reason(), "field \"/carrier\" is missing or no text, number or bool");
}

#[test]
fn refuses_bad_configurations() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<enrich>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(json!({}), "config: missing field `table`");
    check(airlines(json!({"table": {}})), "config.table: is empty");
    check(airlines(json!({"table": {"UA": "United"}})), "config field `table.UA`: invalid type");
    check(
        airlines(json!({"by": {"pointer": "carrier"}})),
        "config.by.pointer: \"carrier\" is not a JSON Pointer",
    );
    check(
        airlines(json!({"into": {"pointer": "carrier"}})),
        "config.into.pointer: \"carrier\" is not a JSON Pointer",
    );
    check(airlines(json!({"into": "payload"})), "config field `into`: unknown variant `payload`");
    check(airlines(json!({"on_missing": "skip"})), "config field `on_missing`: unknown variant `skip`");
    let headers = |row: Value| airlines(json!({"table": {"UA": row}, "into": "headers"}));
    check(headers(json!({"x": null})), "config.table.UA.x: null is no text, number or bool");
    check(headers(json!({"": "x"})), "config.table.UA.: has 0 bytes for a header's name");
}

#[test]
fn what_stands_twice_is_refused() {
    let check = |table: &str, wanted: &str| {
        let config = format!(r#"{{"into": "headers", "table": {table}}}"#);
        assert_eq!(Config::from_json(&config).map(|_| ()).expect_err(wanted), wanted);
    };
    let twice = "is in it twice: leave one of them out";
    check(r#"{"UA": {"x": 1}, "UA": {"x": 2}}"#, &format!("config field `table`: \"UA\" {twice}"));
    check(r#"{"UA": {"x": 1, "x": 2}}"#, &format!("config field `table.UA`: \"x\" {twice}"));
}

proptest! {
    #[test]
    fn the_row_is_in_and_the_rest_is_as_before(
        document in prop::collection::btree_map("[a-d]", any::<i32>(), 0..5),
        row in prop::collection::btree_map("[c-f]", any::<i32>(), 1..4),
    ) {
        let config = json!({"table": {"k": row}, "into": {"pointer": ""}});
        let verdicts = test::run::<enrich>(config, [test::record().key("k").json(&document)]);
        let mut wanted = document.clone();
        wanted.extend(row.clone());
        prop_assert_eq!(verdicts[0].emitted().json(), json!(wanted));
    }
}

//! The module through the SDK's harness.

use proptest::prelude::*;

use super::*;
use test::Verdict::{Drop, Keep};

fn flights() -> Value {
    json!({
        "type": "object",
        "required": ["carrier", "legs"],
        "properties": {
            "carrier": {"type": "string", "pattern": "^[A-Z]{2}$"},
            "delay": {"type": ["integer", "null"], "minimum": -120},
            "at": {"type": "string", "format": "date-time"},
            "legs": {"type": "array", "items": {"$ref": "#/$defs/leg"}},
        },
        "$defs": {"leg": {"type": "object", "required": ["to"], "additionalProperties": false, "properties": {"to": {"type": "string"}}}},
    })
}

fn reason(config: Value, payload: &str) -> String {
    let verdicts = test::run::<schema>(config, [test::record().payload(payload.to_owned())]);
    verdicts[0].reason().to_owned()
}

#[test]
fn valid_payloads_go_on_untouched() {
    let records = [
        test::record().json(json!({"carrier": "UA", "legs": [], "more": 1})),
        test::record().json(
            json!({"carrier": "UA", "legs": [{"to": "IAH"}], "delay": null, "at": "2013-01-01T10:00:00Z"}),
        ),
        test::record().tombstone(),
    ];
    assert_eq!(test::run::<schema>(json!({"schema": flights()}), records), [Keep, Keep, Keep]);
}

#[test]
fn a_reason_names_place_and_fault() {
    let check = |payload: Value, wanted: &str| {
        let found = reason(json!({"schema": flights()}), &payload.to_string());
        assert_eq!(found, format!("the payload does not fit the schema: {wanted}"));
    };
    check(json!([]), "the whole: want object, but got array");
    check(json!({"carrier": "UA"}), "the whole: missing properties 'legs'");
    check(
        json!({"carrier": "UA", "legs": [{"to": "IAH"}, {"to": 7}]}),
        "/legs/1/to: want string, but got number",
    );
    check(
        json!({"carrier": "ua", "legs": [{"from": "x"}], "delay": -500, "at": "today"}),
        "/at: 'today' is not valid date-time: less than 20 characters long; \
         /carrier: 'ua' does not match pattern '^[A-Z]{2}$'; /delay: must be >=-120, but got -500; and 2 more of 5",
    );
    let found = reason(json!({"schema": flights()}), "{");
    assert!(found.starts_with("the payload is not JSON: EOF"), "{found}");
}

#[test]
fn formats_are_checked_unless_said_otherwise() {
    let payload = || [test::record().json(json!({"carrier": "UA", "legs": [], "at": "today"}))];
    let verdicts = test::run::<schema>(json!({"schema": flights(), "formats": false}), payload());
    assert_eq!(verdicts, [Keep]);
}

#[test]
fn what_becomes_of_others() {
    let run = |on_invalid: Value| {
        let record = test::record().header("why", "old").header("a", "b").payload("[]");
        test::run::<schema>(json!({"schema": {"type": "object"}, "on_invalid": on_invalid}), [record])
            .remove(0)
    };
    assert_eq!(run(json!("drop")), Drop);
    assert!(run(json!("reject")).reason().ends_with("the whole: want object, but got array"));
    let kept = run(json!({"header": "why"}));
    let headers: Vec<(&str, String)> = kept
        .emitted()
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let reason = "the payload does not fit the schema: the whole: want object, but got array";
    assert_eq!(headers, [("a", "b".to_owned()), ("why", reason.to_owned())]);
    assert_eq!(kept.emitted().text(), "[]");
}

#[test]
fn references_are_given_and_never_fetched() {
    let leg = json!({"$ref": "https://example.com/leg"});
    let error = test::configure::<schema>(json!({"schema": leg})).expect_err("not given");
    assert!(
        error.starts_with("config.schema: refers to https://example.com/leg, and nothing is fetched"),
        "{error}"
    );
    let error =
        test::configure::<schema>(json!({"schema": {"$ref": "file:///etc/passwd"}})).expect_err("a file");
    assert!(
        error.starts_with("config.schema: refers to file:///etc/passwd, and nothing is fetched"),
        "{error}"
    );
    let given = json!({"schema": leg, "references": {"https://example.com/leg": {"type": "string"}}});
    assert_eq!(test::run::<schema>(given, [test::record().payload("\"x\"")]), [Keep]);
}

#[test]
fn older_drafts_say_so() {
    let draft4 =
        json!({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 5, "exclusiveMaximum": true});
    assert!(reason(json!({"schema": draft4}), "5").contains("must be < 5"));
}

#[test]
fn refuses_bad_configurations() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<schema>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(json!({}), "config: missing field `schema`");
    check(json!({"schema": "object"}), "config.schema: \"object\" is no JSON Schema: write");
    check(json!({"schema": {"type": "objct"}}), "config.schema: is no JSON Schema: /type: ");
    check(json!({"schema": {"pattern": "["}}), "config.schema: is no JSON Schema: /pattern: ");
    check(json!({"schema": {"$ref": "#/$defs/none"}}), "config.schema: ");
    check(json!({"schema": {"$schema": "https://example.com/own"}}), "config.schema: ");
    check(
        json!({"schema": {}, "on_invalid": "ignore"}),
        "config field `on_invalid`: unknown variant `ignore`",
    );
    check(json!({"schema": {}, "on_invalid": {"header": ""}}), "config.on_invalid.header: is empty");
    check(json!({"schema": {}, "shcema": {}}), "config");
    // Also those that nothing refers to.
    let with = |reference: Value| json!({"schema": {}, "references": {"https://example.com/leg": reference}});
    check(with(json!("object")), "config.references.https://example.com/leg: is no JSON Schema: ");
    check(
        with(json!({"type": "objct"})),
        "config.references.https://example.com/leg: is no JSON Schema: /type: ",
    );
    check(
        with(json!({"$ref": "https://example.com/to"})),
        "config.references.https://example.com/leg: refers to https://example.com/to, and nothing is fetched",
    );
}

proptest! {
    #[test]
    fn never_panics(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let verdicts = test::run::<schema>(json!({"schema": {"type": "object"}}), [test::record().payload(payload.clone())]);
        let is_object = millstream_sdk::serde_json::from_slice::<Value>(&payload).is_ok_and(|value| value.is_object());
        prop_assert_eq!(verdicts[0] == Keep, is_object);
    }
}

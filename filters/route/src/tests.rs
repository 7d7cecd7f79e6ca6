//! The module through the SDK's harness.

use super::*;
use test::Verdict;

fn topic(config: &Value, record: test::TestRecord) -> String {
    let verdicts = test::run::<route_by>(config, [record]);
    match &verdicts[0] {
        Verdict::Reject(why) => format!("rejected: {why}"),
        verdict => verdict.emitted().topic.clone().expect("routed"),
    }
}

#[test]
fn by_table() {
    let config = json!({"header": "carrier", "table": {"UA": "flights.united", "7": "flights.seven"}, "default": "flights.other"});
    assert_eq!(topic(&config, test::record().header("carrier", "UA")), "flights.united");
    assert_eq!(topic(&config, test::record().header("carrier", "DL")), "flights.other");
    assert_eq!(topic(&config, test::record()), "flights.other");
    let spec = test::configure::<route_by>(&config).expect("config");
    assert_eq!(spec.topics, ["flights.other", "flights.seven", "flights.united"]);
    assert!(!spec.reads_payload);
    let config = json!({"pointer": "/carrier", "table": {"UA": "flights.united", "7": "flights.seven", "true": "yes"}});
    assert_eq!(topic(&config, test::record().json(json!({"carrier": 7}))), "flights.seven");
    assert_eq!(topic(&config, test::record().json(json!({"carrier": true}))), "yes");
    let rejected = topic(&config, test::record().json(json!({"carrier": "DL"})));
    assert_eq!(
        rejected,
        "rejected: no topic for this record: field \"/carrier\" is \"DL\", which is not in the table, and there is no default"
    );
    assert!(test::configure::<route_by>(&config).expect("config").reads_payload);
}

#[test]
fn by_template() {
    let config = json!({"template": "flights.{carrier}.to-{/dest}"});
    let record = test::record().header("carrier", "UA").json(json!({"dest": "IAH"}));
    assert_eq!(topic(&config, record), "flights.UA.to-IAH");
    assert_eq!(test::configure::<route_by>(&config).expect("config").topics, ["flights.*.*"]);
    for config in [
        json!({"pointer": "/carrier", "template": "flights.{}"}),
        json!({"pointer": "/carrier", "template": "flights.{carrier}"}),
        json!({"template": "flights.{/carrier}"}),
    ] {
        assert_eq!(topic(&config, test::record().json(json!({"carrier": "UA"}))), "flights.UA", "{config}");
    }
}

#[test]
fn the_record_itself_is_unchanged() {
    let record = test::record().key("k").header("carrier", "UA").payload("not JSON");
    let verdicts = test::run::<route_by>(json!({"template": "flights.{carrier}"}), [record]);
    let emitted = verdicts[0].emitted();
    assert_eq!(emitted.text(), "not JSON");
    assert_eq!(emitted.key.as_deref(), Some(b"k".as_slice()));
    assert_eq!(emitted.headers, [("carrier".to_owned(), b"UA".to_vec())]);
}

#[test]
fn values_that_make_no_name_go_to_the_default_or_are_rejected() {
    let plain = json!({"pointer": "/carrier", "template": "flights.{}"});
    let default = json!({"pointer": "/carrier", "template": "flights.{}", "default": "flights.none"});
    for bad in [
        json!("U A"),
        json!("U.A"),
        json!(""),
        json!(null),
        json!([1]),
        json!(1.5),
        json!("x".repeat(300)),
        json!("*"),
    ] {
        let record = || test::record().json(json!({"carrier": bad}));
        assert!(topic(&plain, record()).starts_with("rejected: no topic for this record"), "{bad}");
        assert_eq!(topic(&default, record()), "flights.none", "{bad}");
    }
    assert_eq!(topic(&default, test::record().tombstone()), "flights.none");
    // A payload that is not JSON at all is a broken record, not one without the field.
    assert!(topic(&default, test::record().payload("{")).starts_with("rejected: the payload is not JSON"));
}

#[test]
fn refuses_bad_configurations() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<route_by>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(json!({}), "config: says no topic: write");
    check(json!({"header": "a"}), "config: says no topic");
    check(json!({"table": {"a": "b"}}), "config.table: has no `header` or `pointer`");
    check(json!({"header": "a", "pointer": "/a", "table": {}}), "config.pointer: stands beside `header`");
    check(json!({"header": "a", "table": {}}), "config.table: is empty");
    check(json!({"header": "a", "table": []}), "config.table: [] is not a table");
    check(json!({"header": "a", "table": {"UA": "a b"}}), "config.table.UA: topic name \"a b\"");
    check(json!({"header": "a", "table": {"UA": 1}}), "config.table.UA: 1 is not a topic's name");
    check(
        json!({"header": "a", "table": {"UA": "a"}, "template": "x.{a}"}),
        "config.template: stands beside",
    );
    check(json!({"header": "a", "template": "x"}), "config.template: \"x\" has no place");
    check(json!({"header": "a", "template": "x.{"}), "config.template: \"x.{\" has a `{`");
    check(json!({"template": "x.{}"}), "config.template: `{}` says no value");
    check(json!({"template": "x y.{a}"}), "config.template: \"x y.{a}\" cannot make a topic name");
    check(json!({"template": "x {a}"}), "config.template: \"x {a}\" cannot make a topic name");
    check(json!({"template": ".{a}"}), "config.template: \".{a}\" cannot make a topic name");
    check(json!({"pointer": "a", "template": "x.{}"}), "config.pointer: \"a\" is not a JSON Pointer");
    check(json!({"template": "x.{a}", "default": "no topic"}), "config.default: topic name \"no topic\"");
    check(json!({"template": "x.{a}", "defautl": "x"}), "config.defautl: is not known here");
    check(json!({"template": 1}), "config.template: 1 is not a text");
}

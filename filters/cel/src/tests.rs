//! The module through the SDK's harness.

use proptest::prelude::*;

use super::*;
use test::Verdict::{Drop, Keep};

fn filter(expression: &str, record: test::TestRecord) -> test::Verdict {
    test::run::<by_expression>(json!({"filter": expression}), [record]).remove(0)
}

fn map(expression: &str, record: test::TestRecord) -> String {
    match test::run::<by_expression>(json!({"map": expression}), [record]).remove(0) {
        test::Verdict::Reject(why) => why,
        verdict => verdict.emitted().text().to_owned(),
    }
}

fn flight() -> test::TestRecord {
    test::record().key("N14228").header("carrier", "UA").header("carrier", "AA").json(json!({
        "dep_delay": 61, "origin": "JFK", "distance": 1400.5, "legs": [{"to": "IAH"}, {"to": "SFO"}],
        "card": {"number": "4111"}, "gone": null,
    }))
}

#[test]
fn keeps_what_the_expression_is_true_for() {
    for kept in [
        "payload.dep_delay > 60 && payload.origin in ['JFK', 'LGA']",
        "payload.dep_delay == 61.0 && payload.distance > 1400",
        "headers.carrier == 'UA' && headers['carrier'].startsWith('U')",
        "key == 'N14228' && key.matches('^N[0-9]+$')",
        "has(payload.gone) && payload.gone == null && !has(payload.none) && !has(headers.none)",
        "payload.?none.orValue(7) == 7 && payload.card[?'none'].orValue('x') == 'x'",
        "payload.legs.exists(leg, leg.to == 'SFO') && payload.legs[1].to == 'SFO' && size(payload.legs) == 2",
        "payload.card == {'number': '4111'} && {'number': '4111'} == payload.card",
        "payload.origin.lowerAscii() == 'jfk' && math.greatest(1, 2) == 2 && [3, 1].sort() == [1, 3]",
        "offset == 7 && timestamp == 1000 && type(timestamp) == int",
        // What decides stands; the other side may fail.
        "payload.none == 1 || true",
    ] {
        assert_eq!(filter(kept, flight().offset(7).timestamp(1000)), Keep, "{kept}");
        assert_eq!(filter(&format!("!({kept})"), flight().offset(7).timestamp(1000)), Drop, "{kept}");
    }
}

#[test]
fn headers_and_keys_that_are_no_text_are_bytes() {
    let record = || test::record().key(vec![0xff]).header("id", vec![0xff, 0]);
    assert_eq!(filter(r"headers.id == b'\xff\x00' && key == b'\xff'", record()), Keep);
    assert_eq!(filter("key == null && !('id' in headers)", test::record()), Keep);
}

#[test]
fn tombstones_have_null_for_a_payload() {
    assert_eq!(filter("payload == null || payload.a > 1", test::record().tombstone()), Keep);
    assert!(matches!(filter("payload.a > 1", test::record().tombstone()), test::Verdict::Reject(_)));
    assert_eq!(test::run::<by_expression>(json!({"map": "payload.a"}), [test::record().tombstone()]), [Keep]);
}

#[test]
fn an_error_rejects_with_its_reason_unless_said_otherwise() {
    let check = |expression: &str, wanted: &str| {
        let verdict = filter(expression, flight());
        assert!(verdict.reason().contains(wanted), "{expression}: {verdict:?}");
    };
    check("payload.none > 1", "`filter` failed: No such key: none");
    check("payload.gone.x > 1", "`filter` failed: found no matching overload for '_._'");
    check("has(payload.gone.x)", "`filter` failed: found no matching overload");
    check("payload.origin > 1", "`filter` failed: found no matching overload");
    check("payload.dep_delay + 1.5 > 1.0", "`filter` failed: Unsupported binary operator");
    check("payload.origin", "the result of `filter` is a text, not true or false");
    check("payload.legs[7].to == ''", "`filter` failed: Index out of bounds");
    check("payload.dep_delay / 0 > 1", "`filter` failed: Division by zero");
    let long = test::record().json(json!({"a": "x".repeat(10_000)}));
    assert!(filter("payload.a + 1 > 0", long).reason().len() < 400);
    let bad = || [test::record().payload("not JSON"), test::record().json(json!({}))];
    let run = |on_error: &str| {
        test::run::<by_expression>(json!({"filter": "payload.a == 1", "on_error": on_error}), bad())
    };
    assert_eq!(run("drop"), [Drop, Drop]);
    assert_eq!(run("keep"), [Keep, Keep]);
    assert!(run("reject")[0].reason().starts_with("the payload is not JSON"));
}

#[test]
fn maps_to_the_json_of_the_result() {
    let check =
        |expression: &str, wanted: &str| assert_eq!(map(expression, flight()), wanted, "{expression}");
    check(
        "{'late': payload.dep_delay > 60, 'by': headers.carrier, 'n': payload.dep_delay}",
        r#"{"by":"UA","late":true,"n":61}"#,
    );
    check("payload.legs.map(leg, leg.to)", r#"["IAH","SFO"]"#);
    check(
        "payload",
        r#"{"card":{"number":"4111"},"dep_delay":61,"distance":1400.5,"gone":null,"legs":[{"to":"IAH"},{"to":"SFO"}],"origin":"JFK"}"#,
    );
    check("payload.gone", "null");
    check("2.0", "2.0");
    check("{1: 'a', true: 'b', 2u: 3u}", r#"{"1":"a","2":3,"true":"b"}"#);
    check("'\\n\"'", r#""\n\"""#);
    check(
        "bytes(payload.origin)",
        "the result of `map` has bytes, which JSON has not: write string(...) or base64.encode(...) around them",
    );
    check(
        "payload.?a",
        "the result of `map` has a value of type optional_type, which JSON has not: add .orValue(...)",
    );
    check("payload.distance / 0.0", "the result of `map` has the number inf, which JSON has not");
    check("base64.encode(b'x')", r#""eA==""#);
}

#[test]
fn walks_over_maps_have_an_order() {
    let pairs: Vec<String> = (0..50).rev().map(|n| format!("'k{n:02}': {n}")).collect();
    let literal = format!("{{{}}}", pairs.join(", "));
    let keys: Vec<String> = (0..50).map(|n| format!("\"k{n:02}\"")).collect();
    let wanted = format!("[{}]", keys.join(","));
    assert_eq!(map(&format!("{literal}.map(k, k)"), test::record()), wanted);
    assert_eq!(map(&format!("[] + {literal}"), test::record()), wanted);
    let document = literal.replace('\'', "\"");
    assert_eq!(map("payload.filter(k, true)", test::record().payload(document.clone())), wanted);
    let shown = map("'%s'.format([payload])", test::record().payload(document));
    assert!(shown.starts_with("\"{k00: 0, k01: 1, k02: 2,"), "{shown}");
}

#[test]
fn routes_to_one_topic_or_several() {
    let topics = |expression: &str| {
        let config =
            json!({"filter": "payload.dep_delay > 0", "map": "payload.dep_delay", "route": expression});
        match test::run::<by_expression>(config, [flight()]).remove(0) {
            test::Verdict::Emit(outputs) => {
                assert!(outputs.iter().all(|output| output.text() == "61"));
                outputs.into_iter().map(|output| output.topic.expect("routed")).collect()
            }
            test::Verdict::Drop => Vec::new(),
            verdict => vec![verdict.reason().to_owned()],
        }
    };
    assert_eq!(topics("'flights.' + headers.carrier"), ["flights.UA"]);
    assert_eq!(topics("payload.legs.map(leg, 'to.' + leg.to)"), ["to.IAH", "to.SFO"]);
    assert!(topics("payload.dep_delay > 100 ? 'late' : null").is_empty());
    assert!(topics("[]").is_empty());
    assert!(topics("'a b' + payload.legs[0].to")[0].starts_with("the result of `route`"));
    assert_eq!(
        topics("payload.dep_delay"),
        ["the result of `route` is a number, not a topic or a list of topics"]
    );
}

#[test]
fn announces_what_it_does() {
    let spec = |config: Value| test::configure::<by_expression>(config).expect("config");
    let headers = spec(json!({"filter": "headers.payload == 'x' && key != 'payload'"}));
    assert!(!headers.reads_payload && headers.topics.is_empty());
    assert!(spec(json!({"filter": "true", "map": "payload"})).reads_payload);
    assert!(!spec(json!({"filter": "[1].exists(payload, payload == 1)"})).reads_payload);
    assert_eq!(spec(json!({"route": "'a'"})).topics, [">"]);
    assert_eq!(spec(json!({"route": "'a'", "topics": ["a", "b.>"]})).topics, ["a", "b.>"]);
    let verdict =
        test::run::<by_expression>(json!({"route": "headers.carrier", "topics": ["a", "b.>"]}), [flight()])
            .remove(0);
    assert_eq!(verdict.reason(), "the result of `route` names \"UA\", which is not in config.topics");
}

#[test]
fn refuses_bad_configurations() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<by_expression>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    let expression = |text: &str, wanted: &str| check(json!({"filter": text}), wanted);
    check(json!({}), "config: has no expression: write");
    check(json!({"fitler": "true"}), "config");
    check(json!({"filter": 1}), "config field `filter`: invalid type");
    check(
        json!({"filter": "true", "on_error": "ignore"}),
        "config field `on_error`: unknown variant `ignore`",
    );
    check(json!({"filter": "true", "topics": ["a"]}), "config.topics: stands without `route`");
    check(json!({"route": "'a'", "topics": []}), "config.topics: is empty");
    check(json!({"route": "'a'", "topics": ["a", "b c"]}), "config.topics[1]: ");
    expression(
        "payload.a >",
        "config.filter: line 1, column 12: the expression ends too early; a right one is `payload.dep_delay > 60`",
    );
    expression("", "config.filter: line 1, column 1: the expression ends too early; a right one is");
    expression("payload.a = 1", "config.filter: line 1, column 11: this is no CEL expression (");
    check(
        json!({"map": "{"}),
        "config.map: line 1, column 2: the expression ends too early; a right one is `{\"carrier\": payload",
    );
    expression(
        "true &&\n paylod.a",
        "config.filter: line 2, column 2: `paylod` is not known here; there are headers,",
    );
    expression("payload.a.lower()", "config.filter: line 1, column ");
    expression("lower(payload.a)", "config.filter: line 1, column 6: there is no function `lower`");
    expression("mth.greatest(1, 2)", "config.filter: line 1, column 13: there is no function `mth`");
    expression("[1].all(x, y)", "config.filter: line 1, column 12: `y` is not known here");
    expression(
        "key.matches('[')",
        "config.filter: line 1, column 13: \"[\" is not a regular expression: unclosed",
    );
    expression(
        "key.matches('(a{999}){999}')",
        "config.filter: line 1, column 13: \"(a{999}){999}\" is too large",
    );
    expression(&"(".repeat(1000), "config.filter: ");
}

#[test]
fn what_can_do_for_no_record_is_refused() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<by_expression>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(
        json!({"filter": "1 + 1"}),
        "config.filter: the result of `filter` is a number, not true or false, whatever the record: a right one is `payload",
    );
    check(json!({"filter": "1 / 0 > 1"}), "config.filter: `filter` failed: ");
    check(json!({"map": "b'x'"}), "config.map: the result of `map` has bytes, which JSON has not");
    check(json!({"route": "7"}), "config.route: the result of `route` is a number, not a topic");
    check(json!({"route": "['a', 'b c']"}), "config.route: the result of `route` topic name");
    check(json!({"route": "'c'", "topics": ["a"]}), "config.route: the result of `route` names \"c\"");
    for fine in [
        "true",
        "payload.a",
        "has(payload.a)",
        "payload.a + 1 > 2",
        "[1].exists(x, x == payload.a)",
        "key == null",
    ] {
        test::configure::<by_expression>(json!({"filter": fine})).expect(fine);
    }
}

proptest! {
    #[test]
    fn never_panics(expression in "[a-z0-9.()\\[\\]{}?:!=<>&|+*'\", -]{0,40}", payload in prop::collection::vec(any::<u8>(), 0..32)) {
        let config = json!({"filter": expression});
        if test::configure::<by_expression>(&config).is_ok() {
            test::run::<by_expression>(config, [test::record().payload(payload)]);
        }
    }

    #[test]
    fn reading_some_fields_is_as_reading_all(a in any::<i64>(), b in "[a-z]{0,3}", c in prop::option::of(any::<bool>())) {
        let record = || test::record().json(json!({"a": a, "o": {"b": b, "x": [1]}, "c": c, "d": [b]}));
        let expression = "{'a': payload.a, 'b': payload.o.b, 'has': has(payload.o.none), 'c': payload.c}";
        let whole = expression.replace("payload.", "[payload][0].");
        prop_assert_eq!(map(expression, record()), map(&whole, record()));
    }
}

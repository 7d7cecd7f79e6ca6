//! The grammar: what matches what, and how bad conditions are refused.

use serde_json::json;

use super::*;
use crate::Fields;

fn compile(config: &Value) -> Result<Predicate, String> {
    Predicate::parse(config, "config", Reach::HeadersAndJson).map_err(|error| error.to_string())
}

fn on_field(test: Value, document: &Value) -> bool {
    let mut config = json!({"pointer": "/f"});
    config.as_object_mut().expect("object").extend(test.as_object().expect("object").clone());
    let predicate = compile(&config).expect("config");
    let document = document.to_string();
    let fields = predicate.pointers().pick(document.as_bytes()).expect("json");
    predicate.matches(|_| None, &fields)
}

fn on_header(test: Value, header: Option<&str>) -> bool {
    let mut config = json!({"header": "h"});
    config.as_object_mut().expect("object").extend(test.as_object().expect("object").clone());
    let predicate = Predicate::parse(&config, "config", Reach::Headers).expect("config");
    predicate.matches(|name| header.filter(|_| name == "h").map(str::as_bytes), &Fields::default())
}

#[test]
fn operators_on_json_fields() {
    let yes = [
        (json!({"equals": "UA"}), json!("UA")),
        (json!({"equals": 60}), json!(60.0)),
        (json!({"equals": true}), json!(true)),
        (json!({"not_equals": "UA"}), json!("AA")),
        (json!({"not_equals": 60}), json!("60")),
        (json!({"in": ["UA", 7, false]}), json!("UA")),
        (json!({"in": ["UA", 7, false]}), json!(7)),
        (json!({"in": ["UA", 7, false]}), json!(false)),
        (json!({"prefix": "N1"}), json!("N14228")),
        (json!({"suffix": "28"}), json!("N14228")),
        (json!({"contains": "42"}), json!("N14228")),
        (json!({"contains": ""}), json!("")),
        (json!({"exists": true}), json!([])),
        (json!({"exists": true}), json!({})),
        (json!({"gt": 60}), json!(60.5)),
        (json!({"gte": 60}), json!(60)),
        (json!({"lt": 0}), json!(-1)),
        (json!({"lte": 0.5}), json!(0.5)),
        (json!({"gte": 10, "lt": 20}), json!(15)),
        (json!({"gt": 18446744073709551614_u64}), json!(18446744073709551615_u64)),
    ];
    for (test, value) in yes {
        assert!(on_field(test.clone(), &json!({"f": value})), "{test} on {value}");
    }
    let no = [
        (json!({"equals": "60"}), json!(60)),
        (json!({"equals": 60}), json!("60")),
        (json!({"equals": true}), json!("true")),
        (json!({"equals": "a"}), json!(["a"])),
        (json!({"in": []}), json!(1)),
        (json!({"prefix": "1"}), json!(12)),
        (json!({"contains": "a"}), json!(["a"])),
        (json!({"exists": false}), json!(0)),
        (json!({"gt": 60}), json!("61")),
        (json!({"gt": 60}), json!(60)),
        (json!({"gte": 10, "lt": 20}), json!(20)),
    ];
    for (test, value) in no {
        assert!(!on_field(test.clone(), &json!({"f": value})), "{test} on {value}");
    }
}

#[test]
fn missing_and_null_match_exists_false_and_not_equals_alone() {
    let every = [
        (json!({"equals": "UA"}), false),
        (json!({"not_equals": "UA"}), true),
        (json!({"in": ["UA"]}), false),
        (json!({"prefix": ""}), false),
        (json!({"suffix": ""}), false),
        (json!({"contains": ""}), false),
        (json!({"exists": true}), false),
        (json!({"exists": false}), true),
        (json!({"gt": -1}), false),
        (json!({"gte": 0}), false),
        (json!({"lt": 1}), false),
        (json!({"lte": 0}), false),
    ];
    for (test, wanted) in every {
        for document in [json!({}), json!({"f": null}), json!([]), json!(1), json!(null)] {
            assert_eq!(on_field(test.clone(), &document), wanted, "{test} on {document}");
        }
        assert_eq!(on_header(test.clone(), None), wanted, "{test} on no header");
    }
}

#[test]
fn header_values_are_what_the_operand_asks_for() {
    assert!(on_header(json!({"equals": 60}), Some("60.0")));
    assert!(on_header(json!({"equals": "60"}), Some("60")));
    assert!(!on_header(json!({"equals": "60"}), Some("60.0")));
    assert!(on_header(json!({"equals": true}), Some("true")));
    assert!(on_header(json!({"gt": 60}), Some("61")));
    assert!(!on_header(json!({"gt": 60}), Some("late")));
    assert!(!on_header(json!({"lte": 60}), Some("")));
    assert!(on_header(json!({"in": [1, "x"]}), Some("1")));
    assert!(on_header(json!({"exists": true}), Some("")));
}

#[test]
fn combinations() {
    let late = json!({"pointer": "/dep_delay", "gt": 60});
    let jfk = json!({"pointer": "/origin", "equals": "JFK"});
    let check = |config: Value, document: Value| {
        let predicate = compile(&config).expect("config");
        let document = document.to_string();
        predicate.matches(|_| None, &predicate.pointers().pick(document.as_bytes()).expect("json"))
    };
    let flight = json!({"dep_delay": 61, "origin": "LGA"});
    assert!(!check(json!({"all": [late, jfk]}), flight.clone()));
    assert!(check(json!({"any": [late, jfk]}), flight.clone()));
    assert!(check(json!({"all": [late, {"not": jfk}]}), flight.clone()));
    assert!(check(json!({"all": []}), flight.clone()));
    assert!(!check(json!({"any": []}), flight));
}

#[test]
fn bad_conditions_are_refused_by_place_and_remedy() {
    let check = |config: Value, wanted: &str| {
        let error = compile(&config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(json!({}), "config: is no condition: write {\"header\"");
    check(json!("UA"), "config: \"UA\" is not a condition");
    check(json!({"equals": 1}), "config: names no header or pointer, only [\"equals\"]");
    check(json!({"header": "h"}), "config: has no operator: add one of equals");
    check(json!({"header": "", "equals": 1}), "config.header: is empty");
    check(json!({"header": 1, "equals": 1}), "config.header: 1 is not a text");
    check(json!({"header": "h", "pointer": "/p", "equals": 1}), "config: has [\"header\", \"pointer\"]");
    check(json!({"header": "h", "eq": 1}), "config.eq: no such operator; there are equals");
    check(json!({"pointer": "p", "gt": 1}), "config.pointer: \"p\" is not a JSON Pointer: write \"/p\"");
    check(
        json!({"all": [{"header": "h", "gt": 1}, {"not": {"header": "h", "gt": "60"}}]}),
        "config.all[1].not.gt: \"60\" is a text: write 60 without quotes",
    );
    check(json!({"header": "h", "gt": "x"}), "config.gt: \"x\" is not a number");
    check(json!({"header": "h", "prefix": 1}), "config.prefix: 1 is not a text");
    check(json!({"header": "h", "exists": 1}), "config.exists: 1 is neither true nor false");
    check(json!({"header": "h", "in": "UA"}), "config.in: \"UA\" is not a list of values: write [\"UA\"]");
    check(json!({"header": "h", "in": ["UA", null]}), "config.in[1]: null equals nothing");
    check(json!({"header": "h", "equals": null}), "config.equals: null equals nothing");
    check(json!({"header": "h", "equals": [1]}), "config.equals: [1] is not a text, number or bool");
    check(json!({"all": {"header": "h"}}), "config.all: {\"header\":\"h\"} is not a list");
    check(json!({"all": [], "any": []}), "config: has [\"all\", \"any\"]");
    check(json!({"not": {"header": "h", "gt": 1}, "x": 1}), "config: has `x` beside `not`");
    let error = Predicate::parse(&json!({"pointer": "/p", "gt": 1}), "config", Reach::Headers);
    let error = error.expect_err("no payload").to_string();
    assert!(error.contains("use std/json"), "{error}");
}

#[test]
fn lists_of_fields() {
    let fields = list_of_fields(&json!(["origin", "/a/b"]), "config.select").expect("list");
    assert_eq!(fields.iter().map(ToString::to_string).collect::<Vec<_>>(), ["/origin", "/a/b"]);
    for bad in [json!("x"), json!([]), json!([1]), json!([""]), json!(["/~"])] {
        let error = list_of_fields(&bad, "config.select").expect_err("bad").to_string();
        assert!(error.starts_with("config.select"), "{error}");
    }
}

//! What is said of configurations, and hostile schemas.

use serde_json::json;

use super::*;

fn faults(schema: &Value, config: &Value) -> Vec<String> {
    let schema = ConfigSchema::new(schema).expect("a schema");
    let faults = schema.check(&config.to_string()).err().unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}

fn refused(schema: &Value) -> String {
    ConfigSchema::new(schema).map(|_| ()).expect_err("refused")
}

#[test]
fn faults_name_the_field_what_was_found_and_what_belongs_there() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": false,
        "required": ["origin"],
        "properties": {
            "origin": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "Code of the airport,\nas in `JFK`."},
            "over": {"type": "integer", "minimum": 0},
            "how": {"enum": ["a", "b"]},
            "list": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        },
        "$defs": {"Item": {"type": "object", "properties": {"n": {"type": "number"}}}},
    });
    let check = |config: Value, wanted: &[&str]| assert_eq!(faults(&schema, &config), wanted);
    check(json!({"origin": "JFK", "over": 1, "how": "a", "list": [{"n": 1.5}]}), &[]);
    check(json!({}), &["config.origin: is missing (Code of the airport, as in `JFK`)"]);
    check(
        json!({"origin": "x"}),
        &[r#"config.origin: "x" does not match "^[A-Z]{3}$" (Code of the airport, as in `JFK`)"#],
    );
    check(json!({"origin": "JFK", "over": "60"}), &[r#"config.over: "60" is not of type "integer""#]);
    check(json!({"origin": "JFK", "over": -1}), &["config.over: -1 is less than the minimum of 0"]);
    check(
        json!({"origin": "JFK", "ovr": 1}),
        &["config.ovr: is not known here; known are how, list, origin, over"],
    );
    check(json!({"origin": "JFK", "how": "c"}), &[r#"config.how: "c" is not one of "a", "b""#]);
    check(
        json!({"origin": "JFK", "list": [{}, {"n": "1"}, {"n": [1, 2]}, {"n": {}}, {"n": null}]}),
        &[
            r#"config.list[1].n: "1" is not of type "number""#,
            r#"config.list[2].n: [1,2] is not of type "number""#,
            r#"config.list[3].n: {} is not of type "number""#,
        ],
    );
    check(json!([]), &[r#"config: [] is not of type "object""#]);
    let long = json!({"origin": "JFK", "over": "x".repeat(1_000), "list": vec![0; 100_000]});
    assert!(faults(&schema, &long).iter().all(|fault| fault.len() < 200), "{:?}", faults(&schema, &long));
}

#[test]
fn of_several_forms_the_one_that_was_meant_is_told() {
    let schema = json!({"properties": {"to": {"description": "a topic, or several", "anyOf": [
        {"type": "string"},
        {"type": "object", "required": ["topics"], "properties": {"topics": {"type": "array"}}},
    ]}}});
    assert_eq!(
        faults(&schema, &json!({"to": {"topics": "x"}})),
        [r#"config.to.topics: "x" is not of type "array""#]
    );
    assert_eq!(
        faults(&schema, &json!({"to": 1})),
        [
            r#"config.to: 1 has none of the forms that it may have: string or {"topics": array} (a topic, or several)"#
        ]
    );
    let optional =
        json!({"properties": {"n": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}}});
    assert_eq!(faults(&optional, &json!({"n": -1})), ["config.n: -1 is less than the minimum of 0"]);
    let form = |kind: &str| {
        json!({"type": "object", "properties": {"kind": {"const": kind}, kind: {"type": "string"}}, "required": ["kind", kind],
            "additionalProperties": false})
    };
    let tagged = json!({"anyOf": [form("a"), form("b")]});
    assert_eq!(faults(&tagged, &json!({"kind": "b", "b": 1})), [r#"config.b: 1 is not of type "string""#]);
    assert_eq!(faults(&tagged, &json!({"kind": "b", "a": ""})).len(), 2);
    assert_eq!(
        faults(&tagged, &json!({"kind": "c"})),
        [
            r#"config: {"kind":"c"} has none of the forms that it may have: {"kind": "a", "a": string} or {"kind": "b", "b": string}"#
        ]
    );
}

#[test]
fn what_is_no_schema_is_refused_by_its_place() {
    for (schema, wanted) in [
        (json!(1), "#: 1 is no schema"),
        (json!({"properties": {"a": []}}), "#/properties/a: [] is no schema"),
        (json!({"properties": {"a": {"type": "text"}}}), "#/properties/a/type: \"text\""),
        (json!({"required": "a"}), "#/required: \"a\""),
        (json!({"anyOf": {}}), "#/anyOf: {} is not a list"),
        (json!({"if": true}), "#/if: this keyword is not supported"),
        (json!({"minimum": "1"}), "#/minimum: \"1\" is not a number"),
        (json!({"$schema": "http://json-schema.org/draft-04/schema#"}), "draft-04"),
        (json!({"$ref": "https://example.com/schema.json"}), "leads to no definition here"),
        (json!({"$ref": "file:///etc/passwd"}), "leads to no definition here"),
        (json!({"$ref": "#/$defs/a"}), "leads to no definition here"),
        (json!({"$ref": "#/default", "default": {"type": "string"}}), "leads to no definition here"),
        (json!({"$id": "https://example.com/"}), "#/$id: this keyword is not supported"),
        (json!({"$dynamicRef": "#x"}), "#/$dynamicRef: this keyword is not supported"),
        (json!({"pattern": "(a"}), "(a"),
    ] {
        let error = refused(&schema);
        assert!(error.contains(wanted), "{schema}: {error}");
    }
    // What others write for people and tools is no fault, nor is an unknown format.
    let annotated =
        json!({"title": "T", "format": "x", "default": {"$ref": 1}, "x-ui": [], "examples": [{"$id": "x"}]});
    assert!(faults(&annotated, &json!({"a": 1})).is_empty());
}

#[test]
fn schemas_are_bounded() {
    let mut deep = json!({});
    for _ in 0..60 {
        deep = json!({"not": deep});
    }
    assert!(refused(&deep).contains("nested more than 32 deep"));
    let many: Vec<_> = (0..2_000).map(|_| json!({})).collect();
    assert!(refused(&json!({"anyOf": many})).contains("more than 1024 subschemas"));
    assert!(refused(&json!({"const": "x".repeat(70_000)})).contains("above the limit of 65536"));
    let many: Vec<_> = (0..100).map(|_| json!({"pattern": "a"})).collect();
    assert!(refused(&json!({"anyOf": many})).contains("more than 64 patterns"));
    for huge in ["(?:(?:(?:a{1000}){1000}){1000}){1000}", "\\w{10000}", "(a)\\1"] {
        let error = refused(&json!({"pattern": huge}));
        assert!(error.starts_with("#/pattern: ") && error.contains("or it is too large"), "{error}");
    }
}

/// Definitions `0` to `count`, each of which applies the next one twice.
fn doubling(count: usize, apply: impl Fn(Value) -> Value) -> Value {
    let definition = |index: usize| {
        let next = json!({"$ref": format!("#/$defs/{}", index + 1)});
        (index.to_string(), if index == count { json!({"type": "string"}) } else { apply(next) })
    };
    let definitions: serde_json::Map<_, _> = (0..=count).map(definition).collect();
    json!({"$ref": "#/$defs/0", "$defs": definitions})
}

#[test]
fn exponential_references_come_to_an_end() {
    let both: [fn(Value) -> Value; 5] = [
        |next| json!({"allOf": [next.clone(), next]}),
        |next| json!({"anyOf": [{"allOf": [next, false]}, next]}),
        |next| json!({"oneOf": [next.clone(), next]}),
        |next| json!({"not": {"anyOf": [{"not": next.clone()}, {"not": next}]}}),
        |next| json!({"allOf": [{"anyOf": [next.clone(), next]}]}),
    ];
    for apply in both {
        for config in [json!("x"), json!(1)] {
            // Refused when it is compiled, or when it is used, or quickly found to fit or not: nothing hangs.
            if let Ok(schema) = ConfigSchema::new(&doubling(60, apply)) {
                let told = schema.check(&config.to_string());
                assert!(told.is_ok() || told.is_err_and(|faults| !faults.is_empty()));
            }
        }
    }
    // Over the depth of the configuration, too.
    let schema = json!({"anyOf": [{"type": "string"}, {"items": {"$ref": "#"}, "type": "array", "maxItems": 9},
        {"items": {"$ref": "#"}, "type": "array", "minItems": 1}]});
    let mut config = json!(1);
    for _ in 0..100 {
        config = json!([config]);
    }
    let faults = faults(&schema, &config);
    assert!(faults[0].contains("too many steps"), "{faults:?}");
}

#[test]
fn references_in_a_circle_come_to_an_end() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"not": {"$ref": "#"}}),
        json!({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"oneOf": [{"$ref": "#/$defs/b"}]},
            "b": {"allOf": [{"$ref": "#/$defs/a"}, {"type": "string"}]}}}),
        json!({"properties": {"a": {"$ref": "#"}}, "allOf": [{"oneOf": [{"$ref": "#"}]}]}),
    ] {
        if let Ok(schema) = ConfigSchema::new(&schema) {
            let _ = schema.check("{\"a\": {\"a\": 1}}");
        }
    }
    // A long chain without a circle.
    let chain = doubling(150, |next| json!({"allOf": [next]}));
    if let Ok(schema) = ConfigSchema::new(&chain) {
        assert!(schema.check("1").is_err());
        schema.check("\"x\"").expect("a text");
    }
}

#[test]
fn large_configurations_come_to_an_end() {
    let options: Vec<_> = (0..5_000).collect();
    let schema = ConfigSchema::new(&json!({"items": {"enum": options}})).expect("a schema");
    let config = format!("[{}]", vec!["-1"; 300_000].join(","));
    assert_eq!(schema.check(&config).expect_err("refused").len(), FAULTS_MAX);

    let text = format!("[\"{}\"]", "a".repeat(1 << 20));
    let slow: Vec<_> = (0..60).map(|n| json!({"pattern": format!("(a|aa|b{n})*c")})).collect();
    let schema = ConfigSchema::new(&json!({"items": {"anyOf": slow}})).expect("a schema");
    assert!(schema.check(&text).is_err());

    let schema = ConfigSchema::new(&json!({"uniqueItems": true})).expect("a schema");
    let list = (0..60_000).map(|n| format!("{{\"a\":[{n}]}}")).collect::<Vec<_>>().join(",");
    let _ = schema.check(&format!("[{list}]"));
    let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
    schema.check(&deep).expect("within bounds");
    assert!(schema.check(&"[".repeat(100_000)).is_err());
}

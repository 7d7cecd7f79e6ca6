//! What manifests say of configurations, from the types that authors write.

#![expect(dead_code, reason = "the types are there for what they look like")]

use std::collections::{BTreeMap, HashMap, HashSet};

use millstream_sdk::prelude::*;
use millstream_sdk::{ConfigSchema, SchemaText};
use serde_json::from_str;

/// The schema of `T`, without its description.
fn schema<T: ConfigSchema>() -> Value {
    from_str(&format!("{{{}}}", T::MEMBERS)).expect("the schema is JSON")
}

/// What the compiler writes is what is shown on the host.
fn written<T: ModuleConfig>() -> Value {
    let whole = T::SCHEMA;
    assert_eq!(whole.to_string().len(), whole.len());
    from_str(&whole.to_string()).expect("the schema is JSON")
}

/// Which flights
/// are "late".
///
/// This is for those who read the source.
#[derive(ModuleConfig)]
struct Plain {
    /// IATA code, as in `JFK`;
    /// with a \\ in it.
    origin: String,
    #[config(default = 60)]
    over_minutes: i64,
    #[config(default = "a \"b\"")]
    label: String,
    #[serde(default)]
    dry_run: bool,
    limit: Option<u8>,
    #[serde(default = "ten")]
    retries: u32,
    #[serde(skip)]
    not_read: u64,
}

fn ten() -> u32 {
    10
}

#[test]
fn fields_with_their_docs_and_defaults() {
    assert_eq!(
        written::<Plain>(),
        json!({
            "description": "Which flights are \"late\".",
            "type": "object",
            "properties": {
                "origin": {"description": "IATA code, as in `JFK`; with a \\\\ in it.", "type": "string"},
                "over_minutes": {"type": "integer", "default": 60},
                "label": {"type": "string", "default": "a \"b\""},
                "dry_run": {"type": "boolean", "default": false},
                "limit": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 255}, {"type": "null"}]},
                "retries": {"type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32},
            },
            "required": ["origin"],
            "additionalProperties": false,
        })
    );
    let config = Plain::from_json(r#"{"origin": "JFK"}"#).expect("a configuration");
    let found = (config.over_minutes, config.label.as_str(), config.dry_run, config.limit, config.retries);
    assert_eq!(found, (60, "a \"b\"", false, None, 10));
}

#[derive(ModuleConfig)]
#[serde(rename_all = "kebab-case")]
struct Renamed {
    to_topic: TopicName,
    #[serde(rename = "KEY", alias = "key")]
    by: String,
    #[serde(deserialize_with = "any_text")]
    read_by_hand: u64,
    #[serde(default, with = "hand")]
    read_with: u64,
    #[config(any)]
    whatever: Vec<u8>,
    foreign: std::net::Ipv4Addr,
    r#type: char,
}

fn any_text<'de, D: millstream_sdk::serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    use millstream_sdk::serde::Deserialize as _;
    Ok(String::deserialize(from)?.len() as u64)
}

mod hand {
    pub(crate) use super::any_text as deserialize;
}

#[test]
fn names_are_those_of_serde_and_what_is_not_known_is_anything() {
    let schema = written::<Renamed>();
    assert_eq!(
        schema["properties"],
        json!({
            "to-topic": {"type": "string", "minLength": 1, "maxLength": 255},
            "KEY": {"type": "string"},
            "key": {"description": "The same as KEY."},
            "read-by-hand": {}, "read-with": {}, "whatever": {}, "foreign": {},
            "type": {"type": "string", "minLength": 1, "maxLength": 1},
        })
    );
    assert_eq!(schema["required"], json!(["to-topic", "read-by-hand", "whatever", "type"]));
}

#[derive(ModuleConfig)]
struct Lists {
    names: Vec<String>,
    pairs: Vec<(f64, Option<bool>)>,
    by_name: BTreeMap<String, Vec<i8>>,
    weights: HashMap<String, f32>,
    codes: HashSet<u16>,
    corners: [i64; 12],
    free: Value,
    inner: Inner,
    boxed: Option<Box<Inner>>,
    children: Vec<Lists>,
}

#[derive(ModuleConfig)]
#[serde(default)]
#[derive(Default)]
struct Inner {
    a: u64,
}

#[test]
fn collections_and_inner_types() {
    let schema = schema::<Lists>();
    let inner = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": [],
        "additionalProperties": false});
    assert_eq!(
        schema["properties"],
        json!({
            "names": {"type": "array", "items": {"type": "string"}},
            "pairs": {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems":
                [{"type": "number"}, {"anyOf": [{"type": "boolean"}, {"type": "null"}]}]}},
            "by_name": {"type": "object", "additionalProperties":
                {"type": "array", "items": {"type": "integer", "minimum": -128, "maximum": 127}}},
            "weights": {"type": "object", "additionalProperties": {"type": "number"}},
            "codes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 65_535}},
            "corners": {"type": "array", "items": {"type": "integer"}, "minItems": 12, "maxItems": 12},
            "free": {},
            "inner": inner,
            "boxed": {"anyOf": [inner, {"type": "null"}]},
            "children": {},
        })
    );
}

#[derive(ModuleConfig)]
struct Flattened {
    own: String,
    #[serde(flatten)]
    plain: Plain,
    #[serde(flatten)]
    maybe: Option<Inner>,
}

#[derive(ModuleConfig)]
struct Open {
    own: String,
    #[serde(flatten)]
    rest: HashMap<String, Value>,
}

#[test]
fn flattened_fields_are_fields() {
    let flat = schema::<Flattened>();
    assert_eq!(flat["required"], json!(["own", "origin"]));
    assert_eq!(flat["properties"].as_object().map(|fields| fields.len()), Some(8));
    assert_eq!(flat["additionalProperties"], json!(false));
    assert_eq!(
        schema::<Open>(),
        json!({"type": "object", "properties": {"own": {"type": "string"}}, "required": ["own"]})
    );
}

#[derive(ModuleConfig)]
#[serde(rename_all = "snake_case")]
enum Unit {
    AsItIs,
    #[serde(alias = "other")]
    Else,
    #[serde(skip)]
    Never,
}

#[derive(ModuleConfig)]
enum Outer {
    Off,
    /// Every n-th.
    Every(u32),
    Between(u8, u8),
    Named {
        name: String,
    },
}

#[derive(ModuleConfig)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Tagged {
    Off,
    Plain(Inner),
    Named { name: String, note: Option<String> },
}

#[derive(ModuleConfig)]
#[serde(tag = "t", content = "c")]
enum Beside {
    Off,
    On(bool),
}

#[derive(ModuleConfig)]
#[serde(untagged)]
enum Either {
    One(String),
    Many(Vec<String>),
}

#[test]
fn enums_as_serde_tells_them_apart() {
    let byte = json!({"type": "integer", "minimum": 0, "maximum": 255});
    let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let one = |name: &str, content: Value| {
        json!({"type": "object", "properties": {name: content}, "minProperties": 1, "maxProperties": 1,
            "additionalProperties": false})
    };
    assert_eq!(schema::<Unit>(), json!({"enum": ["as_it_is", "else", "other"]}));
    let mut every = one("Every", json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}));
    every["description"] = json!("Every n-th.");
    assert_eq!(
        schema::<Outer>(),
        json!({"anyOf": [
            {"enum": ["Off"]},
            every,
            one("Between", json!({"type": "array", "prefixItems": [byte, byte], "minItems": 2, "maxItems": 2})),
            one("Named", object(json!({"name": {"type": "string"}}), json!(["name"]))),
        ]})
    );
    let text_or_null = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
    assert_eq!(
        schema::<Tagged>(),
        json!({"anyOf": [
            object(json!({"kind": {"const": "off"}}), json!(["kind"])),
            object(json!({"kind": {"const": "plain"}, "a": {"type": "integer", "minimum": 0}}), json!(["kind"])),
            object(json!({"kind": {"const": "named"}, "name": {"type": "string"}, "note": text_or_null}), json!(["kind", "name"])),
        ]})
    );
    assert_eq!(
        schema::<Beside>(),
        json!({"anyOf": [
            object(json!({"t": {"const": "Off"}, "c": {"type": "null"}}), json!(["t"])),
            object(json!({"t": {"const": "On"}, "c": {"type": "boolean"}}), json!(["t", "c"])),
        ]})
    );
    let texts = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(schema::<Either>(), json!({"anyOf": [{"type": "string"}, texts]}));
}

#[derive(ModuleConfig)]
#[serde(try_from = "String")]
struct Parsed {
    port: u16,
}

impl TryFrom<String> for Parsed {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Self { port: text.parse()? })
    }
}

#[filter]
fn takes_nothing(_record: &Record) -> bool {
    true
}

#[test]
fn modules_without_a_configuration_and_types_read_by_hand() {
    assert_eq!(schema::<Parsed>(), json!({}));
    let none = json!({"type": "object", "additionalProperties": false});
    assert_eq!(test::config_schema::<takes_nothing>(), none);
}

#[test]
fn the_compiler_writes_the_text() {
    const TEXT: SchemaText = <Plain as ModuleConfig>::SCHEMA;
    static BYTES: [u8; TEXT.len()] = TEXT.bytes();
    assert_eq!(std::str::from_utf8(&BYTES).expect("text"), TEXT.to_string());
}

#[derive(Default, ModuleConfig)]
#[serde(rename_all = "snake_case")]
enum Way {
    There,
    #[default]
    AndBack,
}

#[derive(ModuleConfig)]
struct Trip {
    #[serde(default)]
    way: Way,
}

#[test]
fn the_default_of_an_enum_is_the_variant_that_it_stands_on() {
    let schema = written::<Trip>();
    assert_eq!(schema["properties"]["way"], json!({"enum": ["there", "and_back"], "default": "and_back"}));
}

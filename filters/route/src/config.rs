//! The configuration: what decides, and which topic it means.

use std::collections::BTreeMap;

use millstream_filter_predicate::{ConfigError, PointerTree, Source};
use millstream_sdk::prelude::*;
use millstream_sdk::{SchemaText, parse_config, serde_json};

use crate::template::{Template, none};

const SHAPE: &str = r#"write {"template": "flights.{carrier}"} (a header) or {"template": "flights.{/carrier}"} (a JSON field), or {"header": NAME, "table": {VALUE: TOPIC}} or {"pointer": "/FIELD", "table": {VALUE: TOPIC}}; "default": TOPIC takes the rest"#;

/// What decides, and which topic it means.
#[derive(Debug, Clone)]
pub struct Config {
    pointers: PointerTree,
    rule: Rule,
    default: Option<TopicName>,
}

#[derive(Debug, Clone)]
enum Rule {
    Table(Source, BTreeMap<String, TopicName>),
    Template(Template),
}

impl Config {
    /// Whether a JSON field is asked for.
    pub(crate) fn reads_payload(&self) -> bool {
        !self.pointers.is_empty()
    }

    /// Every topic it may send to.
    pub(crate) fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = match &self.rule {
            Rule::Table(_, table) => table.values().map(|topic| topic.as_str().to_owned()).collect(),
            Rule::Template(template) => vec![template.pattern()],
        };
        topics.extend(self.default.iter().map(|topic| topic.as_str().to_owned()));
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// The topic for a record, the default, or why there is none.
    pub(crate) fn destination(&self, record: &Record<'_>) -> Result<String, String> {
        let fields = self.pointers.fields(record)?;
        let chosen = match &self.rule {
            Rule::Template(template) => template.fill(record, &fields).and_then(|topic| {
                TopicName::new(topic.as_str()).map(|_| topic).map_err(|error| error.to_string())
            }),
            Rule::Table(source, table) => {
                let found = source.found(record, &fields);
                match found.to_text() {
                    None => Err(format!("{source} {}", none(&found))),
                    Some(value) => {
                        table.get(&*value).map(|topic| topic.as_str().to_owned()).ok_or_else(|| {
                            let shown: String = value.chars().take(60).collect();
                            format!("{source} is {shown:?}, which is not in the table")
                        })
                    }
                }
            }
        };
        match (&self.default, chosen) {
            (Some(default), Err(_)) => Ok(default.as_str().to_owned()),
            (_, chosen) => {
                chosen.map_err(|why| format!("no topic for this record: {why}, and there is no default"))
            }
        }
    }
}

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = SchemaText::Text(
        r#"{"type": "object", "additionalProperties": false,
        "description": "A template, or a table with the header or pointer that decides", "properties": {
        "template": {"type": "string",
            "description": "A topic name with places: {NAME} is a header, {/FIELD} a JSON Pointer, {} the value that decides"},
        "table": {"type": "object", "additionalProperties": {"type": "string"},
            "description": "The topic for each value of the header or pointer"},
        "header": {"type": "string", "description": "The header that decides"},
        "pointer": {"type": "string", "description": "JSON Pointer to the field that decides"},
        "default": {"type": "string", "description": "The topic where all others go"}}}"#,
    );

    fn from_json(json: &str) -> Result<Self, String> {
        let mut config: serde_json::Map<String, Value> = parse_config(json)?;
        let mut text = |name: &str| match config.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(at(name, format!("{other} is not a text"))),
        };
        let (header, pointer) = (text("header")?, text("pointer")?);
        let (template, default) = (text("template")?, text("default")?);
        let table = config.remove("table");
        if let Some(unknown) = config.keys().next() {
            return Err(at(unknown, format!("is not known here: {SHAPE}")).into());
        }
        let mut pointers = PointerTree::default();
        let decides = match (header, pointer) {
            (Some(_), Some(_)) => {
                return Err(at("pointer", "stands beside `header`: one of them decides".into()).into());
            }
            (Some(header), None) => {
                Some(source(&mut pointers, &header).map_err(|fault| at("header", fault))?)
            }
            (None, Some(pointer)) if !pointer.starts_with('/') => {
                return Err(at(
                    "pointer",
                    format!("{pointer:?} is not a JSON Pointer: write \"/{pointer}\""),
                )
                .into());
            }
            (None, Some(pointer)) => {
                Some(source(&mut pointers, &pointer).map_err(|fault| at("pointer", fault))?)
            }
            (None, None) => None,
        };
        let rule = match (table, template, decides) {
            (Some(_), Some(_), _) => {
                return Err(at("template", "stands beside `table`: write one of them".into()).into());
            }
            (Some(_), None, None) => {
                return Err(
                    at("table", "has no `header` or `pointer` beside it to be looked up".into()).into()
                );
            }
            (Some(table), None, Some(source)) => Rule::Table(source, parse_table(&table)?),
            (None, Some(template), decides) => {
                Rule::Template(parse_template(&template, decides.as_ref(), &mut pointers)?)
            }
            (None, None, _) => {
                return Err(ConfigError::new("config", format!("says no topic: {SHAPE}")).into());
            }
        };
        let default =
            default.map(TopicName::new).transpose().map_err(|error| at("default", error.to_string()))?;
        Ok(Self { pointers, rule, default })
    }
}

fn at(field: &str, fault: String) -> ConfigError {
    ConfigError::new(format!("config.{field}"), fault)
}

/// A header's name, or, with a leading slash, a JSON Pointer.
fn source(pointers: &mut PointerTree, text: &str) -> Result<Source, String> {
    match text {
        "" => Err("is empty: write a header's name, or a JSON Pointer such as \"/carrier\"".into()),
        _ if text.starts_with('/') => Source::field(text.to_owned(), pointers),
        _ => Source::header(text.to_owned()),
    }
}

fn parse_table(table: &Value) -> Result<BTreeMap<String, TopicName>, ConfigError> {
    let shape = r#"write {"UA": "flights.united", ...}"#;
    let Value::Object(table) = table else {
        return Err(at("table", format!("{table} is not a table: {shape}")));
    };
    if table.is_empty() {
        return Err(at("table", format!("is empty: {shape}")));
    }
    let row = |(value, topic): (&String, &Value)| {
        let place = || format!("config.table.{value}");
        match topic {
            Value::String(topic) => TopicName::new(topic.as_str())
                .map(|topic| (value.clone(), topic))
                .map_err(|error| ConfigError::new(place(), error.to_string())),
            other => Err(ConfigError::new(place(), format!("{other} is not a topic's name"))),
        }
    };
    table.iter().map(row).collect()
}

/// With a `header` or `pointer` beside the template, `{}` and its own name mean that value; other placeholders are
/// headers and JSON Pointers.
fn parse_template(
    text: &str,
    decides: Option<&Source>,
    pointers: &mut PointerTree,
) -> Result<Template, ConfigError> {
    let own_name = |placeholder: &str| match decides {
        Some(Source::Header(name)) => placeholder == name,
        Some(Source::Field { pointer, .. }) => pointer.rsplit('/').next() == Some(placeholder),
        Some(Source::Key) | None => false,
    };
    let template = Template::new(text, |placeholder| match decides {
        Some(decides) if placeholder.is_empty() || own_name(placeholder) => Ok(decides.clone()),
        None if placeholder.is_empty() => {
            Err("`{}` says no value: write {NAME} for a header, {/FIELD} for a JSON field".into())
        }
        _ => source(pointers, placeholder),
    });
    let template = template.map_err(|fault| at("template", fault))?;
    // Whatever the values are, the rest must make a name.
    match TopicName::new(template.with_values("x")) {
        Ok(_) => Ok(template),
        Err(error) => Err(at("template", format!("{text:?} cannot make a topic name: {error}"))),
    }
}

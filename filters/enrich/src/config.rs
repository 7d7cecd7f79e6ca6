//! The configuration: what is looked up, the table, and where its rows go.

use std::collections::BTreeMap;

use millstream_filter_predicate::{By, ConfigError, Node, Pointer, PointerTree, Source, shown};
use millstream_sdk::SchemaText;
use millstream_sdk::prelude::*;

use crate::table::Table as Once;

/// A table, what is looked up in it, and where its rows go.
///
/// The configuration as it is written.
#[derive(Debug, ModuleConfig)]
struct Written {
    /// What is looked up: `"key"`, a header or a JSON field.
    #[serde(default)]
    by: By,
    /// For each value its row: names, and what is added under each.
    table: Once<Once<Value>>,
    /// Where rows go.
    into: Into,
    /// What becomes of a record that has no row.
    #[serde(default)]
    on_missing: OnMissing,
}

/// Where a row goes.
#[derive(Debug, ModuleConfig)]
#[serde(rename_all = "snake_case")]
enum Into {
    /// Each cell becomes a header.
    Headers,
    /// Each cell becomes a field of the JSON object at this pointer.
    Pointer(String),
}

/// What becomes of a record that has no row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ModuleConfig)]
#[serde(rename_all = "snake_case")]
enum OnMissing {
    #[default]
    Keep,
    Drop,
    Reject,
}

/// What is looked up, in which table, and where its rows go.
#[derive(Debug, Clone)]
pub struct Config {
    source: Source,
    pointers: PointerTree,
    table: Table,
    on_missing: OnMissing,
}

#[derive(Debug, Clone)]
enum Table {
    /// For each value the headers it adds.
    Headers(BTreeMap<String, Vec<(String, String)>>),
    /// For each value the fields it sets, as JSON.
    Fields(BTreeMap<String, Vec<(Pointer, String)>>),
}

impl Config {
    /// Whether a field is looked up, or fields are set.
    pub(crate) fn reads_payload(&self) -> bool {
        !self.pointers.is_empty() || matches!(self.table, Table::Fields(_))
    }

    pub(crate) fn enrich(&self, record: &Record<'_>) -> Result<Option<Output>, String> {
        let fields = self.pointers.fields(record)?;
        let found = self.source.found(record, &fields);
        let value = found.to_text();
        let value = value.as_deref();
        let output = match &self.table {
            Table::Headers(table) => {
                value.and_then(|value| table.get(value)).map(|row| Ok(with_headers(record, row)))
            }
            // Without a payload there is nothing to set a field in.
            Table::Fields(_) if record.is_tombstone() => return Ok(Some(Output::same())),
            Table::Fields(table) => {
                value.and_then(|value| table.get(value)).map(|row| with_fields(record, row))
            }
        };
        match (output, self.on_missing) {
            (Some(output), _) => output.map(Some),
            (None, OnMissing::Keep) => Ok(Some(Output::same())),
            (None, OnMissing::Drop) => Ok(None),
            (None, OnMissing::Reject) => Err(match value {
                Some(value) => {
                    let shown: String = value.chars().take(60).collect();
                    format!("{} is {shown:?}, which is not in the table", self.source)
                }
                None => format!("{} is missing or no text, number or bool", self.source),
            }),
        }
    }
}

/// The record with the row's headers, in place of its own of these names.
fn with_headers(record: &Record<'_>, row: &[(String, String)]) -> Output {
    let others = record.headers().filter(|(name, _)| !row.iter().any(|(new, _)| new == name));
    let kept = others.fold(Output::same().without_headers(), |output, (name, value)| {
        output.add_header(name, value.to_vec())
    });
    row.iter().fold(kept, |output, (name, value)| output.add_header(name.as_str(), value.clone()))
}

/// The record with the row's fields in its payload.
fn with_fields(record: &Record<'_>, row: &[(Pointer, String)]) -> Result<Output, String> {
    let text = record.text().map_err(|error| error.to_string())?;
    let mut document = Node::parse(text).map_err(|error| format!("the payload is not JSON: {error}"))?;
    for (pointer, json) in row {
        document.set(pointer, Node::Text(json.as_str().into()))?;
    }
    let mut out =
        String::with_capacity(text.len() + row.iter().map(|(_, json)| json.len() + 16).sum::<usize>());
    document.write(&mut out);
    Ok(Output::payload(out))
}

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = Written::SCHEMA;

    fn from_json(json: &str) -> Result<Self, String> {
        let Written { by, table: Once(table), into, on_missing } = Written::from_json(json)?;
        let mut pointers = PointerTree::default();
        let source = by.compile("config.by", &mut pointers)?;
        if table.is_empty() {
            let fault = r#"is empty: write {"UA": {"airline": "United"}, ...}"#;
            return Err(ConfigError::new("config.table", fault).into());
        }
        let table = match into {
            Into::Headers => {
                Table::Headers(rows(table, |name, value| Ok((header_name(name)?, header_value(value)?)))?)
            }
            Into::Pointer(text) => {
                let parent =
                    Pointer::new(&text).map_err(|fault| ConfigError::new("config.into.pointer", fault))?;
                Table::Fields(rows(table, |name, value| Ok((parent.child(&name), value.to_string())))?)
            }
        };
        Ok(Self { source, pointers, table, on_missing })
    }
}

fn rows<N>(
    table: BTreeMap<String, Once<Value>>,
    cell: impl Fn(String, Value) -> Result<(N, String), String>,
) -> Result<BTreeMap<String, Vec<(N, String)>>, ConfigError> {
    let row = |(value, Once(row)): (String, Once<Value>)| {
        let cells = row.into_iter().map(|(name, content)| {
            let path = format!("config.table.{value}.{name}");
            cell(name, content).map_err(|fault| ConfigError::new(path, fault))
        });
        let cells = cells.collect::<Result<_, _>>()?;
        Ok((value, cells))
    };
    table.into_iter().map(row).collect()
}

fn header_name(name: String) -> Result<String, String> {
    match (1..=HEADER_NAME_BYTES_MAX).contains(&name.len()) {
        true => Ok(name),
        false => Err(format!(
            "has {} bytes for a header's name; 1 to {HEADER_NAME_BYTES_MAX} are allowed",
            name.len()
        )),
    }
}

/// The broker's limit.
const HEADER_NAME_BYTES_MAX: usize = 1024;

fn header_value(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other => Err(format!("{} is no text, number or bool, as a header's value must be", shown(&other))),
    }
}

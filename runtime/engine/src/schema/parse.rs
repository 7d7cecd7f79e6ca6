//! From a module's schema to compiled subschemas, within bounds.

use std::collections::BTreeMap;

use regex::RegexBuilder;
use serde_json::{Map, Number, Value};

use super::fault::shown;
use super::node::{Node, Type};
use crate::limits::{
    SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_PARTS_MAX, SCHEMA_PATTERN_BYTES, SCHEMA_PATTERNS_MAX,
};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Keywords that mean something which is not looked at here: better refused than passed over.
const REFUSED: [&str; 21] = [
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$vocabulary",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "multipleOf",
    "patternProperties",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// The subschemas of `document`, and the place of the whole.
///
/// # Errors
/// A text that names the part at fault.
pub(crate) fn parse(document: &Value) -> Result<(Vec<Node>, usize), String> {
    let bytes = document.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(format!("it has {bytes} bytes, above the limit of {SCHEMA_BYTES_MAX}"));
    }
    let mut parser =
        Parser { nodes: Vec::new(), places: BTreeMap::new(), references: Vec::new(), patterns: 0 };
    let root = parser.schema(document, "#", 0)?;
    parser.resolve()?;
    Ok((parser.nodes, root))
}

struct Parser {
    nodes: Vec<Node>,
    /// What may be referred to: the whole, and the definitions.
    places: BTreeMap<String, usize>,
    /// Who refers to what, and where that stands.
    references: Vec<(usize, String, String)>,
    patterns: usize,
}

impl Parser {
    fn schema(&mut self, schema: &Value, at: &str, depth: usize) -> Result<usize, String> {
        let place = self.nodes.len();
        if place >= SCHEMA_PARTS_MAX {
            return Err(format!("{at}: it has more than {SCHEMA_PARTS_MAX} subschemas"));
        }
        if depth > SCHEMA_DEPTH_MAX {
            return Err(format!("{at}: its subschemas are nested more than {SCHEMA_DEPTH_MAX} deep"));
        }
        self.nodes.push(Node::default());
        if depth == 0 || is_definition(at) {
            self.places.insert(at.to_owned(), place);
        }
        let node = match schema {
            Value::Bool(fits) => Node { never: !fits, ..Node::default() },
            Value::Object(fields) => self.fields(fields, place, at, depth)?,
            other => {
                return Err(format!("{at}: {} is no schema, which is an object or a bool", shown(other)));
            }
        };
        if let Some(slot) = self.nodes.get_mut(place) {
            *slot = node;
        }
        Ok(place)
    }

    fn fields(
        &mut self,
        fields: &Map<String, Value>,
        place: usize,
        at: &str,
        depth: usize,
    ) -> Result<Node, String> {
        let mut node = Node::default();
        for (keyword, value) in fields {
            let at = format!("{at}/{keyword}");
            match keyword.as_str() {
                "description" => node.description = value.as_str().map(str::to_owned),
                "type" => node.types = Some(types(value, &at)?),
                "const" => node.constant = Some(value.clone()),
                "enum" => node.options = Some(list(value, &at)?.clone()),
                "$ref" => {
                    let target = value.as_str().unwrap_or_default().to_owned();
                    self.references.push((place, target, at));
                }
                "allOf" => node.all = self.schemas(value, &at, depth)?,
                "anyOf" => node.any = Some(self.schemas(value, &at, depth)?),
                "oneOf" => node.one = Some(self.schemas(value, &at, depth)?),
                "not" => node.not = Some(self.schema(value, &at, depth + 1)?),
                "properties" => node.properties = self.named(value, &at, depth)?,
                "$defs" | "definitions" => drop(self.named(value, &at, depth)?),
                "required" => node.required = texts(value, &at)?,
                "additionalProperties" => node.additional = Some(self.schema(value, &at, depth + 1)?),
                "prefixItems" => node.prefix = self.schemas(value, &at, depth)?,
                "items" => node.items = Some(self.schema(value, &at, depth + 1)?),
                "uniqueItems" => {
                    node.unique = value.as_bool().ok_or_else(|| wrong(value, &at, "a bool"))?;
                }
                "pattern" => node.pattern = Some(self.pattern(value, &at)?),
                "minLength" => node.lengths[0].min = Some(count(value, &at)?),
                "maxLength" => node.lengths[0].max = Some(count(value, &at)?),
                "minItems" => node.lengths[1].min = Some(count(value, &at)?),
                "maxItems" => node.lengths[1].max = Some(count(value, &at)?),
                "minProperties" => node.lengths[2].min = Some(count(value, &at)?),
                "maxProperties" => node.lengths[2].max = Some(count(value, &at)?),
                "minimum" => node.minimum = Some(number(value, &at)?),
                "maximum" => node.maximum = Some(number(value, &at)?),
                "exclusiveMinimum" => node.above = Some(number(value, &at)?),
                "exclusiveMaximum" => node.below = Some(number(value, &at)?),
                "$schema" => match value.as_str().map(|text| text.trim_end_matches('#')) {
                    Some(DRAFT) => {}
                    _ => return Err(format!("{at}: {} is not \"{DRAFT}\"", shown(value))),
                },
                refused if REFUSED.contains(&refused) => {
                    return Err(format!("{at}: this keyword is not supported in a module's schema"));
                }
                // Words for people and other tools.
                _ => {}
            }
        }
        Ok(node)
    }

    fn schemas(&mut self, value: &Value, at: &str, depth: usize) -> Result<Vec<usize>, String> {
        let schemas = list(value, at)?.iter().enumerate();
        schemas.map(|(index, schema)| self.schema(schema, &format!("{at}/{index}"), depth + 1)).collect()
    }

    fn named(&mut self, value: &Value, at: &str, depth: usize) -> Result<BTreeMap<String, usize>, String> {
        let Value::Object(schemas) = value else { return Err(wrong(value, at, "an object of schemas")) };
        let schema = |(name, schema): (&String, &Value)| {
            Ok((name.clone(), self.schema(schema, &format!("{at}/{name}"), depth + 1)?))
        };
        schemas.iter().map(schema).collect()
    }

    fn pattern(&mut self, value: &Value, at: &str) -> Result<regex::Regex, String> {
        self.patterns += 1;
        if self.patterns > SCHEMA_PATTERNS_MAX {
            return Err(format!("{at}: it has more than {SCHEMA_PATTERNS_MAX} patterns"));
        }
        let text = value.as_str().ok_or_else(|| wrong(value, at, "a text"))?;
        // Its time is linear in the text, whatever the pattern.
        let pattern = RegexBuilder::new(text)
            .size_limit(SCHEMA_PATTERN_BYTES)
            .dfa_size_limit(SCHEMA_PATTERN_BYTES)
            .nest_limit(50)
            .build();
        pattern.map_err(|_| {
            format!("{at}: {} is no pattern that is taken here, or it is too large", shown(value))
        })
    }

    /// References lead to the schema itself or to one of its definitions: nothing is ever fetched.
    fn resolve(&mut self) -> Result<(), String> {
        for (place, target, at) in std::mem::take(&mut self.references) {
            let Some(found) = self.places.get(&target).copied() else {
                return Err(format!(
                    "{at}: {target:?} leads to no definition here: write \"#/$defs/NAME\", or \"#\""
                ));
            };
            if let Some(node) = self.nodes.get_mut(place) {
                node.reference = Some(found);
            }
        }
        Ok(())
    }
}

/// Whether `#/$defs/NAME` or `#/definitions/NAME` leads there.
fn is_definition(at: &str) -> bool {
    let name = at.strip_prefix("#/$defs/").or_else(|| at.strip_prefix("#/definitions/"));
    name.is_some_and(|name| !name.contains('/'))
}

fn types(value: &Value, at: &str) -> Result<Vec<Type>, String> {
    let one = |value: &Value| {
        let known = Type::ALL.into_iter().find(|known| Some(known.name()) == value.as_str());
        known.ok_or_else(|| wrong(value, at, "a type"))
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

fn list<'a>(value: &'a Value, at: &str) -> Result<&'a Vec<Value>, String> {
    value.as_array().ok_or_else(|| wrong(value, at, "a list"))
}

fn texts(value: &Value, at: &str) -> Result<Vec<String>, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(value, at, "a text"));
    list(value, at)?.iter().map(text).collect()
}

fn count(value: &Value, at: &str) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| wrong(value, at, "a count"))
}

fn number(value: &Value, at: &str) -> Result<Number, String> {
    value.as_number().cloned().ok_or_else(|| wrong(value, at, "a number"))
}

fn wrong(value: &Value, at: &str, wanted: &str) -> String {
    format!("{at}: {} is not {wanted}", shown(value))
}

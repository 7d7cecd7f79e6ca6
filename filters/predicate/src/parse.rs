//! From a configuration's JSON to a condition; every error names its place and the remedy.

use memchr::memmem::Finder;
use serde_json::{Map, Value};

use crate::condition::{Condition, OneOf, Operand, Predicate, Test};
use crate::{ConfigError, Number, Pointer, PointerTree};

const OPERATORS: &str = "equals, not_equals, in, prefix, suffix, contains, exists, gt, gte, lt, lte";
const SHAPE: &str = r#"write {"header": NAME, OPERATOR: VALUE} or {"pointer": "/FIELD", OPERATOR: VALUE}, or combine such by {"all": [...]}, {"any": [...]}, {"not": {...}}"#;
const HEADER_SHAPE: &str = r#"write {"header": NAME, OPERATOR: VALUE}, or combine such by {"all": [...]}, {"any": [...]}, {"not": {...}}"#;

/// What a condition may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Headers alone.
    Headers,
    /// Headers and fields of a JSON payload.
    HeadersAndJson,
}

impl Predicate {
    /// Compiles the condition `config`, which errors call `path`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the part at fault.
    pub fn parse(config: &Value, path: &str, reach: Reach) -> Result<Self, ConfigError> {
        let mut compiler = Compiler { reach, pointers: PointerTree::default() };
        let root = compiler.condition(config, path)?;
        Ok(Self { root, pointers: compiler.pointers })
    }
}

/// The fields that the list `config` names: by name at the top level, or by JSON Pointer.
///
/// # Errors
/// [`ConfigError`] when it is no list, is empty, or an entry names no field.
pub fn list_of_fields(config: &Value, path: &str) -> Result<Vec<Pointer>, ConfigError> {
    let shape = r#"write a list of fields, as in ["origin", "/card/number"]"#;
    let Value::Array(entries) = config else {
        return Err(ConfigError::new(path, format!("{} is not a list: {shape}", shown(config))));
    };
    if entries.is_empty() {
        return Err(ConfigError::new(path, format!("is empty: {shape}")));
    }
    let field = |(index, entry): (usize, &Value)| {
        let path = format!("{path}[{index}]");
        match entry {
            Value::String(text) => Pointer::of_field(text).map_err(|fault| ConfigError::new(path, fault)),
            other => Err(ConfigError::new(path, format!("{} is not a text: {shape}", shown(other)))),
        }
    };
    entries.iter().enumerate().map(field).collect()
}

struct Compiler {
    reach: Reach,
    pointers: PointerTree,
}

impl Compiler {
    fn condition(&mut self, config: &Value, path: &str) -> Result<Condition, ConfigError> {
        let fault = |fault: String| Err(ConfigError::new(path, fault));
        let shape = match self.reach {
            Reach::Headers => HEADER_SHAPE,
            Reach::HeadersAndJson => SHAPE,
        };
        let Value::Object(object) = config else {
            return fault(format!("{} is not a condition: {shape}", shown(config)));
        };
        let heads = ["all", "any", "not", "header", "pointer"].into_iter();
        let heads: Vec<_> = heads.filter_map(|head| Some((head, object.get(head)?))).collect();
        let (head, operand) = match heads.as_slice() {
            [head] => *head,
            [] if object.is_empty() => return fault(format!("is no condition: {shape}")),
            [] => {
                let found: Vec<&str> = object.keys().map(String::as_str).collect();
                return fault(format!("names no header or pointer, only {found:?}: {shape}"));
            }
            several => {
                let found: Vec<&str> = several.iter().map(|(head, _)| *head).collect();
                return fault(format!("has {found:?} in one condition: give each its own, within `all`"));
            }
        };
        if matches!(head, "header" | "pointer") {
            let tests = tests(object, head, path)?;
            return self
                .test(head, operand, tests)
                .map_err(|fault| ConfigError::new(format!("{path}.{head}"), fault));
        }
        if let Some(extra) = object.keys().find(|key| *key != head) {
            return fault(format!("has `{extra}` beside `{head}`, which stands alone"));
        }
        let path = format!("{path}.{head}");
        if head == "not" {
            return Ok(Condition::Not(Box::new(self.condition(operand, &path)?)));
        }
        let Value::Array(conditions) = operand else {
            return Err(ConfigError::new(path, format!("{} is not a list of conditions", shown(operand))));
        };
        let conditions = conditions.iter().enumerate();
        let conditions =
            conditions.map(|(index, condition)| self.condition(condition, &format!("{path}[{index}]")));
        let conditions = conditions.collect::<Result<_, _>>()?;
        Ok(if head == "all" { Condition::All(conditions) } else { Condition::Any(conditions) })
    }

    /// `tests` on the header or pointer that `operand` names.
    fn test(&mut self, head: &str, operand: &Value, tests: Vec<Test>) -> Result<Condition, String> {
        let Value::String(name) = operand else {
            return Err(format!("{} is not a text", shown(operand)));
        };
        match (head, self.reach) {
            ("header", _) if name.is_empty() => Err("is empty: write a header's name".into()),
            ("header", _) => Ok(Condition::Header(name.clone(), tests)),
            (_, Reach::Headers) => {
                Err("this module reads headers alone: use std/json for fields of the payload".into())
            }
            (_, Reach::HeadersAndJson) => {
                Ok(Condition::Field(self.pointers.add(&Pointer::new(name)?), tests))
            }
        }
    }
}

/// The operators beside `head`.
fn tests(object: &Map<String, Value>, head: &str, path: &str) -> Result<Vec<Test>, ConfigError> {
    let tests = object.iter().filter(|(key, _)| *key != head);
    let tests: Vec<Test> =
        tests.map(|(operator, operand)| test(operator, operand, path)).collect::<Result<_, _>>()?;
    if tests.is_empty() {
        let fault = format!("has no operator: add one of {OPERATORS}, as in \"equals\": \"UA\"");
        return Err(ConfigError::new(path, fault));
    }
    Ok(tests)
}

fn test(operator: &str, operand: &Value, path: &str) -> Result<Test, ConfigError> {
    let at = |fault: String| ConfigError::new(format!("{path}.{operator}"), fault);
    let number = || match operand {
        Value::Number(found) => Number::of_json(found).ok_or_else(|| at(format!("{found} is out of range"))),
        Value::String(text) if Number::of_text(text.as_bytes()).is_some() => {
            Err(at(format!("{text:?} is a text: write {text} without quotes")))
        }
        other => Err(at(format!("{} is not a number; gt, gte, lt and lte compare numbers", shown(other)))),
    };
    let text = || match operand {
        Value::String(text) => Ok(text.clone()),
        other => {
            Err(at(format!("{} is not a text; prefix, suffix and contains compare texts", shown(other))))
        }
    };
    Ok(match operator {
        "equals" => Test::Equals(scalar(operand).map_err(at)?),
        "not_equals" => Test::NotEquals(scalar(operand).map_err(at)?),
        "in" => Test::In(one_of(operand, &format!("{path}.in"))?),
        "prefix" => Test::Prefix(text()?),
        "suffix" => Test::Suffix(text()?),
        "contains" => Test::Contains(Box::new(Finder::new(&text()?).into_owned())),
        "exists" => match operand {
            Value::Bool(wanted) => Test::Exists(*wanted),
            other => return Err(at(format!("{} is neither true nor false", shown(other)))),
        },
        "gt" => Test::Gt(number()?),
        "gte" => Test::Gte(number()?),
        "lt" => Test::Lt(number()?),
        "lte" => Test::Lte(number()?),
        _ => return Err(at(format!("no such operator; there are {OPERATORS}"))),
    })
}

fn one_of(operand: &Value, path: &str) -> Result<OneOf, ConfigError> {
    let Value::Array(operands) = operand else {
        let fault = format!("{} is not a list of values: write [{}]", shown(operand), shown(operand));
        return Err(ConfigError::new(path, fault));
    };
    let mut one_of = OneOf::default();
    for (index, operand) in operands.iter().enumerate() {
        match scalar(operand).map_err(|fault| ConfigError::new(format!("{path}[{index}]"), fault))? {
            Operand::Text(text) => one_of.texts.push(text),
            other => one_of.others.push(other),
        }
    }
    one_of.texts.sort_unstable();
    Ok(one_of)
}

fn scalar(operand: &Value) -> Result<Operand, String> {
    match operand {
        Value::String(text) => Ok(Operand::Text(text.clone())),
        Value::Bool(operand) => Ok(Operand::Bool(*operand)),
        Value::Number(number) => {
            Number::of_json(number).map(Operand::Number).ok_or_else(|| format!("{number} is out of range"))
        }
        Value::Null => {
            Err("null equals nothing: write \"exists\": false for a field that is missing or null".into())
        }
        other => Err(format!("{} is not a text, number or bool", shown(other))),
    }
}

/// A value for an error message, cut where it is long.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests;

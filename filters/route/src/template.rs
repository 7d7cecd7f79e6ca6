//! A topic name with places for values: `flights.{carrier}`.

use std::borrow::Cow;

use millstream_filter_predicate::{Fields, Found, Source};
use millstream_sdk::Record;

/// A topic name with places for values.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Value(Source),
}

impl Template {
    /// Parses `text`; `source` says what each `{placeholder}` means.
    pub(crate) fn new(
        text: &str,
        mut source: impl FnMut(&str) -> Result<Source, String>,
    ) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((placeholder, behind)) = after.split_once('}') else {
                return Err(format!("{text:?} has a `{{` without its `}}`"));
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Value(source(placeholder)?));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.len() == 1 {
            return Err(format!("{text:?} has no place for a value: write as in \"flights.{{carrier}}\""));
        }
        Ok(Self { parts })
    }

    /// The topics it may make: each segment with a place for a value is `*`, since a value never has a dot.
    pub(crate) fn pattern(&self) -> String {
        let text = self.with_values("{}");
        let segments = text.split('.').map(|segment| if segment.contains("{}") { "*" } else { segment });
        segments.collect::<Vec<_>>().join(".")
    }

    /// The topic where each value is `value`.
    pub(crate) fn with_values(&self, value: &str) -> String {
        let texts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Value(_) => value,
        });
        texts.collect()
    }

    /// The topic for a record, or why there is none.
    pub(crate) fn fill(&self, record: &Record<'_>, fields: &Fields<'_>) -> Result<String, String> {
        let mut topic = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Value(source) => topic.push_str(&value(source, &source.found(record, fields))?),
            }
        }
        Ok(topic)
    }
}

/// A value as a part of a topic's segment.
fn value<'a>(source: &Source, found: &'a Found<'a>) -> Result<Cow<'a, str>, String> {
    let text = match found.to_text() {
        Some(text) => text,
        None => return Err(format!("{source} {}", none(found))),
    };
    let good = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match good {
        true => Ok(text),
        false => {
            let shown: String = text.chars().take(60).collect();
            Err(format!("{source} is {shown:?}, which cannot be part of a topic name: A-Z a-z 0-9 _ - can"))
        }
    }
}

/// Why a value has no text.
pub(crate) fn none(found: &Found<'_>) -> &'static str {
    match found {
        Found::Missing => "is missing",
        Found::Composite => "is an array or an object",
        _ => "is not text",
    }
}

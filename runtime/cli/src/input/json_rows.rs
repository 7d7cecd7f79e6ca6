//! Newline-delimited JSON: each line is published as it stands, once it is known to be JSON.

use std::{borrow::Cow, collections::HashMap, io::Read};

use bytes::Bytes;
use millstream_client::Record;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{InputError, Shape, lines::Lines, shape_record};

/// See the module's head.
pub(super) struct JsonRows<R> {
    lines: Lines<R>,
}

impl<R: Read> JsonRows<R> {
    pub(super) fn new(input: R) -> Self {
        Self { lines: Lines::new(input) }
    }

    /// Whether the next row can begin without waiting for input.
    pub(super) fn has_more_at_hand(&self) -> bool {
        self.lines.has_more_at_hand()
    }

    /// Number of the line read last, from 1.
    pub(super) fn line(&self) -> u64 {
        self.lines.number()
    }

    /// The next record; `None` at the end.
    pub(super) fn next_record(&mut self, shape: &Shape) -> Result<Option<Record>, InputError> {
        loop {
            let Some(line) = self.lines.next_line()? else { return Ok(None) };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let record = Record::new(Bytes::copy_from_slice(line));
            let line = line.to_vec();
            return shape_json(record, &line, shape, self.lines.number()).map(Some);
        }
    }
}

fn shape_json(record: Record, text: &[u8], shape: &Shape, line: u64) -> Result<Record, InputError> {
    let fault = |fault: String| InputError { line, fault };
    if !shape.asks_fields() {
        serde_json::from_slice::<IgnoredAny>(text).map_err(|error| fault(not_json(&error)))?;
        return Ok(record);
    }
    // The raw text of each field, so that numbers keep every digit.
    let fields: HashMap<Cow<'_, str>, &RawValue> = match serde_json::from_slice(text) {
        Ok(fields) => fields,
        Err(error) if error.is_data() => {
            return Err(fault(
                "it is no JSON object, so that it has no fields for --key and --header".into(),
            ));
        }
        Err(error) => return Err(fault(not_json(&error))),
    };
    shape_record(record, shape, line, |field| fields.get(field).and_then(|value| plain(value)))
}

/// A field as text: strings without quotes, everything else as written, null as nothing.
fn plain(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        text => Some(text.to_owned()),
    }
}

fn not_json(error: &serde_json::Error) -> String {
    // serde_json counts lines of its own, of which there is one.
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("it is not JSON: {text} (column {})", error.column())
}

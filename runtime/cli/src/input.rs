//! Reading records from files and standard input, one at a time: lines, newline-delimited JSON, CSV.

mod csv_rows;
mod json_rows;
mod lines;
mod source;

use std::{
    io::Read,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use millstream_client::{Record, Timestamp};
use millstream_types::limits::{HEADER_NAME_BYTES_MAX, KEY_BYTES_MAX, MESSAGE_ID_BYTES_MAX};

pub(crate) use source::Source;

use crate::failure::Failure;

/// Longest line or CSV row, bytes: no record can be larger.
const ROW_BYTES_MAX: usize = millstream_types::limits::BATCH_BYTES_MAX;

/// What an input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Each line is a payload, without its line end
    Lines,
    /// Each line is a JSON value; empty lines are passed over
    Ndjson,
    /// Each row becomes a JSON object keyed by the header line: numbers as numbers, NA and empty as null
    Csv,
}

/// What else becomes part of each record.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Shape {
    /// Field whose value becomes the record's key, as text; records without it, or with null, have no key
    #[arg(long, value_name = "FIELD")]
    pub(crate) key: Option<String>,
    /// Field whose value becomes a header of the same name, as text. May be repeated
    #[arg(long = "header", value_name = "FIELD", value_parser = header_name)]
    pub(crate) headers: Vec<String>,
    /// Field whose value becomes the record's message id, as text: a record that comes again with the same one within the
    /// topic's deduplication window is not stored again
    #[arg(long, value_name = "FIELD")]
    pub(crate) message_id: Option<String>,
    /// Leave out the payload: each record is a tombstone, which deletes its key in a compacted topic. Of lines, each is a key
    #[arg(long)]
    pub(crate) tombstones: bool,
    /// Records are not delivered before this time has passed, to shared and key_shared subscriptions
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) delay: Option<Duration>,
    /// Records are not delivered any more once this time has passed
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) expire_after: Option<Duration>,
    /// Header that every record gets. May be repeated
    #[arg(long = "set-header", value_name = "K=V", value_parser = fixed_header)]
    pub(crate) fixed: Vec<(String, String)>,
}

impl Shape {
    /// Whether records of `format` can have this shape.
    pub(crate) fn check(&self, format: Format) -> Result<(), Failure> {
        if format == Format::Lines && self.asks_fields() {
            return Err(Failure::usage(
                "--key, --message-id and --header name fields, which lines do not have: use --format ndjson or csv, or --set-header",
            ));
        }
        if self.tombstones && format != Format::Lines && self.key.is_none() {
            return Err(Failure::usage(
                "--tombstones delete keys: name the field that holds them with --key",
            ));
        }
        Ok(())
    }

    /// Whether fields of the records are asked for.
    fn asks_fields(&self) -> bool {
        self.key.is_some() || self.message_id.is_some() || !self.headers.is_empty()
    }
}

/// Where an input cannot go on, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub(crate) struct InputError {
    /// Counted from 1.
    line: u64,
    fault: String,
}

/// Reads records, one at a time, from any of the formats. Holds one row and a read buffer.
pub(crate) struct Records<R> {
    rows: Rows<R>,
    shape: Shape,
}

enum Rows<R> {
    Lines(lines::Lines<R>),
    Json(json_rows::JsonRows<R>),
    Csv(Box<csv_rows::CsvRows<R>>),
}

impl<R: Read> Records<R> {
    /// Reads `input` as `format`; fields that it does not have are not found.
    pub(crate) fn new(input: R, format: Format, shape: Shape) -> Self {
        let rows = match format {
            Format::Lines => Rows::Lines(lines::Lines::new(input)),
            Format::Ndjson => Rows::Json(json_rows::JsonRows::new(input)),
            Format::Csv => Rows::Csv(Box::new(csv_rows::CsvRows::new(input))),
        };
        Self { rows, shape }
    }

    /// Whether the next record can begin without waiting for input.
    pub(crate) fn has_more_at_hand(&self) -> bool {
        match &self.rows {
            Rows::Lines(lines) => lines.has_more_at_hand(),
            Rows::Json(rows) => rows.has_more_at_hand(),
            Rows::Csv(rows) => rows.has_more_at_hand(),
        }
    }

    /// The line on which the record begins that was read last, from 1.
    pub(crate) fn line(&self) -> u64 {
        match &self.rows {
            Rows::Lines(lines) => lines.number(),
            Rows::Json(rows) => rows.line(),
            Rows::Csv(rows) => rows.line(),
        }
    }

    /// The next record; `None` at the end.
    pub(crate) fn next_record(&mut self) -> Result<Option<Record>, InputError> {
        let row = match &mut self.rows {
            Rows::Lines(lines) => lines.next_record(&self.shape)?,
            Rows::Json(rows) => rows.next_record(&self.shape)?,
            Rows::Csv(rows) => rows.next_record(&self.shape)?,
        };
        Ok(row.map(|mut record| {
            for (name, value) in &self.shape.fixed {
                record = record.with_header(name.clone(), value.clone());
            }
            record.deliver_at = self.shape.delay.map(from_now);
            record.expires_at = self.shape.expire_after.map(from_now);
            record
        }))
    }
}

/// Puts the values of the wanted fields in key and headers; `value` gives the text of a field, if it has one.
fn shape_record(
    mut record: Record,
    shape: &Shape,
    line: u64,
    mut value: impl FnMut(&str) -> Option<String>,
) -> Result<Record, InputError> {
    if let Some(field) = &shape.key {
        match value(field) {
            Some(key) => {
                check_key(&format!("the key, field {field:?},"), key.len(), line)?;
                record = record.with_key(key);
            }
            None if shape.tombstones => {
                let fault = format!("it has no field {field:?}: a tombstone without a key deletes nothing");
                return Err(InputError { line, fault });
            }
            None => {}
        }
    }
    if shape.tombstones {
        record.payload = None;
    }
    if let Some(field) = &shape.message_id
        && let Some(id) = value(field)
    {
        if id.len() > MESSAGE_ID_BYTES_MAX {
            let fault = format!(
                "the message id, field {field:?}, has {} bytes; at most {MESSAGE_ID_BYTES_MAX} fit",
                id.len()
            );
            return Err(InputError { line, fault });
        }
        record.message_id = Some(id.into());
    }
    for field in &shape.headers {
        if let Some(text) = value(field) {
            record = record.with_header(field.clone(), text);
        }
    }
    Ok(record)
}

fn check_key(what: &str, bytes: usize, line: u64) -> Result<(), InputError> {
    if bytes <= KEY_BYTES_MAX {
        return Ok(());
    }
    Err(InputError { line, fault: format!("{what} has {bytes} bytes; at most {KEY_BYTES_MAX} fit") })
}

/// `time` from now, ms since the Unix epoch.
fn from_now(time: Duration) -> Timestamp {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(time);
    Timestamp::try_from(at.as_millis()).unwrap_or(Timestamp::MAX)
}

fn header_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a header needs a name".into()),
        long if long > HEADER_NAME_BYTES_MAX => Err(format!("at most {HEADER_NAME_BYTES_MAX} bytes fit")),
        _ => Ok(text.to_owned()),
    }
}

fn fixed_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, as in --set-header source=jfk")?;
    Ok((header_name(name)?, value.to_owned()))
}

#[cfg(test)]
mod tests;

//! CSV rows as JSON objects keyed by the header line.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

use csv::ByteRecord;
use millstream_client::Record;

use super::{InputError, ROW_BYTES_MAX, Shape, shape_record};

/// Bytes that one row may take from the input: more than a record can have, and what is read ahead.
const READ_BYTES_MAX: usize = ROW_BYTES_MAX + (64 << 10);

/// See the module's head.
pub(super) struct CsvRows<R> {
    reader: csv::Reader<Metered<R>>,
    left: Rc<Cell<usize>>,
    /// Bytes read in all.
    read: Rc<Cell<u64>>,
    /// Field names, each also as a JSON string.
    names: Option<Vec<(String, String)>>,
    row: ByteRecord,
}

impl<R: Read> CsvRows<R> {
    pub(super) fn new(input: R) -> Self {
        let left = Rc::new(Cell::new(READ_BYTES_MAX));
        let read = Rc::new(Cell::new(0));
        let metered = Metered { input, left: left.clone(), read: read.clone() };
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(32 << 10)
            .from_reader(metered);
        Self { reader, left, read, names: None, row: ByteRecord::new() }
    }

    /// Whether the next row can begin without waiting for input.
    pub(super) fn has_more_at_hand(&self) -> bool {
        // Where the row ended against how far was read: what is between waits in the reader's buffer.
        self.reader.position().byte() < self.read.get()
    }

    /// The next record; `None` at the end.
    pub(super) fn next_record(&mut self, shape: &Shape) -> Result<Option<Record>, InputError> {
        if self.names.is_none() {
            self.read_names(shape)?;
        }
        if !self.read_row()? {
            return Ok(None);
        }
        let line = self.line();
        let names = self.names.as_deref().unwrap_or_default();
        if self.row.len() != names.len() {
            let (found, wanted) = (self.row.len(), names.len());
            return Err(InputError {
                line,
                fault: format!("{found} fields where the header line has {wanted}"),
            });
        }
        let mut cells = Vec::with_capacity(names.len());
        for ((name, _), cell) in names.iter().zip(&self.row) {
            match std::str::from_utf8(cell) {
                Ok(text) => cells.push(text),
                Err(_) => {
                    return Err(InputError {
                        line,
                        fault: format!("field {name:?} is not UTF-8: convert the file"),
                    });
                }
            }
        }
        let record = Record::new(object(names, &cells));
        let value = |field: &str| {
            let at = names.iter().position(|(name, _)| name == field)?;
            cells.get(at).filter(|text| !is_null(text)).map(|text| (*text).to_owned())
        };
        shape_record(record, shape, line, value).map(Some)
    }

    fn read_names(&mut self, shape: &Shape) -> Result<(), InputError> {
        let fault = |fault: String| InputError { line: 1, fault };
        if !self.read_row()? {
            return Err(fault("the file is empty, without even a header line".into()));
        }
        let mut names: Vec<(String, String)> = Vec::with_capacity(self.row.len());
        for name in &self.row {
            let name = std::str::from_utf8(name)
                .map_err(|_| fault("the header line is not UTF-8: convert the file".into()))?;
            if names.iter().any(|(earlier, _)| earlier == name) {
                return Err(fault(format!("the header line has {name:?} twice")));
            }
            names.push((name.to_owned(), json_string(name)));
        }
        for field in shape.key.iter().chain(&shape.headers) {
            if !names.iter().any(|(name, _)| name == field) {
                let known: Vec<_> = names.iter().map(|(name, _)| name.as_str()).collect();
                return Err(fault(format!(
                    "there is no field {field:?}; the header line has {}",
                    known.join(", ")
                )));
            }
        }
        self.names = Some(names);
        Ok(())
    }

    fn read_row(&mut self) -> Result<bool, InputError> {
        self.left.set(READ_BYTES_MAX);
        let fault = |reader: &csv::Reader<_>, fault| InputError { line: reader.position().line(), fault };
        match self.reader.read_byte_record(&mut self.row) {
            Ok(more) if self.row.as_slice().len() <= ROW_BYTES_MAX => Ok(more),
            Ok(_) => Err(fault(&self.reader, too_long())),
            Err(_) if self.left.get() == 0 => Err(fault(&self.reader, too_long())),
            Err(error) => Err(fault(&self.reader, format!("cannot be read: {error}"))),
        }
    }

    /// Number of the line where the row starts, from 1.
    pub(super) fn line(&self) -> u64 {
        self.row.position().map_or(0, csv::Position::line)
    }
}

fn too_long() -> String {
    format!("a row is longer than {ROW_BYTES_MAX} bytes, the most a record can have: is a quote not closed?")
}

/// The row as a JSON object.
fn object(names: &[(String, String)], cells: &[&str]) -> String {
    let bytes = names.iter().zip(cells).map(|((_, name), cell)| name.len() + cell.len() + 6).sum();
    let mut out = String::with_capacity(bytes);
    let mut separator = '{';
    for ((_, name), cell) in names.iter().zip(cells) {
        out.push(separator);
        separator = ',';
        out.push_str(name);
        out.push(':');
        match cell {
            cell if is_null(cell) => out.push_str("null"),
            // The text itself, so that no digit is lost.
            cell if is_number(cell) => out.push_str(cell),
            cell => out.push_str(&json_string(cell)),
        }
    }
    out.push('}');
    out
}

fn is_null(cell: &str) -> bool {
    cell.is_empty() || cell == "NA"
}

/// Whether `cell` is a number as JSON writes it, and one that readers can represent. `007`, `+1`, `1.` and `NaN` are not.
fn is_number(cell: &str) -> bool {
    let digits = cell.strip_prefix('-').unwrap_or(cell).as_bytes();
    let begins = match digits {
        [b'0', rest @ ..] => !rest.first().is_some_and(u8::is_ascii_digit),
        [first, ..] => first.is_ascii_digit(),
        [] => false,
    };
    // serde_json would pass over white space behind it.
    let ends = digits.last().is_some_and(u8::is_ascii_digit);
    begins && ends && digits.len() < 400 && serde_json::from_str::<serde_json::Number>(cell).is_ok()
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Refuses to read on when a row has taken too much: a quote that is never closed would otherwise fill memory.
struct Metered<R> {
    input: R,
    left: Rc<Cell<usize>>,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("row too long"));
        }
        let room = buffer.len().min(left);
        let read = self.input.read(buffer.get_mut(..room).unwrap_or_default())?;
        self.left.set(left - read);
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

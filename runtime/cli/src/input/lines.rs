//! Lines of bounded length.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;
use millstream_client::Record;

use super::{InputError, ROW_BYTES_MAX, Shape, check_key};

/// Lines without their ends (`\n` or `\r\n`).
pub(super) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    /// Lines read so far.
    count: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(256 << 10, input), line: Vec::new(), count: 0 }
    }

    /// Whether the next line can begin without waiting for input.
    pub(super) fn has_more_at_hand(&self) -> bool {
        !self.input.buffer().is_empty()
    }

    /// Number of the line read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.count
    }

    /// The next record; `None` at the end. Tombstones are made of lines that hold something.
    pub(super) fn next_record(&mut self, shape: &Shape) -> Result<Option<Record>, InputError> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            let line = Bytes::copy_from_slice(line);
            if !shape.tombstones {
                return Ok(Some(Record::new(line)));
            }
            if !line.is_empty() {
                check_key("it is a key that", line.len(), self.count)?;
                return Ok(Some(Record::default().with_key(line)));
            }
        }
    }

    /// The next line; `None` at the end. The last one needs no line end.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>, InputError> {
        self.line.clear();
        self.count += 1;
        let mut read_any = false;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.fault(format!("cannot be read: {error}"))),
            };
            if chunk.is_empty() {
                return Ok(read_any.then(|| trim(&self.line)));
            }
            read_any = true;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            self.line.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if self.line.len() > ROW_BYTES_MAX {
                return Err(self
                    .fault(format!("it is longer than {ROW_BYTES_MAX} bytes, the most a record can have")));
            }
            if end.is_some() {
                return Ok(Some(trim(&self.line)));
            }
        }
    }

    fn fault(&self, fault: String) -> InputError {
        InputError { line: self.count, fault }
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

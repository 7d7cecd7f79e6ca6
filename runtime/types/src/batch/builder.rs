//! Building a batch, once, on the producer's side.

use bytes::Bytes;

use super::layout::{
    BASE_OFFSET_AT, COUNT_AT, CRC_AT, EPOCH_AT, FLAGS_AT, HEAD_DELIVER_AT, HEAD_EXPIRES_AT, HEAD_HEADERS,
    HEAD_KEY, HEAD_MESSAGE_ID, HEAD_NO_PAYLOAD, HEADER_BYTES, HEADS_LEN_AT, MAGIC, PRODUCER_AT, RAW_LEN_AT,
    ROW_BYTES, SEQUENCE_AT, STORED_LEN_AT, TIMESTAMP_AT, VERSION, flags_of_record,
};
use super::{BatchError, Compression, HeadersView, RecordBatch, RecordView};
use crate::bytes_io::{len_u32, put_block, put_headers};
use crate::{Header, Offset, ProducerStamp, Record, Timestamp, crc, limits};

/// The parts of a record to be written, borrowed.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordParts<'a> {
    /// Difference from the batch's timestamp, ms; 0 for a producer.
    pub timestamp_delta: i32,
    /// See [`Record::key`].
    pub key: Option<&'a [u8]>,
    /// See [`Record::headers`].
    pub headers: HeadersIn<'a>,
    /// See [`Record::payload`].
    pub payload: Option<&'a [u8]>,
    /// See [`Record::message_id`].
    pub message_id: Option<&'a [u8]>,
    /// See [`Record::deliver_at`].
    pub deliver_at: Option<Timestamp>,
    /// See [`Record::expires_at`].
    pub expires_at: Option<Timestamp>,
}

/// Headers to be written: owned ones, or encoded ones from another batch.
#[derive(Debug, Clone, Copy)]
pub enum HeadersIn<'a> {
    /// As a producer has them.
    Owned(&'a [Header]),
    /// From a batch or verdict that was checked.
    Encoded(HeadersView<'a>),
}

impl Default for HeadersIn<'_> {
    fn default() -> Self {
        Self::Owned(&[])
    }
}

impl<'a> From<&'a Record> for RecordParts<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            timestamp_delta: 0,
            key: record.key.as_deref(),
            headers: HeadersIn::Owned(&record.headers),
            payload: record.payload.as_deref(),
            message_id: record.message_id.as_deref(),
            deliver_at: record.deliver_at,
            expires_at: record.expires_at,
        }
    }
}

impl<'a> From<&RecordView<'a>> for RecordParts<'a> {
    fn from(record: &RecordView<'a>) -> Self {
        Self {
            timestamp_delta: record.timestamp_delta,
            key: record.key,
            headers: HeadersIn::Encoded(record.headers),
            payload: record.payload,
            message_id: record.message_id,
            deliver_at: record.deliver_at,
            expires_at: record.expires_at,
        }
    }
}

/// Collects records and encodes them into one batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    table: Vec<u8>,
    heads: Vec<u8>,
    payloads: Vec<u8>,
    /// What the batch has to say of its records.
    flags: u8,
    compression: Compression,
    producer: ProducerStamp,
    base_offset: Offset,
    timestamp: Timestamp,
}

impl BatchBuilder {
    /// An empty builder without compression.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses the payload region so.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Marks the batch as this producer's.
    #[must_use]
    pub fn with_producer(mut self, producer: ProducerStamp) -> Self {
        self.producer = producer;
        self
    }

    /// Sets what the broker stamps; a producer leaves it.
    #[must_use]
    pub fn with_stamp(mut self, base_offset: Offset, timestamp: Timestamp) -> Self {
        self.base_offset = base_offset;
        self.timestamp = timestamp;
        self
    }

    /// Adds a record behind the others.
    ///
    /// # Errors
    /// [`BatchError::Limit`] when the record or the batch would exceed a limit; the builder is unchanged then.
    pub fn push<'a>(&mut self, record: impl Into<RecordParts<'a>>) -> Result<(), BatchError> {
        let delta = len_u32(self.len());
        self.push_at(delta, record)
    }

    /// Adds a record at `delta` from the base offset, which must not be below the one before: for derived batches.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_at<'a>(&mut self, delta: u32, record: impl Into<RecordParts<'a>>) -> Result<(), BatchError> {
        let record = record.into();
        BatchError::check_count(self.len() + 1)?;
        check_parts(&record)?;
        let payload_len = record.payload.map_or(0, <[u8]>::len);
        BatchError::check_limit(
            "payloads of the batch",
            self.payloads.len() + payload_len,
            limits::BATCH_RAW_BYTES_MAX,
        )?;
        self.flags |= flags_of_record(write_head(&mut self.heads, &record));
        self.payloads.extend_from_slice(record.payload.unwrap_or_default());
        self.table.extend_from_slice(&delta.to_le_bytes());
        self.table.extend_from_slice(&len_u32(self.heads.len()).to_le_bytes());
        self.table.extend_from_slice(&len_u32(self.payloads.len()).to_le_bytes());
        Ok(())
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.table.len() / ROW_BYTES
    }

    /// Whether there are no records yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes of the batch if built now without compression.
    pub fn bytes_len(&self) -> usize {
        HEADER_BYTES + self.table.len() + self.heads.len() + self.payloads.len()
    }

    /// Encodes the batch and leaves the builder empty, its settings kept.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without records; [`BatchError::NoCodec`] when this build cannot compress.
    pub fn build(&mut self) -> Result<RecordBatch, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        let compressed = match self.compression {
            Compression::None => None,
            codec => Some(codec.compress(&self.payloads)?),
        };
        let stored = compressed.as_deref().unwrap_or(&self.payloads);
        let mut out = Vec::with_capacity(HEADER_BYTES + self.table.len() + self.heads.len() + stored.len());
        let mut header = header(HeaderParts {
            flags: self.compression.tag() | self.flags,
            count: self.len(),
            heads_len: self.heads.len(),
            stored_len: stored.len(),
            raw_len: self.payloads.len(),
        });
        put_at(&mut header, BASE_OFFSET_AT, &self.base_offset.to_le_bytes());
        put_at(&mut header, TIMESTAMP_AT, &self.timestamp.to_le_bytes());
        put_at(&mut header, PRODUCER_AT, &self.producer.id.to_le_bytes());
        put_at(&mut header, EPOCH_AT, &self.producer.epoch.to_le_bytes());
        put_at(&mut header, SEQUENCE_AT, &self.producer.sequence.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.table);
        out.extend_from_slice(&self.heads);
        out.extend_from_slice(stored);
        seal(&mut out);
        self.table.clear();
        self.heads.clear();
        self.payloads.clear();
        self.flags = 0;
        Ok(RecordBatch::trusted(Bytes::from(out)))
    }
}

/// The lengths and flags of a header.
pub(super) struct HeaderParts {
    pub(super) flags: u8,
    pub(super) count: usize,
    pub(super) heads_len: usize,
    pub(super) stored_len: usize,
    pub(super) raw_len: usize,
}

/// A header with everything but stamps, producer and checksum.
pub(super) fn header(parts: HeaderParts) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    put_at(&mut header, 0, &MAGIC);
    put_at(&mut header, MAGIC.len(), &[VERSION]);
    put_at(&mut header, FLAGS_AT, &[parts.flags]);
    put_at(&mut header, COUNT_AT, &len_u32(parts.count).to_le_bytes());
    put_at(&mut header, HEADS_LEN_AT, &len_u32(parts.heads_len).to_le_bytes());
    put_at(&mut header, STORED_LEN_AT, &len_u32(parts.stored_len).to_le_bytes());
    put_at(&mut header, RAW_LEN_AT, &len_u32(parts.raw_len).to_le_bytes());
    header
}

/// Writes `bytes` at `at` of something that has a header.
pub(super) fn put_at(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Writes the checksum of a batch into its header.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc::of_batch(batch);
    put_at(batch, CRC_AT, &crc.to_le_bytes());
}

fn check_parts(record: &RecordParts<'_>) -> Result<(), BatchError> {
    let id_len = record.message_id.map_or(0, <[u8]>::len);
    BatchError::check_limit("message id", id_len, limits::MESSAGE_ID_BYTES_MAX)?;
    BatchError::check_limit("key", record.key.map_or(0, <[u8]>::len), limits::KEY_BYTES_MAX)?;
    if let HeadersIn::Owned(headers) = record.headers {
        BatchError::check_limit("number of headers", headers.len(), limits::HEADERS_MAX)?;
        for header in headers {
            BatchError::check_limit("header name", header.name.len(), limits::HEADER_NAME_BYTES_MAX)?;
            BatchError::check_limit("header value", header.value.len(), limits::BATCH_BYTES_MAX)?;
            if header.name.is_empty() {
                return Err(BatchError::Record { index: 0, fault: "a header has no name" });
            }
        }
    }
    Ok(())
}

/// The head's flags.
fn write_head(out: &mut Vec<u8>, record: &RecordParts<'_>) -> u8 {
    let has_headers = match record.headers {
        HeadersIn::Owned(headers) => !headers.is_empty(),
        HeadersIn::Encoded(headers) => !headers.is_empty(),
    };
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let flags = flag(record.key.is_some(), HEAD_KEY)
        | flag(has_headers, HEAD_HEADERS)
        | flag(record.message_id.is_some(), HEAD_MESSAGE_ID)
        | flag(record.deliver_at.is_some(), HEAD_DELIVER_AT)
        | flag(record.expires_at.is_some(), HEAD_EXPIRES_AT)
        | flag(record.payload.is_none(), HEAD_NO_PAYLOAD);
    out.push(flags);
    out.extend_from_slice(&record.timestamp_delta.to_le_bytes());
    if let Some(id) = record.message_id {
        out.push(u8::try_from(id.len()).expect("checked against MESSAGE_ID_BYTES_MAX"));
        out.extend_from_slice(id);
    }
    if let Some(at) = record.deliver_at {
        out.extend_from_slice(&at.to_le_bytes());
    }
    if let Some(at) = record.expires_at {
        out.extend_from_slice(&at.to_le_bytes());
    }
    if let Some(key) = record.key {
        put_block(out, key);
    }
    match record.headers {
        HeadersIn::Owned([]) => {}
        HeadersIn::Owned(headers) => {
            put_headers(out, headers.iter().map(|header| (header.name.as_str(), &*header.value)));
        }
        HeadersIn::Encoded(headers) if headers.is_empty() => {}
        HeadersIn::Encoded(headers) => out.extend_from_slice(headers.encoded),
    }
    flags
}

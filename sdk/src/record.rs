//! One record as a module sees it: a view into the batch, nothing copied.

use std::fmt;

use millstream_types::{RawRecord, RecordView};
use serde::Deserialize;

/// One record, read in place. Copying it copies no data.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    raw: RawRecord<'a>,
    payload_given: bool,
    topic: &'a str,
}

/// Why [`Record::json`] or [`Record::text`] has no answer; returned from a module it rejects the record.
#[derive(Debug)]
pub enum PayloadError {
    /// The record is a tombstone.
    Missing,
    /// The payload is not UTF-8.
    NotUtf8(std::str::Utf8Error),
    /// The payload is not JSON, or not of the type asked for.
    NotJson(serde_json::Error),
}

impl<'a> Record<'a> {
    #[inline]
    pub(crate) fn new(raw: RawRecord<'a>, payload_given: bool, topic: &'a str) -> Self {
        Self { raw, payload_given, topic }
    }

    /// The topic that the record is of, which a processor with several sources needs to know. Empty in other modules.
    #[inline]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// Position in the partition.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.view().offset
    }

    /// When the broker appended the record, ms since the Unix epoch. Modules have no other clock, so that a replay gives
    /// the same verdicts.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.view().timestamp
    }

    /// The key, if the record has one.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.view().key
    }

    /// The key as text; `None` without a key or when it is not UTF-8.
    #[inline]
    pub fn key_text(&self) -> Option<&'a str> {
        self.view().key.and_then(|key| std::str::from_utf8(key).ok())
    }

    /// The first header called `name`, as text; `None` without one or when it is not UTF-8.
    #[inline]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.view().header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The bytes of the first header called `name`.
    #[inline]
    pub fn header_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.view().header(name)
    }

    /// Every header, in the producer's order; names may repeat.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.view().headers.iter().filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// The payload; empty for a tombstone (see [`is_tombstone`](Self::is_tombstone)).
    ///
    /// # Panics
    /// In a module that declares `reads = "headers"`: the broker does not hand it payloads.
    #[inline]
    #[track_caller]
    pub fn payload(&self) -> &'a [u8] {
        assert!(
            self.payload_given,
            "this module reads a payload but declares `reads = \"headers\"`: remove that from its attribute"
        );
        self.view().payload.unwrap_or_default()
    }

    /// Bytes of the payload; known to modules that do not read it, too.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.view().payload_len
    }

    /// Whether the record has no payload at all, which deletes its key in a compacted topic.
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        self.view().payload.is_none()
    }

    /// The payload as text.
    ///
    /// # Errors
    /// [`PayloadError`] for a tombstone, or when it is not UTF-8.
    ///
    /// # Panics
    /// As [`payload`](Self::payload).
    #[track_caller]
    pub fn text(&self) -> Result<&'a str, PayloadError> {
        let payload = self.payload();
        if self.is_tombstone() {
            return Err(PayloadError::Missing);
        }
        std::str::from_utf8(payload).map_err(PayloadError::NotUtf8)
    }

    /// The payload parsed as JSON: a [`Value`](serde_json::Value) or a type of yours, which may borrow from it.
    ///
    /// # Errors
    /// [`PayloadError`] for a tombstone, or when it is not JSON of that type.
    ///
    /// # Panics
    /// As [`payload`](Self::payload).
    #[track_caller]
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, PayloadError> {
        let payload = self.payload();
        if self.is_tombstone() {
            return Err(PayloadError::Missing);
        }
        serde_json::from_slice(payload).map_err(PayloadError::NotJson)
    }

    #[inline]
    pub(crate) fn view(&self) -> RecordView<'a> {
        self.raw.view()
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .field("key", &self.key().map(String::from_utf8_lossy))
            .field(
                "headers",
                &self
                    .headers()
                    .map(|(name, value)| (name, String::from_utf8_lossy(value)))
                    .collect::<Vec<_>>(),
            )
            .field("payload_len", &self.payload_len())
            .finish()
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the record has no payload (a tombstone)"),
            Self::NotUtf8(error) => write!(f, "the payload is not text: {error}"),
            Self::NotJson(error) if error.is_data() => {
                write!(f, "the payload is not the JSON expected: {error}")
            }
            Self::NotJson(error) => write!(f, "the payload is not JSON: {error}"),
        }
    }
}

impl std::error::Error for PayloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing => None,
            Self::NotUtf8(error) => Some(error),
            Self::NotJson(error) => Some(error),
        }
    }
}

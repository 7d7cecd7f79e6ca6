//! A record that owns its parts: what producers build and tests compare.

use bytes::Bytes;

use crate::{Offset, Timestamp};

/// One header: a name and bytes. Names may repeat and keep their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// UTF-8, at most [`HEADER_NAME_BYTES_MAX`](crate::limits::HEADER_NAME_BYTES_MAX) bytes.
    pub name: String,
    /// Any bytes.
    pub value: Bytes,
}

/// A record with its parts owned. `offset` and `timestamp` are the broker's; what a producer sets there is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Position in the partition.
    pub offset: Offset,
    /// When the broker appended it, ms since the Unix epoch.
    pub timestamp: Timestamp,
    /// Decides the partition and the order that is kept.
    pub key: Option<Bytes>,
    /// In the producer's order.
    pub headers: Vec<Header>,
    /// The message. `None` is a tombstone: it deletes its key in a compacted topic.
    pub payload: Option<Bytes>,
    /// For deduplication, at most [`MESSAGE_ID_BYTES_MAX`](crate::limits::MESSAGE_ID_BYTES_MAX) bytes.
    pub message_id: Option<Bytes>,
    /// Not delivered before this time, ms since the Unix epoch.
    pub deliver_at: Option<Timestamp>,
    /// Not delivered after this time, ms since the Unix epoch.
    pub expires_at: Option<Timestamp>,
}

impl Record {
    /// A record with a payload and nothing else.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    /// The same record with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// The value of the first header called `name`.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name).map(|header| &*header.value)
    }
}

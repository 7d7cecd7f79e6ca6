//! One record read in place.

use super::layout::{
    HEAD_DELIVER_AT, HEAD_EXPIRES_AT, HEAD_HEADERS, HEAD_KEY, HEAD_KNOWN, HEAD_MESSAGE_ID, HEAD_NO_PAYLOAD,
};
use crate::bytes_io::{Reader, same_bytes};
use crate::{Header, Offset, Record, Timestamp, limits};
use bytes::Bytes;

/// One record read in place.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordView<'a> {
    /// Position in the partition.
    pub offset: Offset,
    /// When the broker appended it, ms since the Unix epoch.
    pub timestamp: Timestamp,
    /// Difference of `timestamp` from the batch's.
    pub(super) timestamp_delta: i32,
    /// Decides the partition and the order that is kept.
    pub key: Option<&'a [u8]>,
    /// In the producer's order.
    pub headers: HeadersView<'a>,
    /// The message; `None` is a tombstone. Empty while the region is compressed or left out.
    pub payload: Option<&'a [u8]>,
    /// Bytes of the payload, also where it cannot be read.
    pub payload_len: usize,
    /// For deduplication.
    pub message_id: Option<&'a [u8]>,
    /// Not delivered before this time.
    pub deliver_at: Option<Timestamp>,
    /// Not delivered after this time.
    pub expires_at: Option<Timestamp>,
}

/// One record of which nothing is read before it is asked for: modules look at many records and at little of each.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawRecord<'a> {
    pub(super) offset: Offset,
    pub(super) batch_timestamp: Timestamp,
    pub(super) head: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) payload_len: usize,
}

impl<'a> RawRecord<'a> {
    /// All of it; the default where its batch is malformed.
    #[inline]
    pub fn view(&self) -> RecordView<'a> {
        self.read().unwrap_or_default()
    }

    #[inline]
    pub(super) fn read(&self) -> Option<RecordView<'a>> {
        RecordView::new(self.offset, self.batch_timestamp, self.head, self.payload, self.payload_len)
    }
}

impl<'a> RecordView<'a> {
    #[inline]
    pub(super) fn new(
        offset: Offset,
        batch_timestamp: Timestamp,
        head: &'a [u8],
        payload: &'a [u8],
        payload_len: usize,
    ) -> Option<Self> {
        let mut head = Reader::new(head);
        let flags = head.u8()?;
        let timestamp_delta = head.i32()?;
        let message_id = match flags & HEAD_MESSAGE_ID {
            0 => None,
            _ => {
                let len = head.u8()?;
                Some(head.take(usize::from(len))?)
            }
        };
        let deliver_at = if flags & HEAD_DELIVER_AT == 0 { None } else { Some(head.i64()?) };
        let expires_at = if flags & HEAD_EXPIRES_AT == 0 { None } else { Some(head.i64()?) };
        let key = if flags & HEAD_KEY == 0 { None } else { Some(head.block()?) };
        let headers = match flags & HEAD_HEADERS {
            0 => HeadersView::default(),
            _ => HeadersView { encoded: head.take(head.len())? },
        };
        Some(Self {
            offset,
            timestamp: batch_timestamp.saturating_add(i64::from(timestamp_delta)),
            timestamp_delta,
            key,
            headers,
            payload: (flags & HEAD_NO_PAYLOAD == 0).then_some(payload),
            payload_len,
            message_id,
            deliver_at,
            expires_at,
        })
    }

    /// Whether `head` is well formed to its last byte.
    pub(super) fn check_head(head: &[u8], payload_len: usize) -> Result<(), &'static str> {
        let flags = head.first().copied().ok_or("its head is empty")?;
        if flags & !HEAD_KNOWN != 0 {
            return Err("its head has unknown flags");
        }
        if flags & HEAD_NO_PAYLOAD != 0 && payload_len != 0 {
            return Err("it has a payload and says that it has none");
        }
        let record = RecordView::new(0, 0, head, &[], payload_len).ok_or("its head is cut")?;
        if record.key.is_some_and(|key| key.len() > limits::KEY_BYTES_MAX) {
            return Err("its key is longer than 32 KiB");
        }
        if flags & HEAD_HEADERS != 0 {
            return record.headers.check();
        }
        // Without headers the key, or whatever comes last, must end the head.
        let known = 5
            + record.message_id.map_or(0, |id| 1 + id.len())
            + record.deliver_at.map_or(0, |_| 8)
            + record.expires_at.map_or(0, |_| 8)
            + record.key.map_or(0, |key| 4 + key.len());
        if known == head.len() { Ok(()) } else { Err("bytes follow its head") }
    }

    /// The value of the first header called `name`.
    #[inline]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| same_bytes(found, name.as_bytes())).map(|(_, value)| value)
    }

    /// The record with its parts owned.
    pub fn to_record(&self) -> Record {
        let owned = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: owned(self.key),
            headers: self.headers.to_headers(),
            payload: owned(self.payload),
            message_id: owned(self.message_id),
            deliver_at: self.deliver_at,
            expires_at: self.expires_at,
        }
    }
}

/// The headers of a record, still encoded; walking them checks each read and stops at the first fault.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadersView<'a> {
    /// As in the head: a `u16` count and the headers; empty when there are none.
    pub(crate) encoded: &'a [u8],
}

impl<'a> HeadersView<'a> {
    /// Number of headers announced.
    pub fn len(&self) -> usize {
        Reader::new(self.encoded).u16().map_or(0, usize::from)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name (UTF-8 once checked in full) and value of each header, in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.encoded);
        let count = reader.u16().unwrap_or_default();
        (0..count).map_while(move |_| next_header(&mut reader))
    }

    /// The headers with their parts owned; names that are not UTF-8 are repaired.
    pub fn to_headers(&self) -> Vec<Header> {
        self.iter()
            .map(|(name, value)| Header {
                name: String::from_utf8_lossy(name).into_owned(),
                value: Bytes::copy_from_slice(value),
            })
            .collect()
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut reader = Reader::new(self.encoded);
        self.check_from(&mut reader)?;
        if reader.is_empty() { Ok(()) } else { Err("bytes follow its headers") }
    }

    /// Checks the headers that `reader` stands at and leaves it behind them.
    pub(crate) fn check_from(&self, reader: &mut Reader<'a>) -> Result<(), &'static str> {
        let count = reader.u16().ok_or("its headers are cut")?;
        if usize::from(count) > limits::HEADERS_MAX {
            return Err("it has more than 1,024 headers");
        }
        for _ in 0..count {
            let (name, _) = next_header(reader).ok_or("its headers are cut")?;
            if name.is_empty() || name.len() > limits::HEADER_NAME_BYTES_MAX {
                return Err("a header's name is not 1 to 1,024 bytes long");
            }
            if std::str::from_utf8(name).is_err() {
                return Err("a header's name is not UTF-8");
            }
        }
        Ok(())
    }
}

#[inline]
fn next_header<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let name_len = reader.u16()?;
    let value_len = reader.u32()?;
    let name = reader.take(usize::from(name_len))?;
    let value = reader.take(value_len as usize)?;
    Some((name, value))
}

//! Writing verdicts, on the guest's side.

use bytes::Bytes;

use super::{
    BODIES_LEN_AT, COUNT_AT, DROP, EMIT, HEADER_BYTES, HEADERS, KEEP, KEY, MAGIC, NO_KEY, NO_PAYLOAD,
    PAYLOAD, REJECT, TOPIC, VERSION,
};
use crate::bytes_io::{len_u32, put_block, put_headers};
use crate::limits::REASON_BYTES_MAX;
use crate::{Header, TopicName};

/// A part of an output: the source record's, or its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// As the source record has it.
    #[default]
    Inherit,
    /// This instead.
    Set(T),
}

/// One record that a module emits in place of its source. What is not set is inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Where it goes; without one, to the reader in place of the source record.
    pub topic: Option<TopicName>,
    /// `Set(None)` removes the key.
    pub key: Field<Option<Bytes>>,
    /// Replaces all headers.
    pub headers: Field<Vec<Header>>,
    /// `Set(None)` makes a tombstone.
    pub payload: Field<Option<Bytes>>,
}

impl Output {
    /// The source record unchanged, sent to `topic`.
    pub fn to_topic(topic: TopicName) -> Self {
        Self { topic: Some(topic), ..Self::default() }
    }

    /// The source record with another payload.
    pub fn with_payload(payload: impl Into<Bytes>) -> Self {
        Self { payload: Field::Set(Some(payload.into())), ..Self::default() }
    }
}

/// Collects one verdict a record, in order.
#[derive(Debug, Default)]
pub struct VerdictWriter {
    tags: Vec<u8>,
    bodies: Vec<u8>,
}

impl VerdictWriter {
    /// A writer with room for `records` verdicts.
    pub fn with_capacity(records: usize) -> Self {
        Self { tags: Vec::with_capacity(records), bodies: Vec::new() }
    }

    /// The record goes on as it is.
    #[inline]
    pub fn keep(&mut self) {
        self.tags.push(KEEP);
    }

    /// The record ends here.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "named as the verdict is")]
    pub fn drop(&mut self) {
        self.tags.push(DROP);
    }

    /// The record is bad; `reason` (cut at 4 KiB) goes with it.
    pub fn reject(&mut self, reason: &str) {
        self.tags.push(REJECT);
        let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|&end| reason.is_char_boundary(end));
        put_block(&mut self.bodies, &reason.as_bytes()[..end.unwrap_or_default()]);
    }

    /// `outputs` take the record's place; none of them is the same as a drop.
    ///
    /// # Panics
    /// If a header name exceeds 64 KiB or an output has more than 65,535 headers.
    pub fn emit(&mut self, outputs: &[Output]) {
        self.tags.push(EMIT);
        self.bodies.extend_from_slice(&len_u32(outputs.len()).to_le_bytes());
        for output in outputs {
            self.output(output);
        }
    }

    fn output(&mut self, output: &Output) {
        let flags = output.topic.as_ref().map_or(0, |_| TOPIC)
            | field_flags(&output.key, KEY, NO_KEY)
            | field_flags(&output.payload, PAYLOAD, NO_PAYLOAD)
            | match output.headers {
                Field::Inherit => 0,
                Field::Set(_) => HEADERS,
            };
        self.bodies.push(flags);
        if let Some(topic) = &output.topic {
            let len = u16::try_from(topic.as_str().len()).expect("a topic name has at most 255 bytes");
            self.bodies.extend_from_slice(&len.to_le_bytes());
            self.bodies.extend_from_slice(topic.as_str().as_bytes());
        }
        if let Field::Set(Some(key)) = &output.key {
            put_block(&mut self.bodies, key);
        }
        if let Field::Set(headers) = &output.headers {
            put_headers(
                &mut self.bodies,
                headers.iter().map(|header| (header.name.as_str(), &*header.value)),
            );
        }
        if let Field::Set(Some(payload)) = &output.payload {
            put_block(&mut self.bodies, payload);
        }
    }

    /// The verdict buffer.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.tags.len() + self.bodies.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        debug_assert_eq!(out.len(), COUNT_AT);
        out.extend_from_slice(&len_u32(self.tags.len()).to_le_bytes());
        debug_assert_eq!(out.len(), BODIES_LEN_AT);
        out.extend_from_slice(&len_u32(self.bodies.len()).to_le_bytes());
        out.extend_from_slice(&self.tags);
        out.extend_from_slice(&self.bodies);
        out
    }
}

fn field_flags(field: &Field<Option<Bytes>>, set: u8, removed: u8) -> u8 {
    match field {
        Field::Inherit => 0,
        Field::Set(Some(_)) => set,
        Field::Set(None) => removed,
    }
}

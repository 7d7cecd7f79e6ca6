//! Frames: `u32` head length, `u32` body length (both little-endian), head (MessagePack), body (raw bytes).

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes in front of every frame.
pub const FRAME_HEADER_BYTES: usize = 8;

/// How large the two parts of an incoming frame may be; checked before anything is allocated.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// Most bytes of the head.
    pub head_bytes_max: usize,
    /// Most bytes of the body.
    pub body_bytes_max: usize,
}

/// One frame as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// MessagePack.
    pub head: Bytes,
    /// Raw bytes: a record batch or a module; empty for most.
    pub body: Bytes,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// An announced length is above its limit.
    #[error("frame {part} of {found} bytes exceeds the limit of {max} bytes")]
    TooLarge {
        /// `head` or `body`.
        part: &'static str,
        /// Announced bytes.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The head is not the message expected here.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame, {missing} bytes short")]
    Cut {
        /// Bytes still to come.
        missing: usize,
    },
}

/// Appends a frame's header and head to `out`; the caller sends `body_len` bytes behind it.
///
/// # Panics
/// Never for the messages of this crate: all of them encode.
pub fn encode_frame(out: &mut BytesMut, head: &impl Serialize, body_len: usize) {
    let head = rmp_serde::to_vec_named(head).expect("messages of this crate encode");
    let length = |len: usize| u32::try_from(len).expect("frames stay far below 4 GiB").to_le_bytes();
    out.reserve(FRAME_HEADER_BYTES + head.len());
    out.extend_from_slice(&length(head.len()));
    out.extend_from_slice(&length(body_len));
    out.extend_from_slice(&head);
}

/// The message in a frame's head.
///
/// # Errors
/// [`FrameError::Malformed`] saying what was expected.
pub fn decode_head<T: DeserializeOwned>(head: &[u8]) -> Result<T, FrameError> {
    rmp_serde::from_slice(head).map_err(|error| FrameError::Malformed(error.to_string()))
}

/// Cuts a stream of chunks into frames. Each part of a frame gets memory of its own, just as large as it is, and each byte is
/// copied once: so a batch can be stamped in place, and keeps no chunk in memory.
#[derive(Debug)]
pub struct Decoder {
    limits: FrameLimits,
    /// What came and is in no frame yet.
    chunks: VecDeque<Bytes>,
    header: [u8; FRAME_HEADER_BYTES],
    header_len: usize,
    /// The frame behind the header, once that is whole.
    partial: Option<Partial>,
}

/// The parts of a frame as far as they have come.
#[derive(Debug)]
struct Partial {
    head: Vec<u8>,
    head_len: usize,
    body: Vec<u8>,
    body_len: usize,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: FrameLimits) -> Self {
        let header = [0; FRAME_HEADER_BYTES];
        Self { limits, chunks: VecDeque::new(), header, header_len: 0, partial: None }
    }

    /// From the next frame on, frames may be as large as `limits` says.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Takes a chunk as it came from the stream.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push_back(chunk);
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] as soon as the header announces too much.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_none() {
            while self.header_len < FRAME_HEADER_BYTES
                && let Some(chunk) = self.chunks.front_mut()
            {
                let rest = self.header.get_mut(self.header_len..).unwrap_or_default();
                let some = rest.len().min(chunk.len());
                chunk.split_to(some).copy_to_slice(&mut rest[..some]);
                self.header_len += some;
                if chunk.is_empty() {
                    self.chunks.pop_front();
                }
            }
            if self.header_len < FRAME_HEADER_BYTES {
                return Ok(None);
            }
            self.partial = Some(self.announced()?);
        }
        let Some(partial) = &mut self.partial else { return Ok(None) };
        fill(&mut partial.head, partial.head_len, &mut self.chunks);
        fill(&mut partial.body, partial.body_len, &mut self.chunks);
        if partial.missing() > 0 {
            return Ok(None);
        }
        self.header_len = 0;
        Ok(self
            .partial
            .take()
            .map(|Partial { head, body, .. }| Frame { head: head.into(), body: body.into() }))
    }

    /// `Ok` when the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Cut`] inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        let missing = match &self.partial {
            Some(partial) => partial.missing(),
            None if self.header_len == 0 => return Ok(()),
            None => FRAME_HEADER_BYTES - self.header_len,
        };
        Err(FrameError::Cut { missing })
    }

    /// The frame that the header announces.
    fn announced(&self) -> Result<Partial, FrameError> {
        let [h0, h1, h2, h3, b0, b1, b2, b3] = self.header;
        let head_len = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
        let body_len = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        for (part, found, max) in
            [("head", head_len, self.limits.head_bytes_max), ("body", body_len, self.limits.body_bytes_max)]
        {
            if found > max {
                return Err(FrameError::TooLarge { part, found, max });
            }
        }
        let (head, body) = (Vec::with_capacity(head_len), Vec::with_capacity(body_len));
        Ok(Partial { head, head_len, body, body_len })
    }
}

impl Partial {
    fn missing(&self) -> usize {
        self.head_len + self.body_len - self.head.len() - self.body.len()
    }
}

/// Moves what `part` lacks of its `len` bytes from `chunks`, as far as it is there.
fn fill(part: &mut Vec<u8>, len: usize, chunks: &mut VecDeque<Bytes>) {
    while part.len() < len
        && let Some(chunk) = chunks.front_mut()
    {
        let some = chunk.split_to(chunk.len().min(len - part.len()));
        part.extend_from_slice(&some);
        if chunk.is_empty() {
            chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Open, Request};

    const LIMITS: FrameLimits = FrameLimits { head_bytes_max: 100, body_bytes_max: 1_000 };

    #[test]
    fn frames_survive_any_cut() {
        let mut stream = BytesMut::new();
        for len in [0usize, 1, 700] {
            encode_frame(&mut stream, &Open::Request(Request::Ping), len);
            stream.extend_from_slice(&vec![7; len]);
        }
        for chunk_len in [1, 3, 8, 100, 10_000] {
            let mut decoder = Decoder::new(LIMITS);
            let mut bodies = Vec::new();
            for chunk in stream.chunks(chunk_len) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some(frame) = decoder.next_frame().unwrap() {
                    assert!(matches!(decode_head(&frame.head), Ok(Open::Request(Request::Ping))));
                    bodies.push(frame.body.len());
                }
            }
            assert_eq!(bodies, [0, 1, 700]);
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn limits_hold_before_allocation() {
        let mut decoder = Decoder::new(LIMITS);
        decoder.push(Bytes::from_static(&[1, 0, 0, 0, 255, 255, 255, 255]));
        let error = decoder.next_frame().unwrap_err();
        assert_eq!(error, FrameError::TooLarge { part: "body", found: u32::MAX as usize, max: 1_000 });
    }

    #[test]
    fn an_unknown_request_is_named() {
        let head =
            rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("request", "dance")])).unwrap();
        let error = decode_head::<Open>(&head).unwrap_err().to_string();
        assert!(error.contains("dance"), "{error}");
    }

    #[test]
    fn a_cut_is_found() {
        let mut decoder = Decoder::new(LIMITS);
        decoder.push(Bytes::from_static(&[4, 0, 0, 0, 0, 0, 0, 0, 1]));
        assert_eq!(decoder.next_frame().unwrap(), None);
        assert_eq!(decoder.finish().unwrap_err(), FrameError::Cut { missing: 3 });
    }
}

//! Frames: `u32` head length, `u32` body length (both little-endian), head (MessagePack), body (raw bytes).

use bytes::{Bytes, BytesMut};
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

/// Cuts a stream of chunks into frames. Holds at most one frame and what came behind it in the same chunk.
#[derive(Debug)]
pub struct Decoder {
    limits: FrameLimits,
    buffer: BytesMut,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, buffer: BytesMut::new() }
    }

    /// From the next frame on, frames may be as large as `limits` says.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Takes a chunk as it came from the stream.
    pub fn push(&mut self, chunk: Bytes) {
        if self.buffer.is_empty() {
            // Room for the whole frame at once, so that nothing is moved later; `next_frame` tells what is wrong with it.
            let frame_bytes = self.lengths(&chunk).ok().flatten().map_or(0, total);
            self.buffer.reserve(frame_bytes.max(chunk.len()));
        }
        self.buffer.extend_from_slice(&chunk);
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] as soon as the header announces too much.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head_len, body_len)) = self.lengths(&self.buffer)? else { return Ok(None) };
        let total = total((head_len, body_len));
        if self.buffer.len() < total {
            // Room for the whole frame at once, so that a large body is not moved again and again.
            self.buffer.reserve(total - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(total);
        let _ = frame.split_to(FRAME_HEADER_BYTES);
        let head = frame.split_to(head_len).freeze();
        Ok(Some(Frame { head, body: frame.freeze() }))
    }

    /// `Ok` when the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Cut`] inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let total = self.lengths(&self.buffer)?.map_or(FRAME_HEADER_BYTES, total);
        Err(FrameError::Cut { missing: total.saturating_sub(self.buffer.len()) })
    }

    /// Of the head and body of the frame that starts `bytes`; `None` while they are not there.
    fn lengths(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let Some([h0, h1, h2, h3, b0, b1, b2, b3]) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let head = u32::from_le_bytes([*h0, *h1, *h2, *h3]) as usize;
        let body = u32::from_le_bytes([*b0, *b1, *b2, *b3]) as usize;
        for (part, found, max) in
            [("head", head, self.limits.head_bytes_max), ("body", body, self.limits.body_bytes_max)]
        {
            if found > max {
                return Err(FrameError::TooLarge { part, found, max });
            }
        }
        Ok(Some((head, body)))
    }
}

/// Bytes of a frame.
fn total((head_len, body_len): (usize, usize)) -> usize {
    FRAME_HEADER_BYTES + head_len + body_len
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

//! Frames over quinn's streams.

use bytes::{Bytes, BytesMut};
use millstream_wire::{Decoder, Frame, FrameError, FrameLimits, decode_head, encode_frame};
use serde::{Serialize, de::DeserializeOwned};

/// Small frames wait until so many bytes are together: quinn's cost is a write, and small writes are quadratic in
/// unacknowledged segments.
const COALESCE_BYTES: usize = 16 << 10;
/// A body of at least this size is handed to quinn as it is, without a copy.
const BODY_UNCOPIED_BYTES: usize = 8 << 10;
/// Chunks, each at most a packet, that one read takes: reading locks the connection.
const CHUNKS_MAX: usize = 32;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are not the frame expected.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its connection ended.
    #[error(transparent)]
    Stream(#[from] quinn::ReadError),
}

/// Why a frame could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The stream or its connection ended.
    #[error(transparent)]
    Stream(#[from] quinn::WriteError),
}

/// Reads frames from a stream.
#[derive(Debug)]
pub struct FrameReader {
    stream: quinn::RecvStream,
    decoder: Decoder,
    /// Empty between reads.
    chunks: [Bytes; CHUNKS_MAX],
}

impl FrameReader {
    /// Reads `stream`, with frames of at most `limits`.
    pub fn new(stream: quinn::RecvStream, limits: FrameLimits) -> Self {
        Self { stream, decoder: Decoder::new(limits), chunks: Default::default() }
    }

    /// The next frame; `None` once the peer has finished the stream between two frames. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError`]; nothing more can be read then.
    pub async fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let Some(read) = self.stream.read_chunks(&mut self.chunks).await? else {
                self.decoder.finish()?;
                return Ok(None);
            };
            for chunk in self.chunks.iter_mut().take(read) {
                self.decoder.push(std::mem::take(chunk));
            }
        }
    }

    /// A frame that is here already, without waiting.
    ///
    /// # Errors
    /// [`ReadError::Frame`] when the bytes are not a frame.
    pub fn buffered_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        Ok(self.decoder.next_frame()?)
    }

    /// The next frame as a message and its body; `None` once the peer has finished. Cancel-safe.
    ///
    /// # Errors
    /// As [`next_frame`](Self::next_frame), and [`FrameError::Malformed`] for another message.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Bytes)>, ReadError> {
        match self.next_frame().await? {
            None => Ok(None),
            Some(frame) => Ok(Some((decode_head(&frame.head)?, frame.body))),
        }
    }

    /// From the next frame on, frames may be as large as `limits` says.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.decoder.set_limits(limits);
    }

    /// Tells the peer to send no more, with an application code.
    pub fn stop(&mut self, code: u32) {
        // Fails only when the stream is already over, which is what was wanted.
        let _ = self.stream.stop(quinn::VarInt::from_u32(code));
    }
}

/// Writes frames to a stream, small ones together.
#[derive(Debug)]
pub struct FrameWriter {
    stream: quinn::SendStream,
    pending: BytesMut,
}

impl FrameWriter {
    /// Writes to `stream`.
    pub fn new(stream: quinn::SendStream) -> Self {
        Self { stream, pending: BytesMut::new() }
    }

    /// Queues a frame, and writes once enough is together. Not cancel-safe.
    ///
    /// # Errors
    /// [`WriteError`] when the stream has ended.
    pub async fn push(&mut self, head: &impl Serialize, body: Bytes) -> Result<(), WriteError> {
        encode_frame(&mut self.pending, head, body.len());
        if body.len() >= BODY_UNCOPIED_BYTES {
            let front = self.pending.split().freeze();
            self.stream.write_all_chunks(&mut [front, body]).await?;
        } else {
            self.pending.extend_from_slice(&body);
            if self.pending.len() >= COALESCE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Writes what is queued. Not cancel-safe.
    ///
    /// # Errors
    /// [`WriteError`] when the stream has ended.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        if !self.pending.is_empty() {
            self.stream.write_chunk(self.pending.split().freeze()).await?;
        }
        Ok(())
    }

    /// Queues a frame and writes all that is queued. Not cancel-safe.
    ///
    /// # Errors
    /// [`WriteError`] when the stream has ended.
    pub async fn send(&mut self, head: &impl Serialize, body: Bytes) -> Result<(), WriteError> {
        self.push(head, body).await?;
        self.flush().await
    }

    /// Writes what is queued and ends the stream. Not cancel-safe.
    ///
    /// # Errors
    /// [`WriteError`] when the stream has ended already.
    pub async fn finish(mut self) -> Result<(), WriteError> {
        self.flush().await?;
        self.end();
        Ok(())
    }

    /// Ends the stream behind what was written.
    pub fn end(&mut self) {
        // Fails only when the stream is already over.
        let _ = self.stream.finish();
    }

    /// Waits until the peer no longer reads: it stopped the stream, or it has everything and the stream is finished. Cancel-safe.
    pub async fn stopped(&mut self) {
        let _ = self.stream.stopped().await;
    }
}

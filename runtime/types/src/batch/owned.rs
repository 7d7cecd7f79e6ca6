//! A batch that owns its bytes, shared by reference count.

use bytes::Bytes;

use super::builder::{HeaderParts, header, put_at, seal};
use super::layout::{BASE_OFFSET_AT, EPOCH_AT, HEADER_BYTES, PRODUCER_AT, SEQUENCE_AT, TIMESTAMP_AT};
use super::view::{BatchView, Check};
use super::{BatchError, Compression};
use crate::{Offset, ProducerStamp, Timestamp};

/// A batch that owns its bytes; cloning shares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Bytes,
}

impl RecordBatch {
    /// Takes `bytes` as a batch, checked as far as `check` says.
    ///
    /// # Errors
    /// [`BatchError`] naming the field and its value.
    pub fn new(bytes: Bytes, check: Check) -> Result<Self, BatchError> {
        BatchView::new(&bytes, check)?;
        Ok(Self { bytes })
    }

    /// For bytes this crate has just written.
    pub(crate) fn trusted(bytes: Bytes) -> Self {
        debug_assert!(BatchView::new(&bytes, Check::Header).is_ok(), "the builder writes whole batches");
        Self { bytes }
    }

    /// The batch, to be read in place.
    pub fn view(&self) -> BatchView<'_> {
        BatchView::new(&self.bytes, Check::Header).expect("the header was checked when this was made")
    }

    /// The bytes of the batch.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of the batch.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The batch with base offset and broker timestamp set. Copies nothing when this is the only owner of the bytes.
    #[must_use]
    pub fn stamped(self, base_offset: Offset, timestamp: Timestamp) -> Self {
        let mut bytes = self.bytes.try_into_mut().unwrap_or_else(|shared| shared.as_ref().into());
        put_at(&mut bytes, BASE_OFFSET_AT, &base_offset.to_le_bytes());
        put_at(&mut bytes, TIMESTAMP_AT, &timestamp.to_le_bytes());
        Self { bytes: bytes.freeze() }
    }

    /// The batch marked as this producer's. Copies nothing when this is the only owner of the bytes.
    #[must_use]
    pub fn with_producer(self, producer: ProducerStamp) -> Self {
        let mut bytes = self.bytes.try_into_mut().unwrap_or_else(|shared| shared.as_ref().into());
        put_at(&mut bytes, PRODUCER_AT, &producer.id.to_le_bytes());
        put_at(&mut bytes, EPOCH_AT, &producer.epoch.to_le_bytes());
        put_at(&mut bytes, SEQUENCE_AT, &producer.sequence.to_le_bytes());
        seal(&mut bytes);
        Self { bytes: bytes.freeze() }
    }

    /// The same batch with plain payloads; itself when they are plain already.
    ///
    /// # Errors
    /// [`BatchError::Decompress`] when the region does not decompress to the announced length.
    pub fn decompressed(&self) -> Result<Self, BatchError> {
        let view = self.view();
        if view.compression() == Compression::None || view.payloads_omitted() {
            return Ok(self.clone());
        }
        let raw = view.compression().decompress(view.payloads, view.payload_bytes())?;
        Ok(self.with_payloads(Compression::None, &raw))
    }

    /// The same batch with its payloads, which must be plain, compressed so; itself where that saves nothing.
    ///
    /// # Errors
    /// [`BatchError::Decompress`] when the codec fails, [`BatchError::NoCodec`] when it is not there or the payloads are not plain.
    pub fn compressed(&self, compression: Compression) -> Result<Self, BatchError> {
        let view = self.view();
        if view.compression() != Compression::None || view.payloads_omitted() {
            return Err(BatchError::NoCodec);
        }
        let stored = compression.compress(view.payloads)?;
        Ok(if stored.len() < view.payloads.len() {
            self.with_payloads(compression, &stored)
        } else {
            self.clone()
        })
    }

    fn with_payloads(&self, compression: Compression, stored: &[u8]) -> Self {
        let view = self.view();
        let mut head = header(HeaderParts {
            flags: view.flags_of_records() | compression.tag(),
            count: view.len(),
            heads_len: view.heads.len(),
            stored_len: stored.len(),
            raw_len: view.payload_bytes(),
        });
        put_at(&mut head, BASE_OFFSET_AT, self.bytes.get(BASE_OFFSET_AT..HEADER_BYTES).unwrap_or_default());
        let mut out = Vec::with_capacity(HEADER_BYTES + view.table.len() + view.heads.len() + stored.len());
        out.extend_from_slice(&head);
        out.extend_from_slice(view.table);
        out.extend_from_slice(view.heads);
        out.extend_from_slice(stored);
        seal(&mut out);
        Self::trusted(Bytes::from(out))
    }
}

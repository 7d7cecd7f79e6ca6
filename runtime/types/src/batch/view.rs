//! Reading a batch in place.

use super::layout::{
    BASE_OFFSET_AT, COUNT_AT, CRC_AT, EPOCH_AT, FLAG_COMPRESSION, FLAG_IDENTIFIED, FLAG_PAYLOADS_OMITTED,
    FLAG_TIMED, FLAGS_KNOWN, FLAGS_OF_RECORDS, HEADER_BYTES, HEADS_LEN_AT, MAGIC, PRODUCER_AT, RAW_LEN_AT,
    ROW_BYTES, SEQUENCE_AT, STORED_LEN_AT, TIMESTAMP_AT, VERSION, flags_of_record,
};
use super::{BatchError, Compression, RawRecord, RecordView};
use crate::bytes_io::{len_u32, u32_at, u64_at};
use crate::{Offset, ProducerStamp, Timestamp, crc, limits};

/// How much of a batch to check before reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Header and lengths: for bytes from the same process, as a guest gets them. Reads past them stay checked.
    Header,
    /// And the checksum: for bytes we stored, which were checked in full before.
    Crc,
    /// And every row and head: for bytes from a peer.
    Full,
}

/// A batch read in place. Copying a view copies no data.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) table: &'a [u8],
    pub(super) heads: &'a [u8],
    pub(super) payloads: &'a [u8],
    raw_len: usize,
    compression: Compression,
    omitted: bool,
    flags: u8,
}

impl<'a> BatchView<'a> {
    /// Reads `bytes` as one batch, checked as far as `check` says. Bytes behind the batch are refused.
    ///
    /// # Errors
    /// [`BatchError`] naming the field and its value.
    pub fn new(bytes: &'a [u8], check: Check) -> Result<Self, BatchError> {
        let view = Self::header(bytes)?;
        if check != Check::Header {
            let found = u32_at(bytes, CRC_AT).unwrap_or_default();
            let computed = crc::of_batch(bytes);
            if found != computed {
                return Err(BatchError::Checksum { found, computed });
            }
        }
        if check == Check::Full {
            view.check_records()?;
        }
        Ok(view)
    }

    fn header(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let cut = |wanted: u64| BatchError::Truncated { wanted, found: bytes.len() };
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(cut(HEADER_BYTES as u64));
        };
        let field = |at: usize| u32_at(header, at).unwrap_or_default() as usize;
        let [m0, m1, m2, m3, version, flags, ..] = *header;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(BatchError::Magic([m0, m1, m2, m3]));
        }
        if version != VERSION {
            return Err(BatchError::Version(version));
        }
        let compression = Compression::from_tag(flags & FLAG_COMPRESSION);
        let (Some(compression), 0) = (compression, flags & !FLAGS_KNOWN) else {
            return Err(BatchError::Flags(flags));
        };
        let omitted = flags & FLAG_PAYLOADS_OMITTED != 0;
        let (count, heads_len) = (field(COUNT_AT), field(HEADS_LEN_AT));
        let (stored_len, raw_len) = (field(STORED_LEN_AT), field(RAW_LEN_AT));
        BatchError::check_count(count)?;
        BatchError::check_limit("decompressed payload region", raw_len, limits::BATCH_RAW_BYTES_MAX)?;
        let lengths_agree = match (compression, omitted) {
            (_, true) => stored_len == 0,
            (Compression::None, false) => stored_len == raw_len,
            _ => true,
        };
        if !lengths_agree {
            return Err(BatchError::Limit {
                what: "stored payload region",
                found: stored_len as u64,
                max: raw_len as u64,
            });
        }
        let table_len = count * ROW_BYTES;
        let wanted = HEADER_BYTES as u64 + table_len as u64 + heads_len as u64 + stored_len as u64;
        if wanted != bytes.len() as u64 {
            return Err(cut(wanted));
        }
        let (table, rest) = body.split_at_checked(table_len).ok_or_else(|| cut(wanted))?;
        let (heads, payloads) = rest.split_at_checked(heads_len).ok_or_else(|| cut(wanted))?;
        Ok(Self { bytes, table, heads, payloads, raw_len, compression, omitted, flags })
    }

    fn check_records(&self) -> Result<(), BatchError> {
        let mut before = Row { delta: 0, head_end: 0, payload_end: 0 };
        for index in 0..self.len() {
            let malformed = |fault| BatchError::Record { index, fault };
            let row = self.row(index).ok_or(malformed("its row is missing"))?;
            if row.delta < before.delta
                || row.head_end < before.head_end
                || row.payload_end < before.payload_end
            {
                return Err(malformed("its row runs backwards"));
            }
            if row.payload_end > self.raw_len {
                return Err(malformed("its payload ends beyond the region"));
            }
            let head = self.heads.get(before.head_end..row.head_end);
            let head = head.ok_or(malformed("its head ends beyond the region"))?;
            RecordView::check_head(head, row.payload_end - before.payload_end).map_err(malformed)?;
            if flags_of_record(head.first().copied().unwrap_or_default()) & !self.flags != 0 {
                return Err(malformed(
                    "it has a time or a message id, and the batch's flags say that none has",
                ));
            }
            before = row;
        }
        if before.head_end != self.heads.len() {
            return Err(BatchError::Record {
                index: self.len(),
                fault: "heads follow that belong to no record",
            });
        }
        if before.payload_end != self.raw_len {
            return Err(BatchError::Record {
                index: self.len(),
                fault: "payload bytes follow that belong to no record",
            });
        }
        Ok(())
    }

    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.table.len() / ROW_BYTES
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The whole batch as bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Offset that the records' deltas count from.
    #[inline]
    pub fn base_offset(&self) -> Offset {
        u64_at(self.bytes, BASE_OFFSET_AT).unwrap_or_default()
    }

    /// One past the offset of the last record; the base offset when empty.
    pub fn next_offset(&self) -> Offset {
        let last = self.len().checked_sub(1).and_then(|index| self.row(index));
        self.base_offset().saturating_add(last.map_or(0, |row| u64::from(row.delta) + 1))
    }

    /// When the broker appended the batch, ms since the Unix epoch.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        u64_at(self.bytes, TIMESTAMP_AT).unwrap_or_default().cast_signed()
    }

    /// Who produced the batch.
    pub fn producer(&self) -> ProducerStamp {
        ProducerStamp {
            id: u64_at(self.bytes, PRODUCER_AT).unwrap_or_default(),
            epoch: u32_at(self.bytes, EPOCH_AT).unwrap_or_default(),
            sequence: u32_at(self.bytes, SEQUENCE_AT).unwrap_or_default(),
        }
    }

    /// How the payload region is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Whether records may have a deliver-at or an expires-at.
    pub fn is_timed(&self) -> bool {
        self.flags & FLAG_TIMED != 0
    }

    /// Whether records may have a message id.
    pub fn is_identified(&self) -> bool {
        self.flags & FLAG_IDENTIFIED != 0
    }

    /// What the batch says of its records.
    pub(super) fn flags_of_records(&self) -> u8 {
        self.flags & FLAGS_OF_RECORDS
    }

    /// Whether the payload region was left out, as for a module that does not read it.
    pub fn payloads_omitted(&self) -> bool {
        self.omitted
    }

    /// Bytes of all payloads, decompressed.
    pub fn payload_bytes(&self) -> usize {
        self.raw_len
    }

    /// Record `index`; `None` past the end or where the batch is malformed (never after [`Check::Full`]).
    #[inline]
    pub fn record(&self, index: usize) -> Option<RecordView<'a>> {
        self.raw_record(self.row(index)?, self.starts(index)?)?.read()
    }

    /// The record of `row`, whose head and payload start there.
    #[inline]
    fn raw_record(&self, row: Row, (head_start, payload_start): (usize, usize)) -> Option<RawRecord<'a>> {
        let payload = match self.compression {
            Compression::None if !self.omitted => self.payloads.get(payload_start..row.payload_end)?,
            _ => &[],
        };
        Some(RawRecord {
            offset: self.base_offset().saturating_add(u64::from(row.delta)),
            batch_timestamp: self.timestamp(),
            head: self.heads.get(head_start..row.head_end)?,
            payload,
            payload_len: row.payload_end.checked_sub(payload_start)?,
        })
    }

    /// Every record, in order. Payloads read as empty while the region is compressed or left out.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RecordView<'a>> + use<'a> {
        self.raw_records().map(|record| record.view())
    }

    /// The same, each not read further than is asked for.
    #[inline]
    pub fn raw_records(&self) -> impl ExactSizeIterator<Item = RawRecord<'a>> + use<'a> {
        let (view, mut starts) = (*self, (0, 0));
        let (rows, _) = self.table.as_chunks::<ROW_BYTES>();
        rows.iter().map(move |row| {
            let row = Row::read(row);
            let record = view.raw_record(row, starts);
            starts = (row.head_end, row.payload_end);
            record.unwrap_or_default()
        })
    }

    /// Whether offsets run 0, 1, 2, ... from the base, as those of a produced batch must.
    pub fn is_dense(&self) -> bool {
        (0..self.len()).all(|index| self.row(index).is_some_and(|row| row.delta as usize == index))
    }

    /// Index of the first record with an offset of at least `offset`.
    pub fn index_of(&self, offset: Offset) -> usize {
        let wanted = offset.saturating_sub(self.base_offset());
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.row(middle) {
                Some(row) if u64::from(row.delta) < wanted => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    #[inline]
    pub(super) fn row(&self, index: usize) -> Option<Row> {
        let at = index.checked_mul(ROW_BYTES)?;
        self.table.get(at..)?.first_chunk::<ROW_BYTES>().map(Row::read)
    }

    /// Where the head and payload of `index` start.
    #[inline]
    pub(super) fn starts(&self, index: usize) -> Option<(usize, usize)> {
        match index.checked_sub(1) {
            None => Some((0, 0)),
            Some(before) => self.row(before).map(|row| (row.head_end, row.payload_end)),
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) delta: u32,
    pub(super) head_end: usize,
    pub(super) payload_end: usize,
}

impl Row {
    #[inline]
    pub(super) fn read(row: &[u8; ROW_BYTES]) -> Self {
        let [d0, d1, d2, d3, h0, h1, h2, h3, p0, p1, p2, p3] = *row;
        Self {
            delta: u32::from_le_bytes([d0, d1, d2, d3]),
            head_end: u32::from_le_bytes([h0, h1, h2, h3]) as usize,
            payload_end: u32::from_le_bytes([p0, p1, p2, p3]) as usize,
        }
    }

    /// The row where so many bytes of heads and payloads before it are left out.
    #[inline]
    pub(super) fn moved(self, (heads, payloads): (usize, usize)) -> Self {
        Self {
            head_end: self.head_end.saturating_sub(heads),
            payload_end: self.payload_end.saturating_sub(payloads),
            ..self
        }
    }

    #[inline]
    pub(super) fn write(self, row: &mut [u8; ROW_BYTES]) {
        let ([d0, d1, d2, d3], [h0, h1, h2, h3], [p0, p1, p2, p3]) = (
            self.delta.to_le_bytes(),
            len_u32(self.head_end).to_le_bytes(),
            len_u32(self.payload_end).to_le_bytes(),
        );
        *row = [d0, d1, d2, d3, h0, h1, h2, h3, p0, p1, p2, p3];
    }
}

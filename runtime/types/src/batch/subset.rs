//! Taking records out of a batch by copying slices.

use std::ops::Range;

use bytes::Bytes;

use super::builder::{HeaderParts, header, put_at, seal};
use super::layout::{
    BASE_OFFSET_AT, FLAG_PAYLOADS_OMITTED, HEADER_BYTES, PRODUCER_AT, ROW_BYTES, STAMPED_END,
};
use super::view::{BatchView, Row};
use super::{BatchError, Compression, RecordBatch};

impl BatchView<'_> {
    /// The records at `ranges` (ascending, not overlapping) as a batch of their own, with offsets, stamps and producer kept.
    /// Payloads must not be compressed.
    ///
    /// # Errors
    /// [`BatchError::NoCodec`] when the payloads are compressed, [`BatchError::Record`] for a range past the end.
    pub fn subset(&self, ranges: &[Range<usize>]) -> Result<RecordBatch, BatchError> {
        let mut out = Vec::new();
        self.write_subset(ranges, true, &mut out)?;
        seal(&mut out);
        Ok(RecordBatch::trusted(Bytes::from(out)))
    }

    /// Appends the records of `range` to `out` in the form a guest reads, payloads only when asked for. The checksum
    /// is left out: guests read with [`Check::Header`](super::Check::Header).
    ///
    /// # Errors
    /// As [`subset`](Self::subset).
    pub fn write_slice(
        &self,
        range: Range<usize>,
        payloads: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        self.write_subset(&[range], payloads, out)
    }

    /// Bytes that [`write_slice`](Self::write_slice) would append for `range`; 0 for a range past the end.
    pub fn slice_bytes(&self, range: Range<usize>, payloads: bool) -> usize {
        let Ok(span) = self.span(range) else { return 0 };
        let payload_bytes = if payloads { span.payloads.len() } else { 0 };
        HEADER_BYTES + span.records.len() * ROW_BYTES + span.heads.len() + payload_bytes
    }

    /// [`write_slice`](Self::write_slice) for several ranges, ascending and not overlapping, as one batch.
    ///
    /// # Errors
    /// As [`subset`](Self::subset).
    pub fn write_ranges(
        &self,
        ranges: &[Range<usize>],
        payloads: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        self.write_subset(ranges, payloads, out)
    }

    fn write_subset(
        &self,
        ranges: &[Range<usize>],
        payloads: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        let payloads = payloads && !self.payloads_omitted();
        if payloads && self.compression() != Compression::None {
            return Err(BatchError::NoCodec);
        }
        let spans = ranges.iter().map(|range| self.span(range.clone())).collect::<Result<Vec<_>, _>>()?;
        let count = spans.iter().map(|span| span.records.len()).sum();
        let heads_len = spans.iter().map(|span| span.heads.len()).sum();
        let raw_len = spans.iter().map(|span| span.payloads.len()).sum();
        let malformed = BatchError::Record { index: 0, fault: "its row points outside the batch" };
        // Rows of a batch that was not checked in full may add up to anything.
        if heads_len > self.heads.len() || raw_len > self.payload_bytes() {
            return Err(malformed);
        }
        let stored_len = if payloads { raw_len } else { 0 };
        let flags = self.flags_of_records() | if payloads { 0 } else { FLAG_PAYLOADS_OMITTED };

        let start = out.len();
        out.reserve(HEADER_BYTES + count * ROW_BYTES + heads_len + stored_len);
        let mut head = header(HeaderParts { flags, count, heads_len, stored_len, raw_len });
        let stamps = self.bytes.get(BASE_OFFSET_AT..HEADER_BYTES).unwrap_or_default();
        put_at(&mut head, BASE_OFFSET_AT, stamps);
        debug_assert_eq!(STAMPED_END, PRODUCER_AT, "stamps and producer are copied as one");
        out.extend_from_slice(&head);
        let (mut head_end, mut payload_end) = (0, 0);
        for span in &spans {
            let rows = span.records.start * ROW_BYTES..span.records.end * ROW_BYTES;
            let at = out.len();
            out.extend_from_slice(self.table.get(rows).ok_or_else(|| malformed.clone())?);
            // Ends are counted from the region's start: shift them by what was left out before.
            let left_out =
                (span.heads.start.saturating_sub(head_end), span.payloads.start.saturating_sub(payload_end));
            if left_out != (0, 0) {
                let (rows, _) = out.get_mut(at..).unwrap_or_default().as_chunks_mut::<ROW_BYTES>();
                rows.iter_mut().for_each(|row| Row::read(row).moved(left_out).write(row));
            }
            head_end += span.heads.len();
            payload_end += span.payloads.len();
        }
        for span in &spans {
            out.extend_from_slice(self.heads.get(span.heads.clone()).ok_or_else(|| malformed.clone())?);
        }
        if payloads {
            for span in &spans {
                out.extend_from_slice(
                    self.payloads.get(span.payloads.clone()).ok_or_else(|| malformed.clone())?,
                );
            }
        }
        debug_assert_eq!(out.len() - start, HEADER_BYTES + count * ROW_BYTES + heads_len + stored_len);
        Ok(())
    }

    fn span(&self, records: Range<usize>) -> Result<Span, BatchError> {
        let fault = |index| BatchError::Record { index, fault: "it is past the end of the batch" };
        let (head_start, payload_start) = self.starts(records.start).ok_or(fault(records.start))?;
        let last = match records.end.checked_sub(1).filter(|_| !records.is_empty()) {
            None => Row { delta: 0, head_end: head_start, payload_end: payload_start },
            Some(last) => self.row(last).ok_or(fault(last))?,
        };
        Ok(Span { records, heads: head_start..last.head_end, payloads: payload_start..last.payload_end })
    }
}

/// A run of records and where its bytes are.
struct Span {
    records: Range<usize>,
    heads: Range<usize>,
    payloads: Range<usize>,
}

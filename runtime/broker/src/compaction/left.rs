//! What is left of a partition's batches, as it is to be stored: batches that shrink, go, or are joined.

use std::ops::Range;

use millstream_store::{Compacted, Rewrite};
use millstream_types::{Compression, Offset, RecordBatch, Timestamp};

use super::Bounds;
use crate::Error;

/// What is left of batches, and what becomes of those by that.
#[derive(Debug)]
pub(super) struct Left {
    bounds: Bounds,
    compacted: Compacted,
    /// Batches that go or are replaced, and whose message ids may be remembered.
    identified: Vec<Offset>,
    /// Small batches, one behind the other, that may be joined.
    run: Vec<Part>,
    run_bytes: usize,
}

/// What is left of one batch.
#[derive(Debug)]
struct Part {
    base_offset: Offset,
    /// When its first record was appended.
    oldest: Timestamp,
    stored_bytes: usize,
    identified: bool,
    /// Whether something was left out.
    changed: bool,
    /// With plain payloads.
    batch: RecordBatch,
    compression: Compression,
}

impl Left {
    pub(super) fn new(bounds: Bounds) -> Self {
        let compacted = Compacted::default();
        Self { bounds, compacted, identified: Vec::new(), run: Vec::new(), run_bytes: 0 }
    }

    pub(super) fn take(&mut self, batch: &RecordBatch, kept: Vec<Range<usize>>) -> Result<(), Error> {
        let view = batch.view();
        let (base_offset, stored_bytes) = (view.base_offset(), batch.as_bytes().len());
        let identified = view.is_identified();
        let records: usize = kept.iter().map(ExactSizeIterator::len).sum();
        let changed = records < view.len();
        self.compacted.records += (view.len() - records) as u64;
        if records == 0 {
            self.replace(base_offset, stored_bytes, identified, None);
            return Ok(());
        }
        if !changed && stored_bytes >= self.bounds.large_bytes {
            return self.end_run();
        }
        let compression = view.compression();
        let apart = |first: &Part| {
            first.compression != compression
                || u32::try_from(view.next_offset() - first.base_offset).is_err()
                || i32::try_from(view.timestamp().saturating_sub(first.oldest)).is_err()
        };
        if self.run.first().is_some_and(apart) {
            self.end_run()?;
        }
        let plain = batch.decompressed()?;
        let part = if changed { plain.view().subset(&kept)? } else { plain };
        self.run_bytes += part.as_bytes().len();
        let oldest = part.view().record(0).map_or(view.timestamp(), |record| record.timestamp);
        self.run.push(Part {
            base_offset,
            oldest,
            stored_bytes,
            identified,
            changed,
            batch: part,
            compression,
        });
        if self.run_bytes >= self.bounds.joined_bytes { self.end_run() } else { Ok(()) }
    }

    /// What is to be done, and the batches that go or are replaced whose message ids may be remembered.
    pub(super) fn into_parts(self) -> (Compacted, Vec<Offset>) {
        (self.compacted, self.identified)
    }

    /// Joins what can be joined.
    pub(super) fn end_run(&mut self) -> Result<(), Error> {
        let run = std::mem::take(&mut self.run);
        self.run_bytes = 0;
        let joined = match run.as_slice() {
            [] | [_] => None,
            parts => {
                let batches: Vec<_> = parts.iter().map(|part| part.batch.clone()).collect();
                RecordBatch::join(&batches)
            }
        };
        let (Some(joined), Some(first)) = (joined, run.first()) else {
            for part in run.into_iter().filter(|part| part.changed) {
                let batch = part.batch.compressed(part.compression)?;
                self.replace(part.base_offset, part.stored_bytes, part.identified, Some(batch));
            }
            return Ok(());
        };
        let joined = joined.compressed(first.compression)?;
        // It begins with the first record that is left.
        let begin = joined.view().base_offset();
        for part in &run {
            let batch = (part.base_offset == begin).then(|| joined.clone());
            self.replace(part.base_offset, part.stored_bytes, part.identified, batch);
        }
        if run.iter().all(|part| part.base_offset != begin) {
            self.replace(begin, 0, false, Some(joined));
        }
        Ok(())
    }

    fn replace(&mut self, base_offset: Offset, bytes: usize, identified: bool, by: Option<RecordBatch>) {
        self.compacted.freed_bytes += bytes as u64;
        self.identified.extend(identified.then_some(base_offset));
        let bytes = by.map(RecordBatch::into_bytes);
        self.compacted.rewrites.push(Rewrite { base_offset, bytes });
    }
}

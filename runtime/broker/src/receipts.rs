//! What idempotent producers were told of batches whose place in the log does not tell it: of which records are not stored, or
//! became several. Kept for batches that may still come again: a row each, the newest of each producer in a partition.

use std::collections::{HashMap, VecDeque};

use millstream_types::{Offset, ProducerStamp, Timestamp, UnstoredRecords};
use serde::{Deserialize, Serialize};

use crate::{
    command::Appended,
    limits::{RECEIPT_BYTES_MAX, RECEIPTS_MAX},
};

/// One of them, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReceiptRow {
    epoch: u32,
    base_offset: Offset,
    records: u32,
    timestamp: Timestamp,
    offsets: Vec<Offset>,
    unstored: UnstoredRecords,
}

impl ReceiptRow {
    /// That of what was appended for a batch marked so; `None` where its place in the log tells all.
    pub(crate) fn of(stamp: ProducerStamp, appended: &Appended) -> Option<Self> {
        let Appended { base_offset, records, timestamp, offsets, unstored } = appended;
        let tells = stamp.id != 0 && !(offsets.is_empty() && unstored.is_empty());
        tells.then(|| Self {
            epoch: stamp.epoch,
            base_offset: *base_offset,
            records: *records,
            timestamp: *timestamp,
            offsets: offsets.to_vec(),
            unstored: unstored.clone(),
        })
    }

    /// What the producer was told, if this is about the batch that `stamp` marks, of so many `records`.
    pub(crate) fn into_appended(self, stamp: ProducerStamp, records: usize) -> Option<Appended> {
        let Self { epoch, base_offset, records: own, timestamp, offsets, unstored } = self;
        let same = (epoch, own as usize) == (stamp.epoch, records);
        same.then(|| Appended { base_offset, records: own, timestamp, offsets: offsets.into(), unstored })
    }
}

/// Which of them a partition has: sequence and bytes, oldest first, by producer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receipts {
    known: HashMap<u64, Kept>,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    rows: VecDeque<(u32, usize)>,
    bytes: usize,
}

impl Receipts {
    /// Notes one of `producer` that has so many `bytes`; sequences of those that are to be removed for it.
    pub(crate) fn note(&mut self, producer: u64, sequence: u32, bytes: usize) -> Vec<u32> {
        let kept = self.known.entry(producer).or_default();
        // Of an epoch before.
        if let Some(at) = kept.rows.iter().position(|(known, _)| *known == sequence)
            && let Some((_, before)) = kept.rows.remove(at)
        {
            kept.bytes -= before;
        }
        let mut removed = Vec::new();
        kept.bytes += bytes;
        while kept.rows.len() >= RECEIPTS_MAX || kept.bytes > RECEIPT_BYTES_MAX {
            let Some((oldest, bytes)) = kept.rows.pop_front() else { break };
            kept.bytes -= bytes;
            removed.push(oldest);
        }
        kept.rows.push_back((sequence, bytes));
        removed
    }

    /// Takes over one that is stored of `producer`, whose next record has the number `next`.
    pub(crate) fn recover(&mut self, producer: u64, next: u32, sequence: u32, bytes: usize) {
        let kept = self.known.entry(producer).or_default();
        kept.bytes += bytes;
        // They come by number, and numbers wrap.
        let age = |sequence: u32| next.wrapping_sub(sequence);
        let at = kept.rows.partition_point(|(known, _)| age(*known) > age(sequence));
        kept.rows.insert(at, (sequence, bytes));
    }

    /// Forgets those of `producer`; their sequences.
    pub(crate) fn forget(&mut self, producer: u64) -> Vec<u32> {
        let rows = self.known.remove(&producer).unwrap_or_default().rows;
        rows.into_iter().map(|(sequence, _)| sequence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let mut receipts = Receipts::default();
        let most = u32::try_from(RECEIPTS_MAX).unwrap();
        for sequence in 0..most {
            assert_eq!(receipts.note(7, sequence, 10), [0; 0]);
        }
        assert_eq!(receipts.note(7, most, 10), [0]);
        assert_eq!(receipts.note(8, 0, 10), [0; 0], "another producer's");
        assert_eq!(receipts.note(7, most + 1, RECEIPT_BYTES_MAX - 30), (1..=most - 3).collect::<Vec<_>>());
        assert_eq!(receipts.note(7, most + 2, 2 * RECEIPT_BYTES_MAX), [most - 2, most - 1, most, most + 1]);
        assert_eq!(receipts.forget(7), [most + 2]);
        assert_eq!(receipts.forget(7), [0; 0]);
    }

    #[test]
    fn they_are_recovered_by_age_where_numbers_wrap() {
        let mut receipts = Receipts::default();
        for sequence in [2, 5, u32::MAX - 3, u32::MAX] {
            receipts.recover(7, 9, sequence, RECEIPT_BYTES_MAX / 4);
        }
        assert_eq!(receipts.note(7, 9, 1), [u32::MAX - 3], "the oldest goes first");
        assert_eq!(
            receipts.note(7, 2, RECEIPT_BYTES_MAX / 4),
            [0; 0],
            "it takes the place of the one before"
        );
        assert_eq!(receipts.forget(7), [u32::MAX, 5, 9, 2]);
    }
}

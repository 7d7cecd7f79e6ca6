//! Partition row: how far a partition goes. Kept by the store, in the same atomic batch as the appends.
//!
//! | key                 | value |
//! |---------------------|-------|
//! | 0x03, partition u32 | next offset u64, low watermark u64, base offset of the newest batch u64, time of the newest batch i64, bytes kept u64, records compacted away u64, offset below which it is compacted u64, time of that i64, CRC-32C of these u32 |
//!
//! `u64::MAX` as base offset: the log holds no batch of the partition that recovery should look for. Rows written before
//! there was compaction lack its three fields, and those before there was retention the time and the bytes as well: those are
//! counted when the store opens.

use millstream_types::{Offset, PartitionId, Timestamp};

use super::{Encoding, Family, exactly, take};

/// Key of a partition's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartitionKey(pub(crate) PartitionId);

impl Encoding for PartitionKey {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x03;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.0.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        exactly(body).map(|id| Self(PartitionId(u32::from_be_bytes(id))))
    }
}

/// How far a partition goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionRow {
    /// Offset that the next record gets.
    pub next_offset: Offset,
    /// Offset below which nothing is read any more.
    pub low_watermark: Offset,
    /// Base offset of the newest batch: at open, the log must end with it.
    pub newest: Option<Offset>,
    /// When that one was appended, as its header says; 0 if that is not known.
    pub newest_ms: Timestamp,
    /// Bytes of the batches at the low watermark and above.
    pub bytes: u64,
    /// Records between the low watermark and the end that compaction deleted.
    pub holes: u64,
    /// Compaction has seen to everything below.
    pub compacted: Offset,
    /// When it had; 0 for never.
    pub compacted_ms: Timestamp,
}

const NO_BATCH: Offset = Offset::MAX;

impl PartitionRow {
    /// Records kept.
    pub fn records(&self) -> u64 {
        self.next_offset.saturating_sub(self.low_watermark).saturating_sub(self.holes)
    }

    /// Length of a row that does not tell its bytes.
    pub(crate) const UNCOUNTED_LEN: usize = 28;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(68);
        out.extend_from_slice(&self.next_offset.to_be_bytes());
        out.extend_from_slice(&self.low_watermark.to_be_bytes());
        out.extend_from_slice(&self.newest.unwrap_or(NO_BATCH).to_be_bytes());
        out.extend_from_slice(&self.newest_ms.to_be_bytes());
        for field in [self.bytes, self.holes, self.compacted, self.compacted_ms.cast_unsigned()] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        let crc = crc_fast::crc32_iscsi(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc_fast::crc32_iscsi(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (next_offset, rest) = take(body)?;
        let (low_watermark, rest) = take(rest)?;
        let (newest, rest) = take(rest)?;
        let newest = u64::from_be_bytes(newest);
        // What an older row does not tell.
        let mut rest = rest.chunks_exact(8).map(|field| field.try_into().map_or(0, u64::from_be_bytes));
        let mut field = || rest.next().unwrap_or(0);
        Some(Self {
            next_offset: u64::from_be_bytes(next_offset),
            low_watermark: u64::from_be_bytes(low_watermark),
            newest: (newest != NO_BATCH).then_some(newest),
            newest_ms: field().cast_signed(),
            bytes: field(),
            holes: field(),
            compacted: field(),
            compacted_ms: field().cast_signed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn partition_key_round_trips(id: u32) {
            testing::round_trip(&PartitionKey(PartitionId(id)));
        }

        #[test]
        fn partition_row_round_trips_and_notices_a_flip(
            next_offset: u64, low_watermark: u64, newest in proptest::option::of(0..u64::MAX), newest_ms: i64, bytes: u64,
            holes: u64, compacted: u64, compacted_ms: i64, bit in 0usize..544,
        ) {
            let row = PartitionRow { next_offset, low_watermark, newest, newest_ms, bytes, holes, compacted, compacted_ms };
            let mut bytes = row.encode();
            prop_assert_eq!(PartitionRow::decode(&bytes), Some(row));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(PartitionRow::decode(&bytes), None);
        }

        #[test]
        fn a_row_from_before_is_read(fields: [u64; 5], counted: bool) {
            let fields = if counted { &fields[..] } else { &fields[..3] };
            let known = fields.iter().flat_map(|field| field.to_be_bytes()).collect::<Vec<_>>();
            let bytes = [&known[..], &crc_fast::crc32_iscsi(&known).to_be_bytes()].concat();
            prop_assert_eq!(bytes.len() == PartitionRow::UNCOUNTED_LEN, !counted);
            let row = PartitionRow {
                next_offset: fields[0],
                low_watermark: fields[1],
                newest: (fields[2] != NO_BATCH).then_some(fields[2]),
                newest_ms: fields.get(3).map_or(0, |field| field.cast_signed()),
                bytes: fields.get(4).copied().unwrap_or(0),
                holes: 0,
                compacted: 0,
                compacted_ms: 0,
            };
            prop_assert_eq!(PartitionRow::decode(&bytes), Some(row));
        }
    }
}

//! Partition row: how far a partition goes. Kept by the store, in the same atomic batch as the appends.
//!
//! | key                 | value |
//! |---------------------|-------|
//! | 0x03, partition u32 | next offset u64, low watermark u64, base offset of the newest batch u64, CRC-32C of these u32 |
//!
//! `u64::MAX` as base offset: the log holds no batch of the partition that recovery should look for.

use millstream_types::{Offset, PartitionId};

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
    pub(crate) newest: Option<Offset>,
}

const NO_BATCH: Offset = Offset::MAX;

impl PartitionRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(28);
        out.extend_from_slice(&self.next_offset.to_be_bytes());
        out.extend_from_slice(&self.low_watermark.to_be_bytes());
        out.extend_from_slice(&self.newest.unwrap_or(NO_BATCH).to_be_bytes());
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
        let newest = u64::from_be_bytes(exactly(rest)?);
        Some(Self {
            next_offset: u64::from_be_bytes(next_offset),
            low_watermark: u64::from_be_bytes(low_watermark),
            newest: (newest != NO_BATCH).then_some(newest),
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
            next_offset: u64, low_watermark: u64, newest in proptest::option::of(0..u64::MAX), bit in 0usize..224,
        ) {
            let row = PartitionRow { next_offset, low_watermark, newest };
            let mut bytes = row.encode();
            prop_assert_eq!(PartitionRow::decode(&bytes), Some(row));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(PartitionRow::decode(&bytes), None);
        }
    }
}

//! Partition row: how far a partition goes. Kept by the store, in the same atomic batch as the appends.
//!
//! | key                 | value |
//! |---------------------|-------|
//! | 0x03, partition u32 | next offset u64, low watermark u64, base offset of the newest batch u64, time of the newest batch i64, bytes kept u64, CRC-32C of these u32 |
//!
//! `u64::MAX` as base offset: the log holds no batch of the partition that recovery should look for. Rows written before
//! there was retention end with that offset and the checksum: their bytes are counted when the store opens.

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
}

const NO_BATCH: Offset = Offset::MAX;

impl PartitionRow {
    /// Length of a row that does not tell its bytes.
    pub(crate) const UNCOUNTED_LEN: usize = 28;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(44);
        out.extend_from_slice(&self.next_offset.to_be_bytes());
        out.extend_from_slice(&self.low_watermark.to_be_bytes());
        out.extend_from_slice(&self.newest.unwrap_or(NO_BATCH).to_be_bytes());
        out.extend_from_slice(&self.newest_ms.to_be_bytes());
        out.extend_from_slice(&self.bytes.to_be_bytes());
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
        let (newest_ms, bytes) = match bytes.len() {
            Self::UNCOUNTED_LEN => ([0; 8], [0; 8]),
            _ => {
                let (newest_ms, rest) = take(rest)?;
                (newest_ms, exactly(rest)?)
            }
        };
        Some(Self {
            next_offset: u64::from_be_bytes(next_offset),
            low_watermark: u64::from_be_bytes(low_watermark),
            newest: (newest != NO_BATCH).then_some(newest),
            newest_ms: Timestamp::from_be_bytes(newest_ms),
            bytes: u64::from_be_bytes(bytes),
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
            bit in 0usize..352,
        ) {
            let row = PartitionRow { next_offset, low_watermark, newest, newest_ms, bytes };
            let mut bytes = row.encode();
            prop_assert_eq!(PartitionRow::decode(&bytes), Some(row));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(PartitionRow::decode(&bytes), None);
        }

        #[test]
        fn a_row_from_before_retention_is_read(next_offset: u64, low_watermark: u64, newest in 0..u64::MAX) {
            let fields = [next_offset, low_watermark, newest].map(u64::to_be_bytes).concat();
            let bytes = [&fields[..], &crc_fast::crc32_iscsi(&fields).to_be_bytes()].concat();
            let row = PartitionRow { next_offset, low_watermark, newest: Some(newest), newest_ms: 0, bytes: 0 };
            prop_assert_eq!(bytes.len(), PartitionRow::UNCOUNTED_LEN);
            prop_assert_eq!(PartitionRow::decode(&bytes), Some(row));
        }
    }
}

//! Receipt: what an idempotent producer was told of a batch, where its place in the log does not tell it.
//!
//! | key | value |
//! |-----|-------|
//! | 0x12, partition u32, producer u64, sequence u32 | opaque |

use millstream_types::PartitionId;

use super::{Encoding, Family, Key, exactly, take};

/// What a producer was told of one of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// The partition written to.
    pub partition: PartitionId,
    /// Id of the producer.
    pub producer: u64,
    /// The number of the batch's first record.
    pub sequence: u32,
}

impl Key for Receipt {}

impl Encoding for Receipt {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x12;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.0.to_be_bytes());
        out.extend_from_slice(&self.producer.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (partition, rest) = take(body)?;
        let (producer, rest) = take(rest)?;
        Some(Self {
            partition: PartitionId(u32::from_be_bytes(partition)),
            producer: u64::from_be_bytes(producer),
            sequence: u32::from_be_bytes(exactly(rest)?),
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
        fn receipt_key_round_trips(partition: u32, producer: u64, sequence: u32) {
            testing::round_trip(&Receipt { partition: PartitionId(partition), producer, sequence });
        }
    }
}

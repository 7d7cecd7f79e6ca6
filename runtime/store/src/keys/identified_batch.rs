//! Identified batch: a batch of a partition whose message ids are remembered.
//!
//! | key | value |
//! |-----|-------|
//! | 0x0C, partition u32, base offset u64 | empty |

use millstream_types::{Offset, PartitionId};

use super::{Encoding, Family, Key, exactly, take};

/// A batch of a partition whose message ids are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentifiedBatch {
    /// Where it is.
    pub partition: PartitionId,
    /// Offset of its first record.
    pub base_offset: Offset,
}

impl Key for IdentifiedBatch {}

impl Encoding for IdentifiedBatch {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x0C;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.0.to_be_bytes());
        out.extend_from_slice(&self.base_offset.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (partition, rest) = take(body)?;
        Some(Self {
            partition: PartitionId(u32::from_be_bytes(partition)),
            base_offset: Offset::from_be_bytes(exactly(rest)?),
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
        fn identified_batch_key_round_trips(partition: u32, base_offset: u64) {
            testing::round_trip(&IdentifiedBatch { partition: PartitionId(partition), base_offset });
        }
    }
}

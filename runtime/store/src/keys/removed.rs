//! Removed partition: its topic is deleted, its batches still have to be. Lets the cleanup resume.
//!
//! | key | value |
//! |-----|-------|
//! | 0x08, partition u32 | opaque |

use millstream_types::PartitionId;

use super::{Encoding, Family, Key, exactly};

/// A partition whose batches are being deleted. Written by `Batch::delete_partition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemovedPartition(pub PartitionId);

impl Key for RemovedPartition {}

impl Encoding for RemovedPartition {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x08;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.0.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        exactly(body).map(|id| Self(PartitionId(u32::from_be_bytes(id))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn removed_key_round_trips(id: u32) {
            testing::round_trip(&RemovedPartition(PartitionId(id)));
        }
    }
}

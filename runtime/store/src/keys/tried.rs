//! Tried record: one that was delivered in vain, and is to be delivered again.
//!
//! | key | value |
//! |-----|-------|
//! | 0x0B, subscription u32, partition u32, offset u64 | opaque |

use millstream_types::{Offset, PartitionId};

use super::{Encoding, Family, Key, Prefix, PrefixEncoding, exactly, take};

/// A record that was delivered in vain, and is to be delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tried {
    /// Id of the subscription.
    pub subscription: u32,
    /// The partition it reads.
    pub partition: PartitionId,
    /// The record.
    pub offset: Offset,
}

impl Key for Tried {}

impl Encoding for Tried {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x0B;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.subscription.to_be_bytes());
        out.extend_from_slice(&self.partition.0.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (subscription, rest) = take(body)?;
        let (partition, rest) = take(rest)?;
        Some(Self {
            subscription: u32::from_be_bytes(subscription),
            partition: PartitionId(u32::from_be_bytes(partition)),
            offset: Offset::from_be_bytes(exactly(rest)?),
        })
    }
}

/// All tried records of the subscription with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriedOf(pub u32);

impl Prefix for TriedOf {
    type Key = Tried;
}

impl PrefixEncoding for TriedOf {
    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn tried_key_round_trips(subscription: u32, partition: u32, offset: u64) {
            testing::round_trip(&Tried { subscription, partition: PartitionId(partition), offset });
        }
    }
}

//! Settled run: records that a subscription is done with above its cursor in one partition.
//!
//! | key | value |
//! |-----|-------|
//! | 0x0A, subscription u32, partition u32, first offset u64 | opaque |

use millstream_types::{Offset, PartitionId};

use super::{Encoding, Family, Key, Prefix, PrefixEncoding, exactly, take};

/// Records that a subscription is done with above its cursor in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettledRun {
    /// Id of the subscription.
    pub subscription: u32,
    /// The partition it reads.
    pub partition: PartitionId,
    /// First offset of the run.
    pub start: Offset,
}

impl Key for SettledRun {}

impl Encoding for SettledRun {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x0A;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.subscription.to_be_bytes());
        out.extend_from_slice(&self.partition.0.to_be_bytes());
        out.extend_from_slice(&self.start.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (subscription, rest) = take(body)?;
        let (partition, rest) = take(rest)?;
        Some(Self {
            subscription: u32::from_be_bytes(subscription),
            partition: PartitionId(u32::from_be_bytes(partition)),
            start: Offset::from_be_bytes(exactly(rest)?),
        })
    }
}

/// All settled runs of the subscription with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledRunsOf(pub u32);

impl Prefix for SettledRunsOf {
    type Key = SettledRun;
}

impl PrefixEncoding for SettledRunsOf {
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
        fn settled_run_key_round_trips(subscription: u32, partition: u32, start: u64) {
            testing::round_trip(&SettledRun { subscription, partition: PartitionId(partition), start });
        }
    }
}

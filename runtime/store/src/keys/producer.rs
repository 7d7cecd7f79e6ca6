//! Idempotent producer: how far it is in a partition.
//!
//! | key | value |
//! |-----|-------|
//! | 0x07, partition u32, producer u64 | opaque |

use millstream_types::PartitionId;

use super::{Encoding, Family, Key, Prefix, PrefixEncoding, exactly, take};

/// What a partition knows of one idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    /// The partition written to.
    pub partition: PartitionId,
    /// Id of the producer.
    pub producer: u64,
}

impl Key for Producer {}

impl Encoding for Producer {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x07;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.0.to_be_bytes());
        out.extend_from_slice(&self.producer.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (partition, rest) = take(body)?;
        Some(Self {
            partition: PartitionId(u32::from_be_bytes(partition)),
            producer: u64::from_be_bytes(exactly(rest)?),
        })
    }
}

/// All producers known to this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducersOf(pub PartitionId);

impl Prefix for ProducersOf {
    type Key = Producer;
}

impl PrefixEncoding for ProducersOf {
    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.0.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn producer_key_round_trips(a: u32, b: u64) {
            testing::round_trip(&Producer { partition: PartitionId(a), producer: b });
        }
    }
}

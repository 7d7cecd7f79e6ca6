//! Cursor: how far a subscription has come in one partition.
//!
//! | key | value |
//! |-----|-------|
//! | 0x06, subscription u32, partition u32 | opaque |

use millstream_types::PartitionId;

use super::{Encoding, Family, Key, Prefix, PrefixEncoding, exactly, take};

/// How far a subscription has come in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// Id of the subscription.
    pub subscription: u32,
    /// The partition it reads.
    pub partition: PartitionId,
}

impl Key for Cursor {}

impl Encoding for Cursor {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x06;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.subscription.to_be_bytes());
        out.extend_from_slice(&self.partition.0.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (subscription, rest) = take(body)?;
        Some(Self {
            subscription: u32::from_be_bytes(subscription),
            partition: PartitionId(u32::from_be_bytes(exactly(rest)?)),
        })
    }
}

/// All cursors of the subscription with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorsOf(pub u32);

impl Prefix for CursorsOf {
    type Key = Cursor;
}

impl PrefixEncoding for CursorsOf {
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
        fn cursor_key_round_trips(a: u32, b: u32) {
            testing::round_trip(&Cursor { subscription: a, partition: PartitionId(b) });
        }
    }
}

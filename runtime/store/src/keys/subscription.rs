//! Subscription row, by the id the broker gives it, so that its cursors can have short keys.
//!
//! | key | value |
//! |-----|-------|
//! | 0x05, subscription u32 | opaque |

use super::{Encoding, Family, Key, exactly};

/// A subscription, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscription(pub u32);

impl Key for Subscription {}

impl Encoding for Subscription {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x05;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        exactly(body).map(|id| Self(u32::from_be_bytes(id)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn subscription_key_round_trips(id: u32) {
            testing::round_trip(&Subscription(id));
        }
    }
}

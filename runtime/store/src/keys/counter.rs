//! Counter: a number the broker counts up durably, the next free id, say.
//!
//! | key | value |
//! |-----|-------|
//! | 0x02, counter u16 | opaque |

use super::{Encoding, Family, Key, exactly};

/// A durable counter, by the number the broker gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter(pub u16);

impl Key for Counter {}

impl Encoding for Counter {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x02;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        exactly(body).map(|id| Self(u16::from_be_bytes(id)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn counter_key_round_trips(id: u16) {
            testing::round_trip(&Counter(id));
        }
    }
}

//! State size: how much the state of a processor holds.
//!
//! | key | value |
//! |-----|-------|
//! | 0x0E, processor u32 | opaque |

use super::{Encoding, Family, Key, exactly};

/// How much the state of the processor with this id holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateSize(pub u32);

impl Key for StateSize {}

impl Encoding for StateSize {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x0E;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        exactly(body).map(|processor| Self(u32::from_be_bytes(processor)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn state_size_key_round_trips(processor: u32) {
            testing::round_trip(&StateSize(processor));
        }
    }
}

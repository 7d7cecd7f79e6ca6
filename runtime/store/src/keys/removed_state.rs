//! Removed state: that of a processor which is deleted, as long as entries of it are there.
//!
//! | key | value |
//! |-----|-------|
//! | 0x0F, processor u32 | empty |

use super::{Encoding, Family, Key, exactly};

/// The state of the deleted processor with this id is still there, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemovedState(pub u32);

impl Key for RemovedState {}

impl Encoding for RemovedState {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x0F;

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
        fn removed_state_key_round_trips(processor: u32) {
            testing::round_trip(&RemovedState(processor));
        }
    }
}

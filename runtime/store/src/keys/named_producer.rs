//! Row of a producer with a name.
//!
//! | key | value |
//! |-----|-------|
//! | 0x09, name | opaque |

use millstream_types::ProducerName;

use super::{Encoding, Family, Key};

/// A producer with a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedProducer(pub ProducerName);

impl Key for NamedProducer {}

impl Encoding for NamedProducer {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x09;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_str().as_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        ProducerName::new(str::from_utf8(body).ok()?).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn named_producer_key_round_trips(text in "[a-z0-9_-]{1,20}([.][a-zA-Z0-9]{1,9}){0,5}") {
            testing::round_trip(&NamedProducer(ProducerName::new(text).expect("valid by construction")));
        }
    }
}

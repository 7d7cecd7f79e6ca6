//! Topic row, by name.
//!
//! | key | value |
//! |-----|-------|
//! | 0x04, name | opaque |

use millstream_types::TopicName;

use super::{Encoding, Family, Key};

/// A topic, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub TopicName);

impl Key for Topic {}

impl Encoding for Topic {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x04;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_str().as_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        TopicName::new(str::from_utf8(body).ok()?).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn topic_key_round_trips(text in "[a-z0-9_-]{1,20}([.][a-zA-Z0-9]{1,9}){0,5}") {
            testing::round_trip(&Topic(TopicName::new(text).expect("valid by construction")));
        }
    }
}

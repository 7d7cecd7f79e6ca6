//! State entry: what the module of a processor remembers under a key.
//!
//! | key | value |
//! |-----|-------|
//! | 0x0D, processor u32, key to the end | opaque |

use bytes::Bytes;

use super::{Encoding, Family, Key, Prefix, PrefixEncoding, take};

/// What the module of a processor remembers under a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateEntry {
    /// Id of the processor.
    pub processor: u32,
    /// As the module calls it.
    pub key: Bytes,
}

impl Key for StateEntry {}

impl Encoding for StateEntry {
    const FAMILY: Family = Family::State;
    const TAG: u8 = 0x0D;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.processor.to_be_bytes());
        out.extend_from_slice(&self.key);
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let (processor, key) = take(body)?;
        Some(Self { processor: u32::from_be_bytes(processor), key: Bytes::copy_from_slice(key) })
    }
}

/// Entries of the state of the processor with this id whose keys start with `prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntriesOf {
    /// Id of the processor.
    pub processor: u32,
    /// What the keys have in common; empty for all of them.
    pub prefix: Bytes,
}

impl Prefix for StateEntriesOf {
    type Key = StateEntry;
}

impl PrefixEncoding for StateEntriesOf {
    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.processor.to_be_bytes());
        out.extend_from_slice(&self.prefix);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn state_key_round_trips(processor: u32, key: Vec<u8>) {
            testing::round_trip(&StateEntry { processor, key: key.into() });
        }
    }
}

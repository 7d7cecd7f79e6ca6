//! Module blob: the bytes of a module, by their SHA-256.
//!
//! | key | value |
//! |-----|-------|
//! | 0x11, SHA-256 (32 bytes) | opaque |

use super::{Encoding, Family, Key, exactly};

/// The bytes of a module, by SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleBlob(pub [u8; 32]);

impl Key for ModuleBlob {}

impl Encoding for ModuleBlob {
    const FAMILY: Family = Family::Modules;
    const TAG: u8 = 0x11;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        exactly(body).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn module_blob_key_round_trips(id: [u8; 32]) {
            testing::round_trip(&ModuleBlob(id));
        }
    }
}

//! Module row: a version of a module in the registry.
//!
//! | key | value |
//! |-----|-------|
//! | 0x10, `NAME@VERSION` | opaque |

use millstream_types::ModuleName;

use super::{Encoding, Family, Key, Prefix, PrefixEncoding};

/// A version of a module, by `NAME@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Module(pub ModuleName);

impl Key for Module {}

impl Encoding for Module {
    const FAMILY: Family = Family::Modules;
    const TAG: u8 = 0x10;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_str().as_bytes());
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        ModuleName::new(str::from_utf8(body).ok()?).ok().map(Self)
    }
}

/// All versions of the module with this name (the part before `@`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionsOf(pub String);

impl Prefix for VersionsOf {
    type Key = Module;
}

impl PrefixEncoding for VersionsOf {
    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
        out.push(b'@');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::testing;

    proptest! {
        #[test]
        fn module_key_round_trips(text in "[a-z]{1,9}(/[a-z-]{1,9})?@[0-9]{1,3}[.][0-9]{1,3}") {
            testing::round_trip(&Module(ModuleName::new(text).expect("valid by construction")));
        }
    }
}

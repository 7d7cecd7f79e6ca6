//! Key of a record batch in the log. The value is the batch as the producer encoded it.
//!
//! | bytes | field |
//! |-------|-------|
//! | 4     | partition u32 |
//! | 8     | base offset u64 |

use millstream_types::{Offset, PartitionId};

use super::{exactly, take};

/// Key in the `log` keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogKey {
    pub(crate) partition: PartitionId,
    pub(crate) base_offset: Offset,
}

impl LogKey {
    pub(crate) fn encode(self) -> [u8; 12] {
        let mut out = [0; 12];
        let (partition, base_offset) = out.split_at_mut(4);
        partition.copy_from_slice(&self.partition.0.to_be_bytes());
        base_offset.copy_from_slice(&self.base_offset.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (partition, rest) = take(bytes)?;
        Some(Self {
            partition: PartitionId(u32::from_be_bytes(partition)),
            base_offset: u64::from_be_bytes(exactly(rest)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn log_key_round_trips_and_keeps_order(a: (u32, u64), b: (u32, u64)) {
            let [a, b] = [a, b].map(|(partition, base_offset)| LogKey { partition: PartitionId(partition), base_offset });
            prop_assert_eq!(LogKey::decode(&a.encode()), Some(a));
            prop_assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
        }
    }
}

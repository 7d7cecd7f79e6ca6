//! Which partition a key belongs to.

use twox_hash::XxHash3_64;

/// The partition, counted from 0, of a record with `key` among `partitions`: XXH3-64 of the key with seed 0,
/// modulo the number of partitions. Clients in other languages compute the same.
///
/// `partitions` of 0 is taken as 1.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    let index = XxHash3_64::oneshot(key) % u64::from(partitions.max(1));
    u32::try_from(index).expect("a remainder of a u32 fits u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable() {
        // XXH3-64 of the empty input is 0x2d06800538d394c2 (xxHash's own test vectors).
        assert_eq!(partition_for_key(b"", 1_000), (0x2d06_8005_38d3_94c2_u64 % 1_000) as u32);
        assert_eq!(partition_for_key(b"anything", 1), 0);
        assert_eq!(partition_for_key(b"anything", 0), 0);
    }
}

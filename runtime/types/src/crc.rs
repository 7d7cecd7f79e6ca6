//! The batch checksum: CRC-32C over everything but itself and what the broker stamps.

use crc_fast::{CrcAlgorithm::Crc32Iscsi, Digest};

use crate::batch::layout::{CRC_AT, HEADER_BYTES, STAMPED_END};

/// CRC-32C of `batch`, leaving out the checksum and the stamped fields. `batch` has at least a header.
pub(crate) fn of_batch(batch: &[u8]) -> u32 {
    debug_assert!(batch.len() >= HEADER_BYTES, "callers check the header first");
    let mut digest = Digest::new(Crc32Iscsi);
    digest.update(batch.get(..CRC_AT).unwrap_or_default());
    digest.update(batch.get(STAMPED_END..).unwrap_or_default());
    u32::try_from(digest.finalize()).expect("a CRC of 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32/ISCSI in the catalogue of parametrised CRC algorithms.
    #[test]
    fn is_crc_32c() {
        let mut batch = [0; HEADER_BYTES].to_vec();
        let empty = of_batch(&batch);
        batch.extend_from_slice(b"123456789");
        assert_ne!(of_batch(&batch), empty);
        assert_eq!(crc_fast::checksum(Crc32Iscsi, b"123456789"), 0xe306_9283);
    }
}

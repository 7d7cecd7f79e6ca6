//! The batch checksum: CRC-32C over everything but itself and what the broker stamps.

use crate::batch::layout::{CRC_AT, HEADER_BYTES, STAMPED_END};

/// CRC-32C of `batch`, leaving out the checksum and the stamped fields. `batch` has at least a header.
pub(crate) fn of_batch(batch: &[u8]) -> u32 {
    let front = batch.get(..CRC_AT).unwrap_or_default();
    let back = batch.get(STAMPED_END..).unwrap_or_default();
    debug_assert!(batch.len() >= HEADER_BYTES, "callers check the header first");
    crc32c::crc32c_append(crc32c::crc32c(front), back)
}

//! Why bytes are not a batch, or a record does not fit one.

use crate::limits;

/// Why bytes are not a batch, or a record does not fit one. Every value named came from the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Shorter than its parts say.
    #[error("record batch is cut: {found} bytes where {wanted} were announced")]
    Truncated {
        /// Bytes that its header asks for.
        wanted: u64,
        /// Bytes there.
        found: usize,
    },
    /// Does not start with the magic.
    #[error("not a record batch: it starts with {0:02x?} where `MSRB` belongs")]
    Magic([u8; 4]),
    /// A version this build does not know.
    #[error("record batch version {0} is not known here (this build reads version 1): upgrade the reader")]
    Version(u8),
    /// A flag this build does not know.
    #[error("record batch has flags {0:#010b}, of which some are not known here: upgrade the reader")]
    Flags(u8),
    /// A count or length beyond its limit.
    #[error("{what} is {found}, above the limit of {max}")]
    Limit {
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The checksum differs: the bytes were changed on the way.
    #[error("record batch is corrupt: checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// As stored.
        found: u32,
        /// As computed from the bytes.
        computed: u32,
    },
    /// A record's row or head contradicts the layout.
    #[error("record {index} of the batch is malformed: {fault}")]
    Record {
        /// Position in the batch.
        index: usize,
        /// What is wrong.
        fault: &'static str,
    },
    /// No records, where some are needed.
    #[error("record batch is empty")]
    Empty,
    /// The payload region does not decompress to its announced length.
    #[error("payload region does not decompress: {0}")]
    Decompress(String),
    /// Built without the codec.
    #[error("this build has no codec for compressed payloads")]
    NoCodec,
}

impl BatchError {
    /// `Err(Limit)` if `found` is above `max`.
    pub(crate) fn check_limit(what: &'static str, found: usize, max: usize) -> Result<(), Self> {
        if found > max {
            return Err(Self::Limit { what, found: found as u64, max: max as u64 });
        }
        Ok(())
    }

    /// The limit on records of a batch.
    pub(crate) fn check_count(count: usize) -> Result<(), Self> {
        Self::check_limit("number of records in the batch", count, limits::BATCH_RECORDS_MAX)
    }
}

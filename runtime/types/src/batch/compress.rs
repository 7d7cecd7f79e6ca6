//! Compression of the payload region: as a whole, never record by record.

use super::BatchError;

/// How the payload region is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// lz4 block format: cheap.
    Lz4,
    /// zstd level 1: smaller.
    Zstd,
}

impl Compression {
    pub(super) fn tag(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(super) fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    #[cfg(feature = "compression")]
    pub(super) fn compress(self, raw: &[u8]) -> Result<Vec<u8>, BatchError> {
        match self {
            Self::None => Ok(raw.to_vec()),
            Self::Lz4 => Ok(lz4_flex::block::compress(raw)),
            Self::Zstd => {
                zstd::bulk::compress(raw, 1).map_err(|error| BatchError::Decompress(error.to_string()))
            }
        }
    }

    #[cfg(not(feature = "compression"))]
    pub(super) fn compress(self, raw: &[u8]) -> Result<Vec<u8>, BatchError> {
        match self {
            Self::None => Ok(raw.to_vec()),
            Self::Lz4 | Self::Zstd => Err(BatchError::NoCodec),
        }
    }

    /// `stored` decompressed; `raw_len` was checked against its limit, so the allocation is bounded.
    #[cfg(feature = "compression")]
    pub(super) fn decompress(self, stored: &[u8], raw_len: usize) -> Result<Vec<u8>, BatchError> {
        let raw = match self {
            Self::None => stored.to_vec(),
            Self::Lz4 => lz4_flex::block::decompress(stored, raw_len)
                .map_err(|error| BatchError::Decompress(error.to_string()))?,
            Self::Zstd => zstd::bulk::decompress(stored, raw_len)
                .map_err(|error| BatchError::Decompress(error.to_string()))?,
        };
        if raw.len() != raw_len {
            return Err(BatchError::Decompress(format!(
                "{} bytes where {raw_len} were announced",
                raw.len()
            )));
        }
        Ok(raw)
    }

    #[cfg(not(feature = "compression"))]
    pub(super) fn decompress(self, stored: &[u8], _raw_len: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Self::None => Ok(stored.to_vec()),
            Self::Lz4 | Self::Zstd => Err(BatchError::NoCodec),
        }
    }
}

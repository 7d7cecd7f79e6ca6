//! The record batch, version 1: encoded once by the producer's client, the same bytes everywhere after.
//!
//! Little-endian, one contiguous buffer, four parts. `*`: stamped by the broker, outside the checksum.
//!
//! Header, 64 bytes:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `MSRB` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | flags: bits 0 and 1 compression of the payload region (0 none, 1 lz4, 2 zstd); bit 2 payload region left out; bit 3 set where a record has a deliver-at or expires-at; bit 4 where one has a message id; the rest 0. Bits 3 and 4 may be set without need |
//! | 6 | 2 | reserved, 0 |
//! | 8 | 4 | record count |
//! | 12 | 4 | bytes of the heads region |
//! | 16 | 4 | bytes of the payload region as stored |
//! | 20 | 4 | bytes of the payload region decompressed |
//! | 24 | 4 | reserved, 0 |
//! | 28 | 4 | CRC-32C of bytes 0 to 27 and 48 to the end |
//! | 32 | 8 | base offset * |
//! | 40 | 8 | broker timestamp, ms since the Unix epoch * |
//! | 48 | 8 | producer id, 0 when not idempotent |
//! | 56 | 4 | producer epoch |
//! | 60 | 4 | base sequence |
//!
//! Table, 12 bytes a record: offset delta from the base offset, end of its head in the heads region, end of its
//! payload in the decompressed payload region, each a `u32`. A head or payload starts where the one before ends.
//! In a produced batch the deltas are 0, 1, 2, ...; in a filtered one they rise with holes, or repeat where one
//! record became several.
//!
//! Heads, one a record: flags `u8` (1 key, 2 headers, 4 message id, 8 deliver-at, 16 expires-at, 32 no payload),
//! timestamp delta `i32` (ms from the broker timestamp), then what the flags name, in this order: message id
//! (`u8` length, bytes), deliver-at `i64`, expires-at `i64`, key (`u32` length, bytes), headers (`u16` count, then for
//! each `u16` name length, `u32` value length, name, value).
//!
//! Payloads: one after the other, compressed as a whole where the flags say so.

mod builder;
mod compress;
mod error;
mod join;
pub(crate) mod layout;
mod owned;
mod record_view;
mod subset;
mod view;

pub use builder::{BatchBuilder, HeadersIn, RecordParts};
pub use compress::Compression;
pub use error::BatchError;
pub use owned::RecordBatch;
pub use record_view::{HeadersView, RawRecord, RecordView};
pub use view::{BatchView, Check};

#[cfg(test)]
mod tests;

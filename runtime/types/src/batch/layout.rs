//! Where each field of a batch stands. The table is in the parent module.

pub(crate) const MAGIC: [u8; 4] = *b"MSRB";
pub(crate) const VERSION: u8 = 1;

pub(crate) const FLAGS_AT: usize = 5;
pub(crate) const COUNT_AT: usize = 8;
pub(crate) const HEADS_LEN_AT: usize = 12;
pub(crate) const STORED_LEN_AT: usize = 16;
pub(crate) const RAW_LEN_AT: usize = 20;
pub(crate) const CRC_AT: usize = 28;
pub(crate) const BASE_OFFSET_AT: usize = 32;
pub(crate) const TIMESTAMP_AT: usize = 40;
pub(crate) const STAMPED_END: usize = 48;
pub(crate) const PRODUCER_AT: usize = 48;
pub(crate) const EPOCH_AT: usize = 56;
pub(crate) const SEQUENCE_AT: usize = 60;
pub(crate) const HEADER_BYTES: usize = 64;

pub(crate) const ROW_BYTES: usize = 12;

pub(crate) const FLAG_COMPRESSION: u8 = 0b11;
pub(crate) const FLAG_PAYLOADS_OMITTED: u8 = 0b100;
pub(crate) const FLAGS_KNOWN: u8 = FLAG_COMPRESSION | FLAG_PAYLOADS_OMITTED;

pub(crate) const HEAD_KEY: u8 = 1;
pub(crate) const HEAD_HEADERS: u8 = 2;
pub(crate) const HEAD_MESSAGE_ID: u8 = 4;
pub(crate) const HEAD_DELIVER_AT: u8 = 8;
pub(crate) const HEAD_EXPIRES_AT: u8 = 16;
pub(crate) const HEAD_NO_PAYLOAD: u8 = 32;
pub(crate) const HEAD_KNOWN: u8 = 63;

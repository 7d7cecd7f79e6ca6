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
/// Records may have a deliver-at or an expires-at.
pub(crate) const FLAG_TIMED: u8 = 0b1000;
/// Records may have a message id.
pub(crate) const FLAG_IDENTIFIED: u8 = 0b1_0000;
/// What a batch says of its records, and what is made of it says as well.
pub(crate) const FLAGS_OF_RECORDS: u8 = FLAG_TIMED | FLAG_IDENTIFIED;
pub(crate) const FLAGS_KNOWN: u8 = FLAG_COMPRESSION | FLAG_PAYLOADS_OMITTED | FLAGS_OF_RECORDS;

pub(crate) const HEAD_KEY: u8 = 1;
pub(crate) const HEAD_HEADERS: u8 = 2;
pub(crate) const HEAD_MESSAGE_ID: u8 = 4;
pub(crate) const HEAD_DELIVER_AT: u8 = 8;
pub(crate) const HEAD_EXPIRES_AT: u8 = 16;
pub(crate) const HEAD_NO_PAYLOAD: u8 = 32;
pub(crate) const HEAD_KNOWN: u8 = 63;

/// What a batch must say of a record with this head.
pub(crate) fn flags_of_record(head: u8) -> u8 {
    let timed = if head & (HEAD_DELIVER_AT | HEAD_EXPIRES_AT) == 0 { 0 } else { FLAG_TIMED };
    timed | if head & HEAD_MESSAGE_ID == 0 { 0 } else { FLAG_IDENTIFIED }
}

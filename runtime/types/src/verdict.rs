//! The verdict buffer, version 1: what a module answers for a batch.
//!
//! Little-endian. Header, 16 bytes: magic `MSVB`, version `u8` 1, three reserved zero bytes, record count `u32`, bytes of
//! the bodies `u32`. Then one tag byte a record: 0 keep, 1 drop, 2 emit, 3 reject. Then the bodies of emits and
//! rejects, in record order:
//!
//! - emit: output count `u32`, then the outputs. An output: flags `u8` (1 topic, 2 key, 4 headers, 8 payload; 16 key
//!   removed, 32 payload removed), then what bits 0 to 3 name: topic (`u16` length, UTF-8), key (`u32` length, bytes),
//!   headers (as in a record's head), payload (`u32` length, bytes). What is not set is inherited from the record.
//! - reject: `u32` length and the reason in UTF-8.

mod view;
mod writer;

pub use view::{OutputView, OutputsView, Verdict, VerdictError, VerdictsView};
pub use writer::{Field, Output, VerdictWriter};

const MAGIC: [u8; 4] = *b"MSVB";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
const COUNT_AT: usize = 8;
const BODIES_LEN_AT: usize = 12;

const KEEP: u8 = 0;
const DROP: u8 = 1;
const EMIT: u8 = 2;
const REJECT: u8 = 3;

const TOPIC: u8 = 1;
const KEY: u8 = 2;
const HEADERS: u8 = 4;
const PAYLOAD: u8 = 8;
const NO_KEY: u8 = 16;
const NO_PAYLOAD: u8 = 32;
const OUTPUT_FLAGS_KNOWN: u8 = 63;

#[cfg(test)]
mod tests;

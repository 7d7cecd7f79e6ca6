//! Keys, one kind a file: layout, encode, decode. Big-endian, so that order in the store is order in the domain.
//!
//! | keyspace  | tag  | kind |
//! |-----------|------|------|
//! | `log`     | none | record batches (`log.rs`) |
//! | `state`   | 0x01 | commit row (`commit.rs`) |
//! | `state`   | 0x02 | [`Counter`] |
//! | `state`   | 0x03 | partition row (`partition.rs`) |
//! | `state`   | 0x04 | [`Topic`] |
//! | `state`   | 0x05 | [`Subscription`] |
//! | `state`   | 0x06 | [`Cursor`] |
//! | `state`   | 0x07 | [`Producer`] |
//! | `state`   | 0x08 | [`RemovedPartition`] |
//! | `state`   | 0x09 | [`NamedProducer`] |
//! | `state`   | 0x0A | [`SettledRun`] |
//! | `state`   | 0x0B | [`Tried`] |
//! | `state`   | 0x0C | [`IdentifiedBatch`] |
//! | `state`   | 0x0D | [`StateEntry`] |
//! | `state`   | 0x0E | [`StateSize`] |
//! | `state`   | 0x0F | [`RemovedState`] |
//! | `state`   | 0x12 | [`Receipt`] |
//! | `modules` | 0x10 | [`Module`] |
//! | `modules` | 0x11 | [`ModuleBlob`] |
//!
//! Tags are never reused for another kind.

mod commit;
mod counter;
mod cursor;
mod identified_batch;
mod log;
mod module;
mod module_blob;
mod named_producer;
mod partition;
mod producer;
mod receipt;
mod removed;
mod removed_state;
mod settled_run;
mod state_entry;
mod state_size;
mod subscription;
mod topic;
mod tried;

use bytes::Bytes;

pub use counter::Counter;
pub use cursor::{Cursor, CursorsOf};
pub use identified_batch::IdentifiedBatch;
pub use module::{Module, VersionsOf};
pub use module_blob::ModuleBlob;
pub use named_producer::NamedProducer;
pub use partition::PartitionRow;
pub use producer::{Producer, ProducersOf};
pub use receipt::Receipt;
pub use removed::RemovedPartition;
pub use removed_state::RemovedState;
pub use settled_run::{SettledRun, SettledRunsOf};
pub use state_entry::{StateEntriesOf, StateEntry};
pub use state_size::StateSize;
pub use subscription::Subscription;
pub use topic::Topic;
pub use tried::{Tried, TriedOf};

pub(crate) use commit::{COMMIT_KEY, CommitRow};
pub(crate) use log::LogKey;
pub(crate) use partition::PartitionKey;

/// Which keyspace a key lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// Topics, partitions, cursors: small rows.
    State,
    /// Modules: few rows, large values.
    Modules,
}

/// A kind of row that the broker reads and writes by key; its value is opaque to the store.
#[expect(private_bounds, reason = "sealed: the kinds of key are the store's to define")]
pub trait Key: Encoding {}

/// Where a kind of key lives and how it is written.
pub(crate) trait Encoding: Sized {
    const FAMILY: Family;
    const TAG: u8;
    fn encode_body(&self, out: &mut Vec<u8>);
    fn decode_body(body: &[u8]) -> Option<Self>;
}

/// What a run of keys has in common: all cursors of one subscription, say.
#[expect(private_bounds, reason = "sealed: the kinds of prefix are the store's to define")]
pub trait Prefix: PrefixEncoding {
    /// The kind of key that has this prefix.
    type Key: Key;
}

pub(crate) trait PrefixEncoding {
    fn encode_body(&self, out: &mut Vec<u8>);
}

pub(crate) fn encode<K: Encoding>(key: &K) -> Bytes {
    let mut out = Vec::with_capacity(16);
    out.push(K::TAG);
    key.encode_body(&mut out);
    out.into()
}

pub(crate) fn encode_prefix<P: Prefix>(prefix: &P) -> Bytes {
    let mut out = Vec::with_capacity(16);
    out.push(P::Key::TAG);
    prefix.encode_body(&mut out);
    out.into()
}

pub(crate) fn decode<K: Encoding>(bytes: &[u8]) -> Option<K> {
    let (tag, body) = bytes.split_first()?;
    if *tag == K::TAG { K::decode_body(body) } else { None }
}

/// Splits `N` bytes off the front.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(head, rest)| (*head, rest))
}

/// All of `bytes`, which must be exactly `N`.
fn exactly<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
pub(crate) mod testing {
    //! The property that every kind of key has.

    use super::{Encoding, decode, encode};

    pub(crate) fn round_trip<K: Encoding + PartialEq + std::fmt::Debug>(key: &K) {
        let bytes = encode(key);
        assert_eq!(decode::<K>(&bytes).as_ref(), Some(key));
        assert!(bytes.len() < usize::from(u16::MAX), "fjall keys are below 64 KiB");
    }
}

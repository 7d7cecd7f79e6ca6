//! One batch in a journal of fjall 3, as its `journal/entry.rs` and `journal/writer.rs` write it. Little-endian:
//!
//! | entry | tag | fields |
//! |-------|-----|--------|
//! | start | 1   | items u32, seqno u64 |
//! | item  | 2   | value type u8, compression u8, keyspace u64, key length u16, value length u32, stored length u32, key, value |
//! | clear | 4   | keyspace u64 |
//! | end   | 3   | XXH3-64 of the items and clears, magic `FJL` 3 |
//!
//! A batch is a start, its items, an end. We never clear keyspaces and never compress the journal, so a batch that does
//! is none of ours. What fjall's checksum leaves out (the start entry, lengths it writes twice) is checked against the
//! commit row that each of our batches carries.

use millstream_types::{Offset, PartitionId};
use twox_hash::XxHash3_64;

use crate::keys::{self, COMMIT_KEY, CommitRow, PartitionKey, PartitionRow};

/// What a batch says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Bytes it takes in the journal.
    pub(crate) bytes: usize,
    pub(crate) seqno: u64,
    pub(crate) commit: CommitRow,
    /// Ends of the partitions it touches; `None`: deleted.
    pub(crate) ends: Vec<(PartitionId, Option<Offset>)>,
}

/// Why there is no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// The bytes end before it does.
    Cut,
    /// The bytes are not a batch that we wrote.
    Invalid(&'static str),
}

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TYPE_VALUE: u8 = 0;
const TYPE_TOMBSTONE: u8 = 1;
const MAGIC: [u8; 4] = *b"FJL\x03";
/// fjall's number of a commit may have moved on between our look at it and the commit, by what its workers took.
const SEQNO_SLACK: u64 = 1 << 16;

/// Reads the batch at the start of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Result<Frame, NoFrame> {
    let mut input = Input { bytes, at: 0 };
    if input.u8()? != TAG_START {
        return Err(NoFrame::Invalid("no batch starts here"));
    }
    let items = input.u32()?;
    let seqno = input.u64()?;
    let mut commit = None;
    let mut ends = Vec::new();
    // Lengths first, the checksum once the end is found: looking for batches in foreign bytes tries many places.
    let start = input.at;
    for _ in 0..items {
        let (kind, key, value) = input.item()?;
        if key == COMMIT_KEY {
            commit = CommitRow::decode(value);
        } else if let Some(partition) = keys::decode::<PartitionKey>(key) {
            ends.push((partition.0, (kind == TYPE_VALUE).then(|| PartitionRow::decode(value)).flatten()));
        }
    }
    let body = bytes.get(start..input.at).unwrap_or_default();
    if input.u8()? != TAG_END {
        return Err(NoFrame::Invalid("a batch does not end where it should"));
    }
    let checksum = input.u64()?;
    if input.take(MAGIC.len())? != MAGIC {
        return Err(NoFrame::Invalid("the trailer of a batch is damaged"));
    }
    if checksum != XxHash3_64::oneshot(body) {
        return Err(NoFrame::Invalid("the checksum of a batch does not match"));
    }
    let Some(commit) = commit else { return Err(NoFrame::Invalid("a batch has no commit row")) };
    if !(commit.seqno_floor..commit.seqno_floor.saturating_add(SEQNO_SLACK)).contains(&seqno) {
        return Err(NoFrame::Invalid("the sequence number of a batch is damaged"));
    }
    let ends = ends.into_iter().map(|(partition, row)| (partition, row.map(|row| row.next_offset))).collect();
    Ok(Frame { bytes: input.at, seqno, commit, ends })
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], NoFrame> {
        let end = self.at.checked_add(count).ok_or(NoFrame::Cut)?;
        let taken = self.bytes.get(self.at..end).ok_or(NoFrame::Cut)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NoFrame> {
        self.take(N)?.try_into().map_err(|_| NoFrame::Cut)
    }

    fn u8(&mut self) -> Result<u8, NoFrame> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, NoFrame> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, NoFrame> {
        self.array().map(u64::from_le_bytes)
    }

    /// Type, key and value of an item.
    fn item(&mut self) -> Result<(u8, &'a [u8], &'a [u8]), NoFrame> {
        if self.u8()? != TAG_ITEM {
            return Err(NoFrame::Invalid("an item of a batch is damaged"));
        }
        let kind = self.u8()?;
        let compression = self.u8()?;
        if !matches!(kind, TYPE_VALUE | TYPE_TOMBSTONE) || compression != 0 {
            return Err(NoFrame::Invalid("the type of an item is damaged"));
        }
        let _keyspace = self.u64()?;
        let key_bytes = u16::from_le_bytes(self.array()?);
        let value_bytes = self.u32()?;
        if self.u32()? != value_bytes {
            return Err(NoFrame::Invalid("the length of an item is damaged"));
        }
        let key = self.take(key_bytes.into())?;
        let value = self.take(usize::try_from(value_bytes).map_err(|_| NoFrame::Cut)?)?;
        Ok((kind, key, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), tags: bool) {
            if let (true, [start, _, b, c, d, rest @ ..]) = (tags, bytes.as_mut_slice()) {
                [*start, *b, *c, *d] = [TAG_START, 0, 0, 0];
                if let Some(tag) = rest.get_mut(8) {
                    *tag = TAG_ITEM;
                }
            }
            let _ = read(&bytes);
        }
    }
}

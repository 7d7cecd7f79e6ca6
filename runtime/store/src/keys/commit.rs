//! The commit row: written with every atomic batch, so that recovery can tell which batches are there.
//!
//! | key  | value |
//! |------|-------|
//! | 0x01 | sequence u64, previous u64, synced u64, seqno floor u64 |
//!
//! - *sequence*: number of this commit, from 1, rising by one except after a repair;
//! - *previous*: sequence of the commit that precedes it in the journal: a gap betrays a lost frame;
//! - *synced*: the newest sequence known durable when this one was written: proof, in the journal itself, of what was
//!   acknowledged before;
//! - *seqno floor*: fjall's next sequence number just before the commit. fjall's checksum leaves a frame's number out;
//!   this brackets it.

use super::{exactly, take};

/// Key of the one commit row.
pub(crate) const COMMIT_KEY: [u8; 1] = [0x01];

/// Value of the commit row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitRow {
    pub(crate) sequence: u64,
    pub(crate) previous: u64,
    pub(crate) synced: u64,
    pub(crate) seqno_floor: u64,
}

impl CommitRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        for field in [self.sequence, self.previous, self.synced, self.seqno_floor] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = take(bytes)?;
        let (previous, rest) = take(rest)?;
        let (synced, rest) = take(rest)?;
        Some(Self {
            sequence: u64::from_be_bytes(sequence),
            previous: u64::from_be_bytes(previous),
            synced: u64::from_be_bytes(synced),
            seqno_floor: u64::from_be_bytes(exactly(rest)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn commit_row_round_trips(fields: [u64; 4]) {
            let [sequence, previous, synced, seqno_floor] = fields;
            let row = CommitRow { sequence, previous, synced, seqno_floor };
            prop_assert_eq!(CommitRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn commit_row_of_other_lengths_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(CommitRow::decode(&bytes).is_some(), bytes.len() == 32);
        }
    }
}

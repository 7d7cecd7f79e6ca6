//! The side file: how far the store got, written after each fsync, beside the database and independent of it.
//! fjall stops quietly at a damaged journal frame; comparing with this file makes such a loss loud.
//!
//! Big-endian. The file is the magic `mstprog1`, then records:
//!
//! | bytes | field |
//! |-------|-------|
//! | 4     | CRC-32C of the rest of the record |
//! | 4     | number of entries |
//! | 8     | newest durable commit |
//! | 20 an entry | partition u32, end before u64, end after u64 |
//!
//! An entry says that the partition went from one end to the other since the record before; both equal: no more than
//! that it is there; both `u64::MAX`: it was deleted. Records are not fsynced one by one (the file may lag behind the
//! database after power loss, never be ahead of it) and the file is rewritten when it has grown.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use millstream_types::{Offset, PartitionId};

use crate::layout;

/// The side file, open for appending.
#[derive(Debug)]
pub(crate) struct Progress {
    path: PathBuf,
    file: File,
    bytes: u64,
    rewrite_at: u64,
    buffer: Vec<u8>,
}

/// How far one partition went between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advance {
    pub(crate) from: Offset,
    pub(crate) to: Offset,
}

impl Advance {
    pub(crate) const DELETED: Self = Self { from: Offset::MAX, to: Offset::MAX };

    /// This advance followed by `later`.
    pub(crate) fn then(self, later: Self) -> Self {
        if later == Self::DELETED { later } else { Self { from: self.from.min(later.from), to: later.to } }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) advances: BTreeMap<PartitionId, Advance>,
}

/// What the side file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) records: Vec<Record>,
    /// Whether bytes were skipped that are no record: a torn end, or damage.
    pub(crate) damaged: bool,
}

impl History {
    /// Newest commit known to be durable.
    pub(crate) fn synced(&self) -> u64 {
        self.records.iter().map(|record| record.sequence).max().unwrap_or(0)
    }

    /// Where each partition stood after all records.
    pub(crate) fn ends(&self) -> BTreeMap<PartitionId, Offset> {
        let mut ends = BTreeMap::new();
        for (partition, advance) in self.records.iter().flat_map(|record| &record.advances) {
            if *advance == Advance::DELETED {
                ends.remove(partition);
            } else {
                ends.insert(*partition, advance.to);
            }
        }
        ends
    }
}

const MAGIC: &[u8; 8] = b"mstprog1";
const HEAD_BYTES: usize = 16;
const ENTRY_BYTES: usize = 20;
/// Enough to say of every commit in the journals what it appended, for all but the smallest commits.
const REWRITE_BYTES_MIN: u64 = 4 << 20;

impl Progress {
    /// Starts a new side file that says no more than `record`, replacing an older one atomically.
    pub(crate) fn create(path: &Path, record: &Record) -> io::Result<Self> {
        write_atomically(path, std::slice::from_ref(record))?;
        Self::append_to(path)
    }

    /// Opens the side file for appending.
    pub(crate) fn append_to(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            rewrite_at: REWRITE_BYTES_MIN.max(2 * bytes),
            buffer: Vec::new(),
        })
    }

    /// Says that everything up to `sequence` is durable.
    pub(crate) fn append(
        &mut self,
        sequence: u64,
        advances: &BTreeMap<PartitionId, Advance>,
    ) -> io::Result<()> {
        self.buffer.clear();
        encode(sequence, advances, &mut self.buffer);
        self.file.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        if self.bytes >= self.rewrite_at { self.rewrite() } else { Ok(()) }
    }

    /// Makes the side file itself durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Folds the older half of the records into one.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut older = read(&self.path)?.unwrap_or_default();
        let newer = older.records.split_off(older.records.len() / 2);
        let advances =
            older.ends().into_iter().map(|(partition, end)| (partition, Advance { from: end, to: end }));
        let mut records = vec![Record { sequence: older.synced(), advances: advances.collect() }];
        records.extend(newer);
        write_atomically(&self.path, &records)?;
        *self = Self::append_to(&self.path)?;
        Ok(())
    }
}

/// Reads the side file; `None` if there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<History>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(parse(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes every record that is whole, wherever it stands: records only add knowledge, so one that is damaged hides no
/// other.
fn parse(bytes: &[u8]) -> History {
    let mut history = History::default();
    let mut rest = match bytes.strip_prefix(MAGIC) {
        Some(rest) => rest,
        None => {
            history.damaged = true;
            bytes
        }
    };
    while !rest.is_empty() {
        if let Some((record, after)) = decode(rest) {
            history.records.push(record);
            rest = after;
        } else {
            history.damaged = true;
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    history
}

fn encode(sequence: u64, advances: &BTreeMap<PartitionId, Advance>, out: &mut Vec<u8>) {
    let start = out.len();
    let count = u32::try_from(advances.len()).expect("partition ids are 32 bits wide");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    for (partition, advance) in advances {
        out.extend_from_slice(&partition.0.to_be_bytes());
        out.extend_from_slice(&advance.from.to_be_bytes());
        out.extend_from_slice(&advance.to.to_be_bytes());
    }
    let (crc, body) = out[start..].split_at_mut(4);
    crc.copy_from_slice(&crc_fast::crc32_iscsi(body).to_be_bytes());
}

fn decode(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let count = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let record_bytes = HEAD_BYTES.checked_add(ENTRY_BYTES.checked_mul(count.try_into().ok()?)?)?;
    let (record, rest) = bytes.split_at_checked(record_bytes)?;
    let (crc, body) = record.split_first_chunk::<4>()?;
    if crc_fast::crc32_iscsi(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let sequence = u64::from_be_bytes(record.get(8..HEAD_BYTES)?.try_into().ok()?);
    let mut advances = BTreeMap::new();
    for entry in record.get(HEAD_BYTES..)?.chunks_exact(ENTRY_BYTES) {
        let (partition, ends) = entry.split_first_chunk::<4>()?;
        let (from, to) = ends.split_first_chunk::<8>()?;
        let advance =
            Advance { from: u64::from_be_bytes(*from), to: u64::from_be_bytes(to.try_into().ok()?) };
        advances.insert(PartitionId(u32::from_be_bytes(*partition)), advance);
    }
    Some((Record { sequence, advances }, rest))
}

fn write_atomically(path: &Path, records: &[Record]) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for record in records {
        encode(record.sequence, &record.advances, &mut bytes);
    }
    layout::write_atomically(path, &bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let advance = (any::<u64>(), any::<u64>()).prop_map(|(from, to)| Advance { from, to });
        let advances = proptest::collection::btree_map(any::<u32>().prop_map(PartitionId), advance, 0..5);
        let record = (any::<u64>(), advances).prop_map(|(sequence, advances)| Record { sequence, advances });
        proptest::collection::vec(record, 0..8)
    }

    fn bytes_of(records: &[Record]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for record in records {
            encode(record.sequence, &record.advances, &mut bytes);
        }
        bytes
    }

    proptest! {
        #[test]
        fn records_round_trip(records in records()) {
            prop_assert_eq!(parse(&bytes_of(&records)), History { records, damaged: false });
        }

        #[test]
        fn a_flipped_bit_costs_at_most_its_own_record(records in records(), at: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = bytes_of(&records);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            let history = parse(&bytes);
            prop_assert!(history.damaged);
            // A flip in a count may swallow nothing: the next record is found again by its own checksum.
            prop_assert!(history.records.len() + 1 >= records.len());
            prop_assert!(history.records.iter().all(|record| records.contains(record)));
        }

        #[test]
        fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
        }
    }

    #[test]
    fn rewriting_keeps_the_newest_and_all_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let start = Record { sequence: 0, advances: BTreeMap::new() };
        let mut progress = Progress::create(&path, &start).unwrap();
        for sequence in 1..=200u64 {
            let partition = PartitionId((sequence % 7) as u32);
            let advances = BTreeMap::from([(partition, Advance { from: sequence - 1, to: sequence })]);
            progress.append(sequence, &advances).unwrap();
        }
        let before = read(&path).unwrap().unwrap();
        progress.rewrite().unwrap();
        let after = read(&path).unwrap().unwrap();
        assert!(after.records.len() < 110);
        assert_eq!((after.synced(), after.ends()), (200, before.ends()));
        assert!(!after.damaged);
        assert_eq!(after.records.last(), before.records.last());
    }
}

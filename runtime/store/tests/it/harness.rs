//! What the tests share: real record batches, and a store in a temporary directory.

use std::{
    env, fs,
    hash::{BuildHasher as _, RandomState},
    path::Path,
};

use bytes::Bytes;
use millstream_store::{Batch, Offset, Options, PartitionId, Persist, Recovery, Store};
use millstream_types::{BatchBuilder, Record};

pub(crate) const P0: PartitionId = PartitionId(0);
pub(crate) const P1: PartitionId = PartitionId(1);

pub(crate) fn open(dir: &Path) -> (Store, Recovery) {
    Store::open(dir, &Options::default()).unwrap()
}

/// A record batch of `count` records at `base`, each of `bytes` bytes.
pub(crate) fn records(base: Offset, count: u64, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new().with_stamp(base, 1_000);
    for index in 0..count {
        let payload = vec![(base + index) as u8; bytes];
        builder.push(&Record { payload: Some(payload.into()), ..Record::default() }).unwrap();
    }
    builder.build().unwrap().into_bytes()
}

pub(crate) fn append(batch: &mut Batch, partition: PartitionId, base: Offset, count: u64, bytes: usize) {
    batch.append(partition, base, base + count, records(base, count, bytes));
}

/// Commits one batch of `count` records at the end of a partition.
pub(crate) fn publish(store: &Store, partition: PartitionId, count: u64, bytes: usize, persist: Persist) {
    let base = store.partition(partition).map_or(0, |row| row.next_offset);
    let mut batch = store.batch();
    append(&mut batch, partition, base, count, bytes);
    store.commit(batch, persist).unwrap();
}

/// Reads a partition from the start and checks that its batches follow each other; returns its end.
pub(crate) fn check_whole(store: &Store, partition: PartitionId) -> Offset {
    let mut next = 0;
    while let Some(batch) = store.read(partition, next, u64::MAX, 1).unwrap().pop() {
        assert_eq!(batch.base_offset, next, "partition {partition} has a gap");
        let view = millstream_types::BatchView::new(&batch.bytes, millstream_types::Check::Full).unwrap();
        assert_eq!(view.base_offset(), next);
        next = view.next_offset();
    }
    assert_eq!(store.partition(partition).map_or(0, |row| row.next_offset), next);
    next
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The newest journal, and how many of its bytes are written.
pub(crate) fn journal(dir: &Path) -> (std::path::PathBuf, usize) {
    let journals = fs::read_dir(dir.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let journals = journals.filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let newest =
        journals.max_by_key(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap());
    let newest = newest.unwrap();
    let bytes = fs::read(&newest).unwrap();
    (newest, bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1))
}

/// Shortens the journal to what is written, so that copying it is quick.
pub(crate) fn trim_journal(dir: &Path) {
    let (path, bytes) = journal(dir);
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes as u64 + 512).unwrap();
}

/// Random numbers that a seed repeats (splitmix64).
pub(crate) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From `MILLSTREAM_SEED`, or another each time.
    pub(crate) fn from_environment() -> Self {
        let given = env::var("MILLSTREAM_SEED").ok().map(|seed| seed.parse().unwrap());
        Self::new(given.unwrap_or_else(|| RandomState::new().hash_one(0)))
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// `rounds`, or many more when asked for by `MILLSTREAM_SOAK=1`.
pub(crate) fn rounds_times(rounds: u64) -> u64 {
    if env::var_os("MILLSTREAM_SOAK").is_some() { rounds * 20 } else { rounds }
}

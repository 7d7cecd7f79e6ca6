//! A run of commits of which each follows from its number, so that what a store holds tells exactly which of them it
//! has: the first so many and nothing else. Tests run it in a process that dies and check what is left.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::Path,
};

use millstream_store::{
    Cleanup, CleanupError, Compacted, Counter, Offset, Options, PartitionId, Persist, ReclaimError,
    RemovedPartition, Rewrite, StateEntriesOf, StateEntry, Store, WriteError,
};

use crate::harness::{append, check_whole, records};

/// What kind of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Small ones, synced or not, flushed often.
    Small,
    /// Small ones, hardly ever synced, flushed all the time: what is flushed must not be ahead of the journal.
    Buffered,
    /// Large ones, mostly not synced, so that journals fill up, change and go.
    Large,
    /// Small ones, some of which replace and delete batches, and the disk space of those is taken back.
    Compacting,
}

/// Holds the number of the last commit.
pub(crate) const LAST: Counter = Counter(1);
const AGAIN: Counter = Counter(2);
/// Partitions from here on are created, filled and deleted.
const SHORT_LIVED: u32 = 100;

impl Load {
    pub(crate) fn options(self) -> Options {
        let memtable_bytes = match self {
            Self::Small | Self::Compacting => 64 << 10,
            Self::Buffered => 4 << 10,
            Self::Large => 16 << 20,
        };
        Options {
            memtable_bytes,
            memtable_bytes_max: 64 << 20,
            reclaim_bytes_min: 10_000,
            ..Options::default()
        }
    }

    /// What commit `number` appends: partition, records, bytes a record.
    fn appends(self, number: u64) -> Vec<(PartitionId, u64, usize)> {
        let partition = |number: u64| PartitionId((number % 3) as u32);
        match self {
            Self::Small | Self::Buffered => {
                let bytes = [20, 300, 5_000, 900][(number % 4) as usize];
                let mut appends = vec![(partition(number), 1 + number % 4, bytes)];
                if number.is_multiple_of(5) {
                    appends.push((partition(number + 1), 2, 70));
                }
                if let Some(partition) = short_lived(number) {
                    appends.push((partition, 1, 2_000));
                }
                appends
            }
            Self::Large => vec![(partition(number), 3, 900_000)],
            Self::Compacting => vec![(partition(number), 1, [30, 5_000, 1_200][(number / 3 % 3) as usize])],
        }
    }

    fn persist(self, number: u64) -> Persist {
        let every = match self {
            Self::Small | Self::Compacting => 3,
            Self::Buffered => 60,
            Self::Large => 16,
        };
        if number.is_multiple_of(every) { Persist::Sync } else { Persist::Buffer }
    }

    /// Makes commit `number`.
    pub(crate) fn commit(self, store: &Store, number: u64) -> Result<(), WriteError> {
        let mut batch = store.batch();
        for (partition, count, bytes) in self.appends(number) {
            let base = store.partition(partition).map_or(0, |row| row.next_offset);
            append(&mut batch, partition, base, count, bytes);
        }
        if self == Self::Compacting && number.is_multiple_of(COMPACT_EVERY) {
            let partition = PartitionId((number % 3) as u32);
            let newest = store.partition(partition).and_then(|row| row.newest).unwrap_or(0);
            let batches = store.read(partition, 0, newest, usize::MAX).unwrap();
            let sizes = batches.iter().map(|batch| (batch.base_offset, batch.bytes.len() as u64));
            batch.compact(partition, compacted(&sizes.collect()));
        }
        if matches!(self, Self::Small | Self::Buffered)
            && let Some(partition) = short_lived(number - 1)
            && short_lived(number).is_none()
        {
            batch.delete_partition(partition);
        }
        // As a processor does: what it remembers changes with what it makes.
        for (key, value) in changes(number) {
            let entry = StateEntry { processor: PROCESSOR, key: vec![key].into() };
            match value {
                Some(value) => batch.put(&entry, value.to_be_bytes().to_vec()),
                None => batch.remove(&entry),
            }
        }
        batch.put(&LAST, number.to_be_bytes().to_vec());
        batch.put(&AGAIN, number.to_be_bytes().to_vec());
        store.commit(batch, self.persist(number))
    }

    /// Ends of the partitions after commit `number`.
    pub(crate) fn ends(self, number: u64) -> BTreeMap<PartitionId, u64> {
        let mut ends = BTreeMap::new();
        for number in 1..=number {
            for (partition, count, _) in self.appends(number) {
                *ends.entry(partition).or_default() += count;
            }
        }
        ends.retain(|partition, _| partition.0 < SHORT_LIVED || short_lived(number) == Some(*partition));
        ends
    }

    /// Checks that the store holds the commits up to some number, in full, and nothing of another; returns the number.
    pub(crate) fn check(self, store: &Store) -> u64 {
        let number = |counter| {
            let row = store.get(&counter).unwrap();
            row.map_or(0, |row| u64::from_be_bytes(row.as_ref().try_into().unwrap()))
        };
        let last = number(LAST);
        assert_eq!(number(AGAIN), last, "half a commit");
        let ends = store.partitions().into_iter().map(|(partition, row)| {
            let end = if self == Self::Compacting { row.next_offset } else { check_whole(store, partition) };
            (partition, end)
        });
        let ends: BTreeMap<_, _> = ends.collect();
        assert_eq!(ends, self.ends(last), "after commit {last}");
        if self == Self::Compacting {
            self.check_compacted(store, last);
        }
        let mut remembered = BTreeMap::new();
        for (key, value) in (1..=last).flat_map(changes) {
            match value {
                Some(value) => drop(remembered.insert(vec![key], value)),
                None => drop(remembered.remove([key].as_slice())),
            }
        }
        let entries = StateEntriesOf { processor: PROCESSOR, prefix: Vec::new().into() };
        let found = store.scan_prefix(&entries).map(|row| {
            let (entry, value) = row.unwrap();
            (entry.key.to_vec(), u64::from_be_bytes(value.as_ref().try_into().unwrap()))
        });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), remembered, "after commit {last}");
        last
    }
}

/// Whose state the commits change.
const PROCESSOR: u32 = 7;

/// What commit `number` changes of it.
fn changes(number: u64) -> [(u8, Option<u64>); 2] {
    [
        ((number % 11) as u8, Some(number)),
        ((number * 5 % 11) as u8, number.is_multiple_of(3).then_some(number)),
    ]
}

/// How often a commit compacts a partition.
const COMPACT_EVERY: u64 = 4;

/// Base offset and size of each batch.
type Layout = BTreeMap<Offset, u64>;

/// What compacting does to a partition with such batches: some go, some shrink.
fn compacted(batches: &Layout) -> Compacted {
    let mut compacted = Compacted::default();
    for (index, (&base_offset, &bytes)) in batches.iter().enumerate() {
        let bytes_left = match index % 3 {
            0 => continue,
            1 => None,
            _ => Some(records(base_offset, 1, (bytes / 4) as usize)),
        };
        compacted.freed_bytes += bytes;
        compacted.records += u64::from(bytes_left.is_none());
        compacted.rewrites.push(Rewrite { base_offset, bytes: bytes_left });
    }
    compacted.below = batches.last_key_value().map(|(base_offset, _)| (*base_offset, 1));
    compacted
}

impl Load {
    /// Checks that what is left after commit `last` is what follows from the commits up to it.
    fn check_compacted(self, store: &Store, last: u64) {
        let mut expected: BTreeMap<PartitionId, Layout> = BTreeMap::new();
        for number in 1..=last {
            for (partition, _, bytes) in self.appends(number) {
                let batches = expected.entry(partition).or_default();
                if number.is_multiple_of(COMPACT_EVERY)
                    && let Some((newest, bytes)) = batches.pop_last()
                {
                    for Rewrite { base_offset, bytes } in compacted(batches).rewrites {
                        match bytes {
                            Some(bytes) => batches.insert(base_offset, bytes.len() as u64),
                            None => batches.remove(&base_offset),
                        };
                    }
                    batches.insert(newest, bytes);
                }
                // One record each.
                let base = (number - 1) / 3;
                batches.insert(base, records(base, 1, bytes).len() as u64);
            }
        }
        for (partition, expected) in expected {
            let row = store.partition(partition).unwrap();
            let batches = store.read(partition, 0, u64::MAX, usize::MAX).unwrap();
            let found: Layout =
                batches.iter().map(|batch| (batch.base_offset, batch.bytes.len() as u64)).collect();
            assert_eq!(found, expected, "partition {partition} after commit {last}");
            assert_eq!((row.records(), row.bytes), (found.len() as u64, found.values().sum()));
            for batch in batches {
                millstream_types::BatchView::new(&batch.bytes, millstream_types::Check::Full).unwrap();
            }
        }
    }

    /// Goes on until a write fails, which it must; returns how, and the newest commit acknowledged as durable.
    pub(crate) fn until_failure(self, store: Store) -> (WriteError, u64) {
        let mut acknowledged = 0;
        let mut note = |what: &str, number| {
            if what == "synced" {
                acknowledged = number;
            }
        };
        let error = run(self, store, u64::MAX, &mut note).unwrap_err();
        (error, acknowledged)
    }

    /// Checks that the store holds the commits up to `number`, whatever else it holds.
    pub(crate) fn check_holds(self, store: &Store, number: u64) {
        for (partition, end) in self.ends(number) {
            // A short-lived one may be gone by a later commit.
            if partition.0 < SHORT_LIVED {
                let found = check_whole(store, partition);
                assert!(found >= end, "partition {partition} ends at {found}, {end} was acknowledged");
            }
        }
    }
}

/// Which short-lived partition commit `number` appends to, if any.
fn short_lived(number: u64) -> Option<PartitionId> {
    (number % 25 >= 10).then(|| PartitionId(SHORT_LIVED + (number / 25) as u32))
}

/// What a process told before it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// The newest commit that it was told is durable.
    pub(crate) synced: u64,
    /// The newest commit that it may have begun.
    pub(crate) begun: u64,
}

impl Told {
    pub(crate) fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (what, number) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        match what {
            "begins" => self.begun = self.begun.max(number),
            "synced" => self.synced = self.synced.max(number),
            _ => panic!("{line}"),
        }
    }

    /// Checks that what a store holds is what was told.
    pub(crate) fn check(self, found: u64) {
        assert!(found >= self.synced, "commit {} was acknowledged, the store ends at {found}", self.synced);
        assert!(found <= self.begun, "commit {found} was never begun: {self:?}");
    }
}

/// Says something to the parent, past the harness, which may capture what `println!` says.
pub(crate) fn say(what: &str, number: u64) {
    io::stdout().write_all(format!("@{what} {number}\n").as_bytes()).unwrap();
}

/// Says nothing.
pub(crate) fn hush(_: &str, _: u64) {}

/// Opens the store in `dir`, which must not have lost anything.
pub(crate) fn open(load: Load, dir: &Path) -> Store {
    let (store, recovery) = Store::open(dir, &load.options()).unwrap();
    assert_eq!(recovery.loss, None);
    store
}

/// Checks the store, goes on up to commit `until` and closes it; what it was told it says. Should a write fail, checks
/// that no other succeeds.
pub(crate) fn run(
    load: Load,
    store: Store,
    until: u64,
    say: &mut dyn FnMut(&str, u64),
) -> Result<(), WriteError> {
    let found = load.check(&store);
    // What a store shows after opening is durable: it was shown.
    say("begins", found);
    say("synced", found);
    for number in found + 1..=until {
        say("begins", number);
        if let Err(error) = go_on(load, &store, number, say) {
            check_refused(load, &store, &error, number);
            return Err(error);
        }
    }
    drop(store);
    say("synced", until.max(found));
    Ok(())
}

fn go_on(load: Load, store: &Store, number: u64, say: &mut dyn FnMut(&str, u64)) -> Result<(), WriteError> {
    load.commit(store, number)?;
    if load.persist(number) == Persist::Sync {
        say("synced", number);
    }
    if load != Load::Buffered && number.is_multiple_of(7) {
        store.sync()?;
        say("synced", number);
    }
    store.maintain()?;
    if load == Load::Compacting && number.is_multiple_of(40) {
        return match store.reclaim() {
            Err(ReclaimError::Write(error)) => Err(error),
            reclaimed => reclaimed.map(drop).map_err(|error| panic!("{error}")),
        };
    }
    if number.is_multiple_of(10) { clean_up(store) } else { Ok(()) }
}

/// Checks that the outcome is called unknown, that nothing is written any more, and that reading goes on.
fn check_refused(load: Load, store: &Store, error: &WriteError, number: u64) {
    assert!(matches!(error, WriteError::Unknown { .. }), "{error}");
    assert!(error.to_string().contains("unknown"), "{error}");
    for _ in 0..3 {
        let refusals = [
            load.commit(store, number + 1),
            store.commit(store.batch(), Persist::Sync),
            store.commit(store.batch(), Persist::Buffer),
            store.sync(),
            store.maintain(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().to_string(), error.to_string());
        }
    }
    // The commit whose outcome is unknown is shown whole or not at all.
    assert!((number - 1..=number).contains(&load.check(store)));
}

fn clean_up(store: &Store) -> Result<(), WriteError> {
    let removed: Vec<_> = store.scan::<RemovedPartition>().map(|row| row.unwrap().0.0).collect();
    for partition in removed {
        match store.remove_partition(partition, 0) {
            Ok(Cleanup::More { .. } | Cleanup::Done) => {}
            Err(CleanupError::Write(error)) => return Err(error),
            Err(error) => panic!("{error}"),
        }
    }
    Ok(())
}

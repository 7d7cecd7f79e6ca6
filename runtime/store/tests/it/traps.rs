//! What others fell into with stores like this one, and where `flush.rs` and `log.rs` do not look: thousands of
//! partitions, space that deleted records keep, and flushes that never end.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::Path, process, time::Duration};

use millstream_store::{
    Cleanup, Cursor, CursorsOf, Options, PartitionId, Persist, Producer, RemovedPartition, Store, WriteError,
};

use crate::{
    harness::{P0, P1, append, check_whole, open, publish},
    shadow::{Cut, Disk},
    workload::say,
};

const CHILD: &str = "MILLSTREAM_STORE_STALLED_CHILD";

/// Fills memtables no further than this, so that little data makes many tables.
fn small_memtables() -> Options {
    Options { memtable_bytes: 1 << 20, ..Options::default() }
}

/// Lets all memtables reach the disk.
fn flush(dir: &Path) {
    let (store, _) = Store::open(dir, &Options { memtable_bytes: 1, ..Options::default() }).unwrap();
    // A commit, so that each keyspace that has anything has something newer to write.
    publish(&store, PartitionId(u32::MAX), 1, 10, Persist::Sync);
    settle(&store);
}

/// Waits for what the workers still have to do.
fn settle(store: &Store) {
    loop {
        store.maintain().unwrap();
        let stats = store.stats();
        if stats.memtables_sealed == 0 && stats.flushes_outstanding == 0 && stats.compactions_active == 0 {
            return;
        }
        std::thread::yield_now();
    }
}

/// Bytes that a directory takes on the disk; what is allocated ahead takes none.
fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            // Deleted meanwhile.
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn thousands_of_partitions_and_rows_open() {
    const PARTITIONS: u32 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = Store::open(dir.path(), &small_memtables()).unwrap();
        for chunk in (0..PARTITIONS).collect::<Vec<_>>().chunks(500) {
            let mut batch = store.batch();
            for partition in chunk.iter().copied().map(PartitionId) {
                append(&mut batch, partition, 0, 2, 700);
                for subscription in 0..4 {
                    batch.put(&Cursor { subscription, partition }, vec![1; 40]);
                    batch.put(&Producer { partition, producer: subscription.into() }, vec![2; 40]);
                }
            }
            store.commit(batch, Persist::Sync).unwrap();
            store.maintain().unwrap();
        }
    }
    // From the journal, and from tables.
    for _ in 0..2 {
        let (store, recovery) = open(dir.path());
        assert_eq!((recovery.torn, recovery.loss), (None, None));
        let partitions = store.partitions();
        let whole = (0..PARTITIONS)
            .filter(|id| partitions.get(&PartitionId(*id)).is_some_and(|row| row.next_offset == 2));
        assert_eq!(whole.count(), PARTITIONS as usize);
        assert_eq!(store.scan::<Producer>().count(), 4 * PARTITIONS as usize);
        assert_eq!(store.scan_prefix(&CursorsOf(3)).count(), PARTITIONS as usize);
        for partition in (0..PARTITIONS).step_by(97) {
            assert_eq!(check_whole(&store, PartitionId(partition)), 2);
        }
        drop(store);
        flush(dir.path());
    }
    // fjall hangs at opening about a thousand keyspaces: there are three, and its own.
    assert_eq!(fs::read_dir(dir.path().join("db/keyspaces")).unwrap().count(), 4);
}

#[test]
fn a_removed_partition_gives_its_space_back() {
    const BATCH: usize = 200_000;
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = Store::open(dir.path(), &small_memtables()).unwrap();
        for _ in 0..100 {
            publish(&store, P0, 1, BATCH, Persist::Buffer);
            publish(&store, P1, 1, BATCH / 10, Persist::Buffer);
            store.maintain().unwrap();
        }
    }
    flush(dir.path());
    let (store, _) = Store::open(dir.path(), &small_memtables()).unwrap();
    let before = disk_bytes(dir.path());
    let mut batch = store.batch();
    batch.delete_partition(P0);
    store.commit(batch, Persist::Sync).unwrap();
    let mut from = 0;
    while let Cleanup::More { from: next } = store.remove_partition(P0, from).unwrap() {
        from = next;
    }
    // Also when the process ends in between.
    drop(store);
    let (store, _) = Store::open(dir.path(), &small_memtables()).unwrap();
    assert!(store.reclaim().unwrap() > 0);
    assert_eq!(store.scan::<RemovedPartition>().count(), 0);
    settle(&store);
    let after = disk_bytes(dir.path());
    // Nine tenths of every blob file were its own.
    assert!(after + 19_000_000 < before, "{before} bytes before, {after} after: {:?}", store.stats());
    assert_eq!(check_whole(&store, P1), 100);
    drop(store);
    let (store, recovery) = open(dir.path());
    assert_eq!((recovery.torn, recovery.loss), (None, None));
    assert_eq!(check_whole(&store, P1), 100);
    assert!(store.batch_at(P0, u64::MAX).unwrap().is_none());
}

/// Not a test by itself: what runs while flushes never end.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let options = Options {
        memtable_bytes: 64 << 10,
        memtable_bytes_max: 512 << 10,
        flush_stall: Duration::from_secs(1),
        ..Options::default()
    };
    let (store, _) = Store::open(Path::new(&dir), &options).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        let mut batch = store.batch();
        append(&mut batch, P0, acknowledged, 1, 20_000);
        if let Err(error) = store.commit(batch, Persist::Sync) {
            break error;
        }
        acknowledged += 1;
        if let Err(error) = store.maintain() {
            break error;
        }
    };
    assert!(matches!(error, WriteError::FlushStalled { .. }), "{error}");
    assert!(store.commit(store.batch(), Persist::Sync).is_err() && store.sync().is_err());
    assert_eq!(check_whole(&store, P0), acknowledged);
    say("acknowledged", acknowledged);
    // Closing would wait for the workers.
    process::exit(0);
}

#[test]
fn flushes_that_never_end_are_reported_and_cost_nothing() {
    let disk = Disk::new();
    let data = disk.live().join("data");
    let variables = [(CHILD, data.display().to_string())];
    let run = disk.run("traps::child", &variables, Cut { at: 0, how: "hangs" });
    let acknowledged: u64 = run.said[0].strip_prefix("acknowledged ").unwrap().parse().unwrap();
    assert!(acknowledged > 10, "{}", run.stderr);
    let (store, recovery) = open(&data);
    assert_eq!((recovery.torn, recovery.loss), (None, None));
    assert_eq!(check_whole(&store, P0), acknowledged);
}

//! Record batches by offset.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use millstream_store::{Cleanup, Counter, PartitionId, Persist, RemovedPartition, WriteError};

use crate::harness::{P0, P1, append, check_whole, open, publish};

#[test]
fn reads_start_at_the_batch_that_contains_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for (partition, base) in [(P0, 0), (P0, 10), (P0, 20), (P1, 0)] {
        let mut batch = store.batch();
        append(&mut batch, partition, base, if partition == P0 && base == 10 { 5 } else { 10 }, 10);
        store.commit(batch, Persist::Buffer).unwrap();
    }
    let bases = |from, end, bytes_max| -> Vec<u64> {
        store.read(P0, from, end, bytes_max).unwrap().iter().map(|batch| batch.base_offset).collect()
    };
    assert_eq!(bases(0, u64::MAX, usize::MAX), [0, 10, 20]);
    assert_eq!(bases(5, u64::MAX, usize::MAX), [0, 10, 20]);
    assert_eq!(bases(9, 10, usize::MAX), [0]);
    assert_eq!(bases(10, 20, usize::MAX), [10]);
    assert_eq!(bases(14, 21, usize::MAX), [10, 20]);
    assert_eq!(bases(15, u64::MAX, usize::MAX), [20], "offset 15 is a gap, which no batch contains");
    assert_eq!(bases(25, 30, 0), [20]);
    assert_eq!(bases(0, u64::MAX, 1), [0], "at least one, whatever its size");
    assert_eq!(bases(30, u64::MAX, usize::MAX), [0; 0]);
    assert_eq!(bases(5, 5, usize::MAX), [0; 0]);
    assert!(store.read(PartitionId(9), 0, 10, 10).unwrap().is_empty());

    let at = |partition, offset| store.batch_at(partition, offset).unwrap().map(|batch| batch.base_offset);
    assert_eq!([at(P0, 0), at(P0, 16), at(P0, 99), at(P1, 99)], [Some(0), Some(10), Some(20), Some(0)]);
    assert_eq!(at(PartitionId(7), 5), None);
}

#[test]
fn a_batch_that_cannot_be_read_does_not_hide_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut batch = store.batch();
    batch.append(P0, 0, 3, "no record batch".into());
    store.commit(batch, Persist::Buffer).unwrap();
    let count = |from| store.read(P0, from, u64::MAX, usize::MAX).unwrap().len();
    assert_eq!([count(0), count(2), count(3)], [1, 1, 0]);
}

#[test]
fn nothing_is_read_below_the_low_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for _ in 0..3 {
        publish(&store, P0, 10, 10, Persist::Buffer);
    }
    for low_watermark in [15, 12] {
        let mut batch = store.batch();
        batch.raise_low_watermark(P0, low_watermark, 0, 0);
        store.commit(batch, Persist::Buffer).unwrap();
    }
    assert_eq!(store.partition(P0).unwrap().low_watermark, 15, "it never falls");
    assert_eq!(store.read(P0, 0, u64::MAX, 1).unwrap()[0].base_offset, 10);
    let mut batch = store.batch();
    batch.raise_low_watermark(P0, 1_000, 0, 0);
    store.commit(batch, Persist::Buffer).unwrap();
    assert_eq!(store.partition(P0).unwrap().low_watermark, 30, "nor passes the end");
    drop(store);
    assert_eq!(open(dir.path()).0.partition(P0).unwrap().low_watermark, 30);
}

#[test]
fn an_append_that_does_not_follow_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    publish(&store, P0, 10, 10, Persist::Buffer);
    for (base, count) in [(9, 1), (0, 10), (10, 0)] {
        let mut batch = store.batch();
        batch.append(P0, base, base + count, "x".into());
        batch.put(&Counter(1), "never");
        let error = store.commit(batch, Persist::Sync).unwrap_err();
        assert!(matches!(error, WriteError::OutOfOrder { end: 10, .. }), "{error}");
    }
    assert_eq!(store.get(&Counter(1)).unwrap(), None);
    publish(&store, P0, 1, 10, Persist::Sync);
    assert_eq!(check_whole(&store, P0), 11);
}

#[test]
fn readers_never_see_half_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2_000 {
                let base = store.partition(P0).map_or(0, |row| row.next_offset);
                let mut batch = store.batch();
                for index in 0..4 {
                    append(&mut batch, P0, base + index, 1, 20);
                    batch.put(&Counter(index as u16), base.to_be_bytes().to_vec());
                }
                store.commit(batch, Persist::Buffer).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            let batches = store.read(P0, 0, u64::MAX, usize::MAX).unwrap();
            assert_eq!(batches.len() % 4, 0);
            // Nothing holds this read back to what is committed, so it would see the half of a batch.
            for _ in 0..50 {
                let newest = store.batch_at(P0, u64::MAX).unwrap();
                assert!(newest.is_none_or(|batch| batch.base_offset % 4 == 3));
            }
            let rows: Vec<_> = store.scan::<Counter>().map(|row| row.unwrap().1).collect();
            assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "{rows:?}");
        }
    });
}

#[test]
fn a_removed_partition_goes_in_chunks_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, _) = open(dir.path());
        let mut batch = store.batch();
        for base in 0..2_500 {
            append(&mut batch, P0, base, 1, 10);
            append(&mut batch, P1, base, 1, 10);
        }
        store.commit(batch, Persist::Buffer).unwrap();
        assert_eq!(store.remove_partition(P0, 0).unwrap(), Cleanup::Done, "one that exists is left alone");
        assert_eq!(store.read(P0, 0, u64::MAX, usize::MAX).unwrap().len(), 2_500);
        let mut batch = store.batch();
        batch.delete_partition(P0);
        store.commit(batch, Persist::Sync).unwrap();
        assert!(store.read(P0, 0, u64::MAX, 1).unwrap().is_empty());
        assert_eq!(store.remove_partition(P0, 0).unwrap(), Cleanup::More { from: 999 });
    }
    let (store, _) = open(dir.path());
    let left: Vec<_> = store.scan::<RemovedPartition>().map(|row| row.unwrap().0.0).collect();
    assert_eq!(left, [P0]);
    assert_eq!(store.remove_partition(P0, 0).unwrap(), Cleanup::More { from: 1_999 });
    assert_eq!(store.remove_partition(P0, 1_999).unwrap(), Cleanup::Done);
    assert_eq!(store.scan::<RemovedPartition>().count(), 0);
    assert_eq!(store.batch_at(P0, u64::MAX).unwrap(), None);
    assert_eq!(check_whole(&store, P1), 2_500);
}

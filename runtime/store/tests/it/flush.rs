//! Rotation under load: memtables reach the disk, journals go, nothing stalls.

use std::time::{Duration, Instant};

use millstream_store::{Counter, ModuleBlob, Options, PartitionId, Persist, Store};

use crate::harness::{append, check_whole};

#[test]
fn load_on_all_keyspaces_flushes_and_frees_journals() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        memtable_bytes: 2 << 20,
        memtable_bytes_max: 16 << 20,
        journal_bytes_max: 192 << 20,
        flush_stall: Duration::from_secs(20),
        ..Options::default()
    };
    let (store, _) = Store::open(dir.path(), &options).unwrap();
    let started = Instant::now();
    let rounds = 160;
    for round in 0..rounds {
        let mut batch = store.batch();
        for partition in 0..32 {
            append(&mut batch, PartitionId(partition), round * 16, 16, 4_000);
        }
        for counter in 0..200 {
            batch.put(&Counter(counter), vec![round as u8; 200]);
        }
        // Written seldom, this keyspace must not keep every journal since then.
        if round < 2 {
            batch.put(&ModuleBlob([round as u8; 32]), vec![round as u8; 100_000]);
        }
        store.commit(batch, if round % 8 == 0 { Persist::Sync } else { Persist::Buffer }).unwrap();
        store.maintain().unwrap();
        assert!(store.stats().memtable_bytes < 40 << 20, "{:?}", store.stats());
    }
    // 350 MB have been written; whatever waits must reach the disk by itself.
    while store.stats().memtables_sealed > 0 {
        assert!(started.elapsed() < Duration::from_secs(120), "stalled: {:?}", store.stats());
        std::thread::sleep(Duration::from_millis(20));
        store.maintain().unwrap();
    }
    let stats = store.stats();
    assert!(stats.journal_bytes < 256 << 20, "{stats:?}");
    drop(store);
    let (store, recovery) = Store::open(dir.path(), &options).unwrap();
    assert_eq!((recovery.torn, recovery.loss), (None, None));
    for partition in 0..32 {
        assert_eq!(check_whole(&store, PartitionId(partition)), rounds * 16);
    }
    assert_eq!(store.scan::<Counter>().count(), 200);
    assert_eq!(store.scan::<ModuleBlob>().count(), 2);
}

//! Closing and opening, over and over.

use millstream_store::{Counter, Persist};

use crate::harness::{P0, P1, check_whole, open, publish};

#[test]
fn many_cycles_lose_nothing_and_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    for cycle in 0..40u64 {
        let (store, recovery) = open(dir.path());
        assert_eq!((recovery.torn, recovery.loss, recovery.progress_damaged), (None, None, false));
        assert_eq!(recovery.commits, cycle * 3);
        assert_eq!(check_whole(&store, P0), cycle * 7);
        publish(&store, P0, 7, 100, Persist::Sync);
        publish(&store, P1, 1, 100_000, Persist::Buffer);
        let mut batch = store.batch();
        batch.put(&Counter(1), cycle.to_be_bytes().to_vec());
        store.commit(batch, Persist::Buffer).unwrap();
        store.maintain().unwrap();
        assert_eq!(store.get(&Counter(1)).unwrap().unwrap(), cycle.to_be_bytes().as_slice());
        if cycle % 3 == 0 {
            store.sync().unwrap();
            assert_eq!(store.stats().synced, store.stats().committed);
        }
    }
    let (store, _) = open(dir.path());
    assert_eq!(check_whole(&store, P1), 40);
    assert!(store.stats().journals <= 2, "{:?}", store.stats());
}

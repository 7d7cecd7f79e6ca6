//! Rows by key and by kind.

use bytes::Bytes;
use millstream_store::{
    Counter, Cursor, CursorsOf, Module, ModuleBlob, Persist, Producer, ProducersOf, RemovedState,
    StateEntriesOf, StateEntry, Subscription, Topic, VersionsOf,
};
use millstream_types::{ModuleName, TopicName};
use proptest::prelude::*;

use crate::harness::{P0, P1, open};

#[test]
fn rows_of_every_kind_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let topic = Topic(TopicName::new("orders.eu").unwrap());
    let module = Module(ModuleName::new("my-filter@1.2.0").unwrap());
    let wasm = Bytes::from(vec![7; 3 << 20]);
    {
        let (store, recovery) = open(dir.path());
        assert!(recovery.created);
        let mut batch = store.batch();
        batch.put(&topic, "a topic");
        batch.put(&Subscription(7), "a subscription");
        batch.put(&Cursor { subscription: 7, partition: P1 }, "a cursor");
        batch.put(&Producer { partition: P0, producer: 99 }, "a producer");
        batch.put(&Counter(1), "5");
        batch.put(&module, "a module");
        batch.put(&ModuleBlob([3; 32]), wasm.clone());
        assert!(batch.size_bytes() > 3 << 20);
        store.commit(batch, Persist::Sync).unwrap();
    }
    let (store, recovery) = open(dir.path());
    assert!(!recovery.created && !recovery.progress_damaged && recovery.torn.is_none());
    assert_eq!(store.get(&topic).unwrap().unwrap(), "a topic");
    assert_eq!(store.get(&Subscription(7)).unwrap().unwrap(), "a subscription");
    assert_eq!(store.get(&Cursor { subscription: 7, partition: P1 }).unwrap().unwrap(), "a cursor");
    assert_eq!(store.get(&Producer { partition: P0, producer: 99 }).unwrap().unwrap(), "a producer");
    assert_eq!(store.get(&Counter(1)).unwrap().unwrap(), "5");
    assert_eq!(store.get(&module).unwrap().unwrap(), "a module");
    assert_eq!(store.get(&ModuleBlob([3; 32])).unwrap().unwrap(), wasm);
    assert_eq!(store.get(&Subscription(8)).unwrap(), None);
}

#[test]
fn later_changes_in_a_batch_win() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut batch = store.batch();
    batch.put(&Counter(1), "one");
    batch.put(&Counter(1), "two");
    batch.put(&Counter(2), "gone");
    batch.remove(&Counter(2));
    batch.remove(&Counter(3));
    batch.put(&Counter(3), "back");
    store.commit(batch, Persist::Buffer).unwrap();
    let rows: Vec<_> = store.scan::<Counter>().map(Result::unwrap).collect();
    assert_eq!(rows, [(Counter(1), "two".into()), (Counter(3), "back".into())]);
}

#[test]
fn a_scan_yields_its_kind_in_order_and_its_prefix_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut batch = store.batch();
    for name in ["b", "a.b", "a"] {
        batch.put(&Topic(TopicName::new(name).unwrap()), name);
    }
    for (subscription, partition) in [(1, P1), (2, P0), (1, P0), (u32::MAX, P0), (256, P0)] {
        batch.put(&Cursor { subscription, partition }, "");
        batch.put(&Producer { partition, producer: subscription.into() }, "");
    }
    for name in ["f@1", "f@2", "fa@1", "f-a@1"] {
        batch.put(&Module(ModuleName::new(name).unwrap()), "");
    }
    store.commit(batch, Persist::Buffer).unwrap();

    let topics: Vec<_> = store.scan::<Topic>().map(|row| row.unwrap().0.0.to_string()).collect();
    assert_eq!(topics, ["a", "a.b", "b"]);
    let cursors: Vec<_> = store.scan_prefix(&CursorsOf(1)).map(|row| row.unwrap().0.partition).collect();
    assert_eq!(cursors, [P0, P1]);
    assert_eq!(store.scan_prefix(&CursorsOf(u32::MAX)).count(), 1);
    assert_eq!(store.scan::<Cursor>().count(), 5);
    assert_eq!(store.scan_prefix(&ProducersOf(P0)).count(), 4);
    let versions: Vec<_> =
        store.scan_prefix(&VersionsOf("f".into())).map(|row| row.unwrap().0.0.to_string()).collect();
    assert_eq!(versions, ["f@1", "f@2"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn the_store_holds_what_a_map_holds(
        changes in prop::collection::vec((0..20u16, prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), any::<bool>()), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        let mut model = std::collections::BTreeMap::new();
        let mut batch = store.batch();
        for (index, (key, value, cut)) in changes.into_iter().enumerate() {
            match &value {
                Some(value) => batch.put(&Counter(key), value.clone()),
                None => batch.remove(&Counter(key)),
            }
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
            if cut {
                store.commit(std::mem::take(&mut batch), Persist::Buffer).unwrap();
                if index % 7 == 0 {
                    drop(store);
                    store = open(dir.path()).0;
                }
            }
        }
        store.commit(batch, Persist::Buffer).unwrap();
        let rows: Vec<_> = store.scan::<Counter>().map(|row| row.unwrap()).map(|(key, value)| (key.0, value.to_vec())).collect();
        prop_assert_eq!(rows, model.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_scan_goes_on_behind_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut batch = store.batch();
    let keys: [&[u8]; 7] = [b"a", b"ab", b"ab\xff", b"ac", b"b", b"\xff", b"\xff\xff"];
    for (processor, key) in [1, 2, u32::MAX].into_iter().flat_map(|it| keys.iter().map(move |key| (it, *key)))
    {
        batch.put(&StateEntry { processor, key: Bytes::from_static(key) }, "");
    }
    store.commit(batch, Persist::Buffer).unwrap();
    for processor in [1, 2, u32::MAX] {
        let scan = |prefix: &'static [u8], after: &'static [u8]| {
            let entries = StateEntriesOf { processor, prefix: Bytes::from_static(prefix) };
            let after = StateEntry { processor, key: Bytes::from_static(after) };
            let rows = store.scan_after(&entries, &after).map(|row| row.unwrap().0);
            let rows = rows.inspect(|entry| assert_eq!(entry.processor, processor));
            rows.map(|entry| entry.key.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(scan(b"", b"ab"), keys[2..]);
        assert_eq!(scan(b"a", b""), keys[..4], "from before the prefix");
        assert_eq!(scan(b"a", b"ab"), keys[2..4]);
        assert_eq!(scan(b"a", b"b"), keys[..0], "from behind it");
        assert_eq!(scan(b"\xff", b"\xff"), keys[6..]);
        assert_eq!(scan(b"\xff\xff", b"a"), keys[6..]);
        assert_eq!(scan(b"", b"\xff\xff"), keys[..0]);
    }
}

#[test]
fn a_state_is_removed_in_parts_and_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut batch = store.batch();
    for (processor, entries) in [(1, 3), (2, 25_000), (3, 3)] {
        for key in 0..entries {
            let key = u32::to_be_bytes(key).to_vec().into();
            batch.put(&StateEntry { processor, key }, "");
        }
    }
    batch.put(&RemovedState(2), "");
    store.commit(batch, Persist::Buffer).unwrap();
    assert!(store.remove_state(1).unwrap(), "nothing is to be removed of it");
    let parts = std::iter::from_fn(|| Some(store.remove_state(2).unwrap())).take_while(|done| !done).count();
    assert_eq!((parts, store.keys::<RemovedState>().count()), (2, 0));
    let of = |processor| store.scan_prefix(&StateEntriesOf { processor, prefix: Bytes::new() }).count();
    assert_eq!((of(1), of(2), of(3)), (3, 0, 3));
}

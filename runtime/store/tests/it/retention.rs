//! Low watermarks and the disk space below them: it comes back, and nothing above them goes.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use millstream_store::{Batch, Offset, Options, PartitionId, Persist, Store};
use proptest::prelude::*;

use crate::harness::{P0, P1, append, check_whole, open, publish, records};

const MIB: u64 = 1 << 20;
/// Patience with what the store's threads do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that a directory takes on disk: journals are sparse files.
fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // Files may go while they are counted.
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

/// Without the journals, of which the store keeps a bounded amount however little it holds.
fn log_bytes(dir: &Path) -> u64 {
    disk_bytes(&dir.join("db/keyspaces"))
}

/// Commits `count` batches of about 64 KiB to each of `partitions`.
fn fill(store: &Store, partitions: &[PartitionId], count: u64) {
    for _ in 0..count {
        for partition in partitions {
            publish(store, *partition, 16, 4_000, Persist::Buffer);
        }
        store.maintain().unwrap();
    }
}

/// Raises the low watermark so that the newest `keep` bytes, and a batch at most, stay.
fn retain(store: &Store, partition: PartitionId, keep: u64) -> Offset {
    let row = store.partition(partition).unwrap();
    let (mut low_watermark, mut freed) = (row.low_watermark, 0);
    for size in store.sizes(partition, row.low_watermark, row.newest.unwrap() + 1) {
        let (base_offset, bytes) = size.unwrap();
        low_watermark = base_offset;
        if row.bytes - freed - bytes < keep {
            break;
        }
        freed += bytes;
    }
    let mut batch = Batch::default();
    batch.raise_low_watermark(partition, low_watermark, freed, 0);
    store.commit(batch, Persist::Sync).unwrap();
    low_watermark
}

/// Takes back what there is, until the log takes less than `bytes`.
fn reclaim_below(store: &Store, dir: &Path, bytes: u64) {
    let since = Instant::now();
    while log_bytes(dir) >= bytes {
        store.reclaim().unwrap();
        assert!(since.elapsed() < PATIENCE, "{} bytes are left: {:?}", log_bytes(dir), store.stats());
        thread::yield_now();
    }
}

/// Checks that all from `low_watermark` on is there and nothing below it is read.
fn check_kept(store: &Store, partition: PartitionId, low_watermark: Offset) {
    let row = store.partition(partition).unwrap();
    assert_eq!(row.low_watermark, low_watermark);
    let (mut next, mut bytes) = (low_watermark, 0);
    while let Some(batch) = store.read(partition, next, u64::MAX, 1).unwrap().first() {
        assert_eq!(batch.base_offset, next, "partition {partition} has a gap");
        let view = millstream_types::BatchView::new(&batch.bytes, millstream_types::Check::Full).unwrap();
        bytes += batch.bytes.len() as u64;
        next = view.next_offset();
    }
    assert_eq!((row.next_offset, row.bytes), (next, bytes));
    let first = store.read(partition, 0, u64::MAX, 1).unwrap();
    assert_eq!(first.first().map(|batch| batch.base_offset), Some(low_watermark));
}

#[test]
fn disk_space_comes_back_without_further_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    fill(&store, &[P0], 4_096);
    let (all, log) = (disk_bytes(dir.path()), log_bytes(dir.path()));
    assert!(log > 192 * MIB, "{log}");
    let low_watermark = retain(&store, P0, MIB);
    reclaim_below(&store, dir.path(), 4 * MIB);
    let after = disk_bytes(dir.path());
    println!("{all} bytes with {log} of log; then {after} with {} of log", log_bytes(dir.path()));
    assert!(after < 80 * MIB, "beside one journal of 64 MB nothing much is left: {after}");
    check_kept(&store, P0, low_watermark);
    assert_eq!(store.reclaim().unwrap(), 0, "nothing is left to be done");
    drop(store);
    let (store, recovery) = open(dir.path());
    assert_eq!((recovery.torn, recovery.loss), (None, None));
    check_kept(&store, P0, low_watermark);
    assert!(log_bytes(dir.path()) < 4 * MIB);
}

#[test]
fn partitions_that_keep_everything_share_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    fill(&store, &[P0, P1], 1_024);
    let before = log_bytes(dir.path());
    let low_watermark = retain(&store, P0, MIB);
    reclaim_below(&store, dir.path(), 80 * MIB);
    println!("{before} bytes, then {}", log_bytes(dir.path()));
    check_kept(&store, P0, low_watermark);
    assert_eq!(check_whole(&store, P1), 16 * 1_024);
    // And again, with what was rewritten.
    fill(&store, &[P0, P1], 1_024);
    let low_watermark = retain(&store, P0, MIB);
    reclaim_below(&store, dir.path(), 150 * MIB);
    drop(store);
    let (store, _) = open(dir.path());
    check_kept(&store, P0, low_watermark);
    assert_eq!(check_whole(&store, P1), 16 * 2_048);
}

#[test]
fn small_batches_go_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    // Below the size from which on they lie in blob files.
    for base in (0..60_000).step_by(1_000) {
        let mut batch = store.batch();
        (base..base + 1_000).for_each(|base| append(&mut batch, P0, base, 1, 600));
        store.commit(batch, Persist::Buffer).unwrap();
        store.maintain().unwrap();
    }
    let low_watermark = retain(&store, P0, MIB);
    reclaim_below(&store, dir.path(), 4 * MIB);
    check_kept(&store, P0, low_watermark);
}

#[test]
fn a_little_is_not_worth_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    fill(&store, &[P0], 100);
    let low_watermark = retain(&store, P0, MIB);
    assert_eq!(store.reclaim().unwrap(), 0);
    check_kept(&store, P0, low_watermark);
    drop(store);
    // What is below the low watermark is known after a restart, too.
    let options = Options { reclaim_bytes_min: 1, ..Options::default() };
    let (store, _) = Store::open(dir.path(), &options).unwrap();
    assert!(store.reclaim().unwrap() > 5 * MIB);
    check_kept(&store, P0, low_watermark);
}

#[test]
fn the_batch_that_holds_the_low_watermark_stays() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { reclaim_bytes_min: 1, ..Options::default() };
    let (store, _) = Store::open(dir.path(), &options).unwrap();
    let size = records(0, 10, 3_000).len() as u64;
    for _ in 0..3 {
        publish(&store, P0, 10, 3_000, Persist::Buffer);
    }
    assert_eq!(store.partition(P0).unwrap().bytes, 3 * size);
    for (low_watermark, freed, left) in [(15, size, 10), (30, size, 20)] {
        let mut batch = store.batch();
        batch.raise_low_watermark(P0, low_watermark, freed, 0);
        store.commit(batch, Persist::Sync).unwrap();
        assert_eq!(store.reclaim().unwrap(), size);
        let first = || store.sizes(P0, 0, Offset::MAX).next().unwrap().unwrap();
        assert_eq!(first(), (left, size));
        // It stays when others go later.
        publish(&store, P1, 10, 3_000, Persist::Buffer);
        publish(&store, P1, 10, 3_000, Persist::Buffer);
        retain(&store, P1, 1);
        assert!(store.reclaim().unwrap() >= size);
        assert_eq!(first(), (left, size));
    }
    drop(store);
    // All is below the low watermark, and no loss.
    let (store, recovery) = open(dir.path());
    assert_eq!((recovery.torn, recovery.loss), (None, None));
    assert_eq!(store.partition(P0).unwrap().low_watermark, 30);
    publish(&store, P0, 10, 10, Persist::Sync);
    assert_eq!(store.read(P0, 0, Offset::MAX, 0).unwrap()[0].base_offset, 30);
}

/// As in a broker: one thread commits, one lets go and takes back, one reads.
#[test]
fn space_is_taken_back_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { reclaim_bytes_min: 1, memtable_bytes: 2 << 20, ..Options::default() };
    let (store, _) = Store::open(dir.path(), &options).unwrap();
    fill(&store, &[P0, P1], 1);
    let (since, reclaiming) = (Instant::now(), AtomicBool::new(true));
    let written = thread::scope(|scope| {
        scope.spawn(|| {
            let mut low_watermark = 0;
            while low_watermark < 16 * 1_024 && since.elapsed() < PATIENCE {
                low_watermark = retain(&store, P0, MIB);
                store.reclaim().unwrap();
            }
            reclaiming.store(false, Ordering::Relaxed);
            assert!(low_watermark >= 16 * 1_024, "only {low_watermark}: {:?}", store.stats());
        });
        scope.spawn(|| {
            let mut next = 0;
            while reclaiming.load(Ordering::Relaxed) && since.elapsed() < PATIENCE {
                for batch in store.read(P0, next, u64::MAX, 200_000).unwrap() {
                    assert!(batch.base_offset >= next, "a reader may be carried on, never back");
                    let view = millstream_types::BatchView::new(&batch.bytes, millstream_types::Check::Full);
                    next = view.unwrap().next_offset();
                }
            }
        });
        let mut written = 1;
        while reclaiming.load(Ordering::Relaxed) && since.elapsed() < PATIENCE {
            fill(&store, &[P0, P0, P0, P1], 1);
            written += 1;
        }
        written
    });
    let low_watermark = retain(&store, P0, MIB);
    // Some went with compactions of the store's own, some is taken back now. Of 64 MiB and more of the one and a third of that
    // of the other, twice what is kept may be there.
    let kept = store.partition(P0).unwrap().bytes + store.partition(P1).unwrap().bytes;
    reclaim_below(&store, dir.path(), 2 * kept + MIB);
    check_kept(&store, P0, low_watermark);
    assert_eq!(check_whole(&store, P1), 16 * written);
    drop(store);
    let (store, recovery) = open(dir.path());
    assert_eq!((recovery.torn, recovery.loss), (None, None));
    check_kept(&store, P0, low_watermark);
    assert_eq!(check_whole(&store, P1), 16 * written);
}

const CHILD: &str = "MILLSTREAM_STORE_RETENTION_CHILD";

/// Not a test by itself: what the killed process runs.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let dir = Path::new(&dir);
    let (store, _) = open(dir);
    fill(&store, &[P0, P1], 1_024);
    let low_watermark = retain(&store, P0, MIB);
    fs::write(dir.with_extension("acknowledged"), low_watermark.to_string()).unwrap();
    thread::spawn(move || store.reclaim());
    // Somewhere in the middle of it: the compaction has begun to write, or is done.
    let (tables, before) = (dir.join("db/keyspaces"), files(&dir.join("db/keyspaces")));
    while files(&tables) == before {
        thread::yield_now();
    }
    std::process::abort();
}

/// Names of all files below a directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn an_abort_in_the_middle_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for life in 1..=3u64 {
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", "retention::child"])
            .env(CHILD, &data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success());
        let low_watermark = fs::read_to_string(data.with_extension("acknowledged")).unwrap().parse().unwrap();
        let (store, recovery) = open(&data);
        assert_eq!((recovery.torn, recovery.loss), (None, None));
        check_kept(&store, P0, low_watermark);
        assert_eq!(check_whole(&store, P1), life * 16 * 1_024);
        reclaim_below(&store, &data, (life * 64 + 64) * MIB);
        check_kept(&store, P0, low_watermark);
        assert_eq!(check_whole(&store, P1), life * 16 * 1_024);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]
    /// Appends, low watermarks, reclaims and restarts in any order: what is at or above a low watermark is there.
    #[test]
    fn nothing_above_a_low_watermark_goes(
        acts in prop::collection::vec((0..6u8, 0..3u32, 1..40u64, prop::sample::select(vec![10usize, 400, 3_000])), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { reclaim_bytes_min: 1, memtable_bytes: 200_000, ..Options::default() };
        let (mut store, _) = Store::open(dir.path(), &options).unwrap();
        let mut low_watermarks = [0; 3];
        for (act, partition, count, bytes) in acts {
            let id = PartitionId(partition);
            match act {
                0..=2 => publish(&store, id, count, bytes, Persist::Buffer),
                3 if store.partition(id).is_some() => {
                    low_watermarks[partition as usize] = retain(&store, id, count * 1_000);
                }
                4 => {
                    store.reclaim().unwrap();
                }
                5 => {
                    drop(store);
                    store = Store::open(dir.path(), &options).unwrap().0;
                }
                _ => {}
            }
            store.maintain().unwrap();
            for (partition, low_watermark) in (0..).map(PartitionId).zip(low_watermarks) {
                if store.partition(partition).is_some() {
                    check_kept(&store, partition, low_watermark);
                }
            }
        }
    }
}

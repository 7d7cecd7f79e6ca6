//! The disk takes no more: the write is answered "unknown", later ones are refused, reads go on, and what was
//! acknowledged is there after the next open.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use millstream_store::{Options, Persist, Store, WriteError};

use crate::harness::{P0, append, check_whole, open, publish};

const CHILD: &str = "MILLSTREAM_STORE_FULL_CHILD";

/// Not a test by itself: what the process with the bounded disk runs.
#[test]
fn child() {
    if let Ok(dir) = env::var(CHILD) {
        write_until_full(Path::new(&dir));
    }
}

fn write_until_full(dir: &Path) {
    // One journal, without a flush: so that the journal is what hits the bound.
    let options = Options { memtable_bytes: 1 << 30, memtable_bytes_max: 1 << 30, ..Options::default() };
    let (store, _) = Store::open(dir, &options).unwrap();
    let error = loop {
        let base = store.partition(P0).map_or(0, |row| row.next_offset);
        let mut batch = store.batch();
        append(&mut batch, P0, base, 1, 900_000);
        match store.commit(batch, Persist::Sync) {
            Ok(()) => fs::write(dir.with_extension("acknowledged"), (base + 1).to_string()).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WriteError::Unknown { .. }), "{error}");
    assert!(error.to_string().contains("unknown") && error.to_string().contains("File too large"), "{error}");
    let acknowledged = check_whole(&store, P0);
    assert!(acknowledged > 10);
    let again = store.commit(store.batch(), Persist::Buffer).unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    assert!(store.sync().is_err() && store.maintain().is_err());
    assert_eq!(store.read(P0, 0, 1, 1).unwrap().len(), 1);
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // A file may grow to 80 MiB, and the signal that says so is ignored: then writes fail as on a full disk.
    let status = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 81920; exec \"$0\" --exact disk_full::child"])
        .arg(env::current_exe().unwrap())
        .env(CHILD, &data)
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .status()
        .unwrap();
    assert!(status.success());
    let acknowledged: u64 = fs::read_to_string(data.with_extension("acknowledged")).unwrap().parse().unwrap();
    let (store, recovery) = open(&data);
    assert_eq!(recovery.loss, None);
    // The one whose outcome was unknown may be there.
    assert!((acknowledged..=acknowledged + 1).contains(&check_whole(&store, P0)));
    publish(&store, P0, 1, 10, Persist::Sync);
}

//! The disk takes no more: the write is answered "unknown", later ones are refused, reads go on, and what was
//! acknowledged is there after the next open.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use millstream_store::{OpenError, Options, Persist, Store, WriteError};

use crate::{
    harness::{P0, append, check_whole, open, publish},
    workload::{self, Load, hush, run},
};

const CHILD: &str = "MILLSTREAM_STORE_FULL_CHILD";
const SMALL_DISK: &str = "MILLSTREAM_STORE_SMALL_DISK";

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

/// Not a test by itself: what the process runs that has a small disk to itself.
#[test]
fn child_on_a_small_disk() {
    if let Ok(disk) = env::var(SMALL_DISK) {
        fill_free_and_open(Path::new(&disk), Load::Small);
        fill_free_and_open(Path::new(&disk), Load::Large);
    }
}

fn fill_free_and_open(disk: &Path, load: Load) {
    // A place at a time: what is full first is the journal, a table, a blob or the side file.
    let ballasts: &[u64] = if load == Load::Small { &[127, 126, 124] } else { &[100, 40] };
    for ballast_mib in ballasts {
        let (data, ballast) = (disk.join("data"), disk.join("ballast"));
        run(load, workload::open(load, &data), 3, &mut hush).unwrap();
        take(&ballast, *ballast_mib);
        let mut acknowledged = 3;
        for attempt in 0..3 {
            let store = match Store::open(&data, &load.options()) {
                Ok((store, recovery)) => {
                    assert_eq!(recovery.loss, None);
                    store
                }
                // On a full disk it may not open, but must not speak of loss.
                Err(error) => {
                    assert!(!matches!(error, OpenError::DataLoss(_)) && attempt > 0, "{error}");
                    continue;
                }
            };
            let found = load.check(&store);
            assert!(found >= acknowledged, "{acknowledged} acknowledged, {found} found");
            let (failed, synced) = load.until_failure(store);
            assert!(
                failed.to_string().contains("No space left") || failed.to_string().contains("earlier"),
                "{failed}"
            );
            acknowledged = found.max(synced);
        }
        fs::remove_file(&ballast).unwrap();
        let store = workload::open(load, &data);
        let found = load.check(&store);
        assert!(found >= acknowledged, "{acknowledged} acknowledged, {found} found");
        eprintln!("{load:?}, {ballast_mib} MiB taken: {acknowledged} acknowledged, {found} found");
        run(load, store, found + 5, &mut hush).unwrap();
        assert_eq!(load.check(&workload::open(load, &data)), found + 5);
        fs::remove_dir_all(&data).unwrap();
    }
}

/// Writes a file of that size, so that there is less space for others.
fn take(path: &Path, mib: u64) {
    let mut file = File::create(path).unwrap();
    for _ in 0..mib {
        file.write_all(&[1; 1 << 20]).unwrap();
    }
}

#[test]
fn a_disk_that_was_full_and_has_space_again_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // A file system of its own, small, in a name space of its own: nobody else sees it, and it needs no rights.
    let in_namespace = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["-Urm", "sh", "-c", &format!("mount -t tmpfs -o size=128m tmpfs \"$0\" && {command}")]);
        unshare.arg(dir.path()).arg(env::current_exe().unwrap()).env(SMALL_DISK, dir.path());
        unshare
    };
    match in_namespace("true").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprintln!("SKIPPED, nothing was tested: {}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        Err(error) => {
            eprintln!("SKIPPED, nothing was tested: unshare: {error}");
            return;
        }
    }
    let status =
        in_namespace("exec \"$1\" --exact disk_full::child_on_a_small_disk --nocapture").status().unwrap();
    assert!(status.success());
}

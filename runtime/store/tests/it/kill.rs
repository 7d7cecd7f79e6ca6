//! The process dies without a word: what it was told is committed is there.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use millstream_store::{Persist, Store};

use crate::harness::{P0, P1, check_whole, open, publish};

const CHILD: &str = "MILLSTREAM_STORE_KILL_CHILD";

/// Not a test by itself: what the killed process runs.
#[test]
fn child() {
    if let Ok(dir) = env::var(CHILD) {
        run_and_die(Path::new(&dir));
    }
}

fn run_and_die(dir: &Path) {
    let (store, _) = open(dir);
    let ack = |name: &str, store: &Store| {
        let ends = [P0, P1].map(|partition| store.partition(partition).map_or(0, |row| row.next_offset));
        fs::write(dir.with_extension(name), format!("{} {}", ends[0], ends[1])).unwrap();
    };
    for round in 0..50 {
        publish(&store, P0, 5, 300, Persist::Sync);
        publish(&store, P1, 3, 70_000, Persist::Buffer);
        if round % 10 == 0 {
            store.maintain().unwrap();
        }
    }
    ack("acknowledged", &store);
    std::process::abort();
}

#[test]
fn an_abort_loses_nothing_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for life in 1..=3u64 {
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kill::child"])
            .env(CHILD, &data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success());
        let acknowledged = fs::read_to_string(data.with_extension("acknowledged")).unwrap();
        assert_eq!(acknowledged, format!("{} {}", life * 250, life * 150));
        let (store, recovery) = open(&data);
        assert_eq!((recovery.torn, recovery.loss), (None, None));
        assert_eq!([check_whole(&store, P0), check_whole(&store, P1)], [life * 250, life * 150]);
    }
}

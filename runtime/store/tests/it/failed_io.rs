//! A write or an fsync fails, once, anywhere: the outcome is called unknown, nothing is acknowledged any more, and all
//! that was acknowledged before is there at the next open. The failures come from `strace`, at the kernel's border.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use millstream_store::{OpenError, Store};

use crate::{
    harness::{Random, rounds_times},
    workload::{Load, Told, hush, open, run, say},
};

const CHILD: &str = "MILLSTREAM_STORE_FAILING_CHILD";
const COMMITS: u64 = 60;

/// Not a test by itself: what runs while its I/O fails.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let failure = match Store::open(Path::new(&dir), &Load::Small.options()) {
        Ok((store, _)) => run(Load::Small, store, COMMITS, &mut say).err().map(|error| error.to_string()),
        // A store that does not open has acknowledged nothing.
        Err(error) => {
            assert!(!matches!(error, OpenError::DataLoss(_)), "{error}");
            Some(error.to_string())
        }
    };
    if let Some(failure) = failure {
        println!("@failed");
        eprintln!("{failure}");
    }
}

/// Why `strace` cannot be used here, if it cannot.
fn unusable() -> Option<String> {
    let output = match Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output() {
        Ok(output) => output,
        Err(error) => return Some(format!("strace: {error}")),
    };
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs the child while the `nth` call of each of its threads to one of `calls`, on one of `paths` if there are any,
/// fails; then opens the store and checks it. Returns whether the child noticed.
fn fail(calls: &str, error: &str, nth: u64, paths: &[PathBuf], data: &Path, before: Told) -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-o"]).arg(data.with_extension("trace"));
    strace.arg("-e").arg(format!("trace={calls}"));
    strace.arg("-e").arg(format!("inject={calls}:error={error}:when={nth}"));
    for path in paths {
        strace.arg("-P").arg(path);
    }
    let output = strace
        .arg(env::current_exe().unwrap())
        .args(["--exact", "failed_io::child", "--nocapture"])
        .env(CHILD, data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let what = format!("{calls} number {nth}: {error}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {:?} {stderr}", output.status.signal());
    let mut told = before;
    let mut failed = false;
    for line in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.strip_prefix('@')) {
        assert!(!failed, "{what}: acknowledged after a failure: {line}");
        if line == "failed" { failed = true } else { told.hear(line) }
    }
    let injected = fs::read_to_string(data.with_extension("trace")).unwrap().contains("(INJECTED)");
    eprintln!(
        "{what}: {}, {told:?}",
        if failed {
            "noticed"
        } else if injected {
            "survived"
        } else {
            "never came"
        }
    );
    told.check(Load::Small.check(&open(Load::Small, data)));
    // And goes on.
    run(Load::Small, open(Load::Small, data), told.begun + 10, &mut hush).unwrap();
    failed
}

fn sweep(calls: &[&str], error: &str, up_to: u64, paths: &dyn Fn(&Path) -> Vec<PathBuf>) {
    if let Some(why) = unusable() {
        eprintln!("SKIPPED, nothing was tested: {why}");
        return;
    }
    let mut random = Random::from_environment();
    let seed = random.seed();
    eprintln!("MILLSTREAM_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let (mut noticed, mut rounds) = (0, 0);
    for calls in calls.iter().cycle().take(calls.len() * rounds_times(3) as usize) {
        // New stores and such that have seen something: opening those is another matter.
        for begun in [0, 25] {
            let data = dir.path().join(rounds.to_string());
            if begun > 0 {
                run(Load::Small, open(Load::Small, &data), begun, &mut hush).unwrap();
            }
            let nth = 1 + random.below(up_to);
            let before = Told { synced: begun, begun };
            noticed += u64::from(fail(calls, error, nth, &paths(&data), &data, before));
            rounds += 1;
        }
    }
    assert!(
        noticed * 4 >= rounds,
        "{noticed} of {rounds} failures were noticed: do they still hit the store?"
    );
}

#[test]
fn a_failed_sync_is_final() {
    sweep(&["fsync", "fdatasync"], "EIO", 30, &|_| Vec::new());
}

#[test]
fn a_failed_write_is_final() {
    // By path, since the child writes to its standard output, too.
    let paths = |data: &Path| {
        let mut paths = vec![data.join("progress"), data.join("progress.tmp"), data.join("db/0.jnl")];
        for keyspace in 1..=3 {
            for number in 0..8 {
                for kind in ["tables", "blobs"] {
                    paths.push(data.join(format!("db/keyspaces/{keyspace}/{kind}/{number}")));
                }
                paths.push(data.join(format!("db/keyspaces/{keyspace}/v{number}")));
            }
        }
        paths
    };
    sweep(&["write,pwrite64,writev"], "EIO", 60, &paths);
    sweep(&["write,pwrite64,writev"], "ENOSPC", 60, &paths);
}

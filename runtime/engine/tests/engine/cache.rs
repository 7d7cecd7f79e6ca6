//! Compiled code on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use millstream_engine::{Delivery, Engine, Limits, LogSink, Pipeline, Settings};
use millstream_test_guests::guest;

use crate::support::{batch, patient, setup};

/// Loads the guest with a new engine on `dir`, runs it, and tells the file in the cache and when it was written.
fn load(dir: &Path) -> (PathBuf, SystemTime) {
    let settings = Settings { cache_dir: Some(dir.to_owned()), instances_max: 10, ..Settings::default() };
    let engine = Engine::new(&settings).expect("an engine");
    let module = engine.load(&guest("every_second"), &Limits::default()).expect("a module");
    let bound = module.bind(&setup("{}"), &Limits::default(), LogSink::none()).expect("bound");
    let outcome = patient(Pipeline::new(vec![bound])).run(&batch(&["a", "b"]), 1..2).expect("a batch");
    assert_eq!(outcome.delivery, Delivery::Nothing);
    cached(dir)
}

/// The file in the cache, and when it was written.
fn cached(dir: &Path) -> (PathBuf, SystemTime) {
    let mut files = fs::read_dir(dir).expect("the cache").map(|entry| entry.expect("an entry").path());
    let file = files.find(|path| path.extension().is_some_and(|it| it == "cwasm")).expect("a file");
    let written = fs::metadata(&file).and_then(|it| it.modified()).expect("a file");
    (file, written)
}

#[test]
fn compiled_once_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/cache");
    let (file, written) = load(&dir);
    assert_eq!(load(&dir), (file.clone(), written));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&file), mode(&dir.join("key"))), (0o700, 0o600, 0o600));
}

#[test]
fn changed_files_are_compiled_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (file, _) = load(dir.path());
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let mut other_mac = good.clone();
    other_mac[0] ^= 1;
    for bad in [flipped, other_mac, good[..good.len() / 2].to_vec(), vec![], b"hello".to_vec()] {
        fs::write(&file, &bad).unwrap();
        load(dir.path());
        assert_eq!(fs::read(&file).unwrap(), good);
    }
    // Another key: nothing there can be trusted.
    fs::write(dir.path().join("key"), [7; 32]).unwrap();
    load(dir.path());
    assert_ne!(fs::read(&file).unwrap()[..32], good[..32]);
}

#[test]
fn those_that_begin_at_once_have_one_key() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(4);
        let loaded = || {
            start.wait();
            load(dir.path())
        };
        std::thread::scope(|scope| (0..4).map(|_| scope.spawn(loaded)).for_each(drop));
        // Good for whoever comes later.
        let written = cached(dir.path());
        assert_eq!(load(dir.path()), written);
        let others = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(others, 3, "the module, the key, the lock");
    }
}

#[test]
fn leftovers_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join(format!("{}-0123456789abcdef.cwasm", "a".repeat(64)));
    fs::write(&other, "of another engine").unwrap();
    fs::write(dir.path().join("1-1.tmp"), "half").unwrap();
    load(dir.path());
    assert!(!other.exists() && !dir.path().join("1-1.tmp").exists());
}

#[test]
fn modules_of_one_digest_are_shared() {
    let engine = Engine::new(&Settings { instances_max: 10, ..Settings::default() }).unwrap();
    let wasm = guest("keep_all");
    let first = engine.load(&wasm, &Limits::default()).unwrap();
    let start = std::time::Instant::now();
    let second = engine.load(&wasm, &Limits::default()).unwrap();
    assert!(start.elapsed() < std::time::Duration::from_millis(50));
    assert_eq!(first.digest(), second.digest());
}

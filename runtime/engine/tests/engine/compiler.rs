//! Compiling in another process, which may fail in any way. That the real one compiles, the tests of the binary show.

use std::path::Path;

use millstream_engine::{Compiler, Engine, Limits, LoadError, Settings};
use millstream_test_guests::guest;

/// What comes of a module when `/bin/sh` runs `script` in the compiler's place.
fn load(script: &str, limits: &Limits) -> LoadError {
    let compiler = Compiler { program: "/bin/sh".into(), args: ["-c", script].map(str::to_owned).to_vec() };
    refusal(compiler, limits)
}

fn refusal(compiler: Compiler, limits: &Limits) -> LoadError {
    let dir = tempfile::tempdir().expect("a folder");
    let cache_dir = Some(dir.path().to_owned());
    let settings = Settings { compiler: Some(compiler), cache_dir, instances_max: 1, ..Settings::default() };
    let engine = Engine::new(&settings).expect("an engine");
    let refused = engine.load(&guest("keep_all"), limits).expect_err("refused");
    assert!(nothing_cached(dir.path()), "{refused}");
    refused
}

fn nothing_cached(dir: &Path) -> bool {
    let mut files = std::fs::read_dir(dir).expect("the cache").map(|entry| entry.expect("an entry").path());
    files.all(|path| path.extension().is_none())
}

#[test]
fn its_words_are_told() {
    let error = load("echo 'a bad opcode' >&2; exit 1", &Limits::default());
    assert_eq!(error, LoadError::Invalid("a bad opcode".into()));
}

#[test]
fn one_that_dies_takes_nobody_along() {
    let error = load("echo 'out of memory' >&2; kill -ABRT $$", &Limits::default());
    let LoadError::Compiler { cause, addresses_mib } = &error else { panic!("{error}") };
    assert!(cause.contains("signal: 6") && cause.ends_with("out of memory"), "{cause}");
    assert_eq!(*addresses_mib, 2_048);
    let error = load("kill -SEGV $$", &Limits::default()).to_string();
    assert!(error.contains("signal: 11") && error.contains("make its largest functions"), "{error}");
}

#[test]
fn one_that_is_stuck_is_ended() {
    let limits = Limits { compile_ms: 50, ..Limits::default() };
    for script in ["exec sleep 100000", "cat >/dev/null; exec sleep 100000"] {
        let error = load(script, &limits);
        assert_eq!(error, LoadError::CompileTime { limit_ms: 50 });
        assert!(error.to_string().contains("modules.compile_ms"), "{error}");
    }
    // The system's own limit on CPU time.
    assert_eq!(load("kill -XCPU $$", &limits), LoadError::CompileTime { limit_ms: 50 });
}

#[test]
fn what_it_makes_is_bounded_and_must_be_what_it_should() {
    let error = load("exec cat /dev/zero", &Limits::default()).to_string();
    assert!(error.contains("more than") && error.contains("bytes"), "{error}");
    for script in ["exec cat", "echo nonsense", "true"] {
        let error = load(script, &Limits::default());
        assert!(matches!(error, LoadError::Invalid(_)), "{script}: {error}");
    }
}

#[test]
fn one_that_is_not_there() {
    let missing = Compiler { program: "/nowhere/millstream".into(), args: Vec::new() };
    let error = refusal(missing, &Limits::default()).to_string();
    assert!(error.contains("/nowhere/millstream") && error.contains("try again"), "{error}");
}

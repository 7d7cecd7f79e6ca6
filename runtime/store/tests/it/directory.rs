//! What is in the way of opening a directory, and what the error says of it.

use std::{fs, path::Path};

use millstream_store::{OpenError, Options, Persist, Store};

use crate::harness::{P0, check_whole, open, publish};

fn refusal(dir: &Path) -> OpenError {
    match Store::open(dir, &Options::default()) {
        Ok(_) => panic!("{} opened", dir.display()),
        Err(error) => error,
    }
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = refusal(dir.path());
    assert!(matches!(&error, OpenError::Locked { dir: named } if named == dir.path()), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(store);
    open(dir.path());
}

#[test]
fn data_of_a_newer_version_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("format"), "millstream store format 2\n").unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::NewerVersion { found: 2, supported: 1, .. }), "{error}");
    assert!(error.to_string().contains("version 2") && error.to_string().contains("newer millstream"));
    fs::write(dir.path().join("format"), "nonsense").unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Incomplete { .. }));
    fs::remove_file(dir.path().join("format")).unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Incomplete { .. }));
}

#[test]
fn a_file_is_not_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    assert!(matches!(refusal(&path), OpenError::NotADirectory { .. }));
    assert!(matches!(refusal(&path.join("below")), OpenError::NotADirectory { .. }));
}

#[test]
fn a_directory_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere: then there is nothing to see.
    if fs::write(dir.path().join("probe"), "").is_err() {
        let error = refusal(&dir.path().join("data"));
        assert!(matches!(error, OpenError::Permission { action: "create", .. }), "{error}");
    }
}

#[test]
fn an_interrupted_creation_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    drop(open(&whole));
    // As if the power had gone after any of the steps of a creation.
    for done in [&[][..], &["db"], &["db", "format"], &["db", "format", "progress"]] {
        let cut = dir.path().join(format!("cut-{}", done.len()));
        fs::create_dir(&cut).unwrap();
        fs::write(cut.join("creating"), "").unwrap();
        for name in done {
            if *name == "db" {
                fs::create_dir_all(cut.join("db/keyspaces")).unwrap();
                fs::write(cut.join("db/0.jnl"), "half").unwrap();
            } else {
                fs::copy(whole.join(name), cut.join(name)).unwrap();
            }
        }
        let (store, recovery) = open(&cut);
        assert!(recovery.created);
        publish(&store, P0, 3, 10, Persist::Sync);
        drop(store);
        assert_eq!(check_whole(&open(&cut).0, P0), 3);
    }
    // One that was in use is never thrown away.
    let used = dir.path().join("cut-1");
    fs::write(used.join("creating"), "").unwrap();
    assert!(matches!(refusal(&used), OpenError::Incomplete { what, .. } if what.contains("`creating`")));
    fs::remove_file(used.join("creating")).unwrap();
    assert_eq!(check_whole(&open(&used).0, P0), 3);
}

#[test]
fn a_store_whose_database_is_gone_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    publish(&store, P0, 3, 10, Persist::Sync);
    drop(store);
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(&error, OpenError::Incomplete { what, .. } if what.contains("`db`")), "{error}");
}

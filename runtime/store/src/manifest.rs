//! Whether the files that say what a keyspace consists of are whole, asked before fjall opens it. fjall does not ask: it
//! takes a keyspace without `current` for one that was never finished, deletes what else there is of it and makes it anew,
//! makes a lost directory of blobs anew, and panics at some damaged versions.
//!
//! `current`, as lsm-tree 3's `version/persist.rs` writes it, little-endian:
//!
//! | bytes | field |
//! |-------|-------|
//! | 8     | number N of the version; the file `vN` lists the tables and blobs |
//! | 16    | XXH3-128 of `vN` |
//! | 1     | 0, the kind of checksum |

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use twox_hash::XxHash3_128;

use crate::{
    error::OpenError,
    layout::{self, Layout, io_error},
};

/// fjall's own keyspace, and ours in the order in which `database.rs` creates them; and whether values are kept apart.
const KEYSPACES: [(&str, bool); 4] = [("0", false), ("1", true), ("2", false), ("3", true)];

/// Refuses a store that lacks a keyspace, or whose keyspaces do not say what they consist of.
pub(crate) fn check(layout: &Layout) -> Result<(), OpenError> {
    for (keyspace, separated) in KEYSPACES {
        let keyspace = path(&layout.db, keyspace);
        let current = keyspace.join("current");
        let bytes = read(layout, &current)?;
        let Some((version, checksum)) = decode(&bytes) else {
            return Err(incomplete(layout, &current, "is damaged"));
        };
        let version = keyspace.join(format!("v{version}"));
        if XxHash3_128::oneshot(&read(layout, &version)?) != checksum {
            return Err(incomplete(layout, &version, "does not match its checksum"));
        }
        let blobs = keyspace.join("blobs");
        if separated && !blobs.is_dir() {
            return Err(incomplete(layout, &blobs, "is missing"));
        }
    }
    Ok(())
}

/// Makes the names of new keyspaces durable. fjall syncs what is in each keyspace's directory, and the directory of the
/// keyspaces before it has any: a power loss could take the keyspaces and leave the journals, and then fjall drops what
/// belongs to no keyspace.
pub(crate) fn sync_names(db: &Path) -> io::Result<()> {
    layout::sync_dir(&db.join("keyspaces"))?;
    KEYSPACES.iter().try_for_each(|(keyspace, _)| layout::sync_dir(&path(db, keyspace)))
}

fn path(db: &Path, keyspace: &str) -> PathBuf {
    db.join("keyspaces").join(keyspace)
}

fn read(layout: &Layout, path: &Path) -> Result<Vec<u8>, OpenError> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => incomplete(layout, path, "is missing"),
        _ => io_error("read", path, error),
    })
}

fn incomplete(layout: &Layout, path: &Path, what: &str) -> OpenError {
    let path = path.strip_prefix(&layout.dir).unwrap_or(path);
    layout.incomplete(format!("`{}` {what}", path.display()))
}

fn decode(bytes: &[u8]) -> Option<(u64, u128)> {
    let (version, rest) = bytes.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    (rest == [0]).then(|| (u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
}

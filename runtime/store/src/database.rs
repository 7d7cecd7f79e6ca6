//! The fjall database: its settings, its keyspaces, and the rows that recovery looks at.

use std::{
    collections::HashMap,
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use fjall::{
    CompressionType, Database, KeyspaceCreateOptions, KvSeparationOptions, config::CompressionPolicy,
};
use millstream_types::PartitionId;

use crate::{
    error::ReadError,
    keys::{self, COMMIT_KEY, CommitRow, Encoding as _, LogKey, PartitionKey, PartitionRow},
    layout,
    options::{Options, WORKERS_MIN},
    read::{StoredBatch, key},
    store::Keyspaces,
};

/// Values from this size on live in blob files, which compaction does not rewrite.
const SEPARATION_BYTES: u32 = 1_024;

/// Opens the database in `path`, creating what is not there.
pub(crate) fn open(path: &Path, options: &Options) -> fjall::Result<(Database, Keyspaces)> {
    let db = Database::builder(path)
        .cache_size(options.cache_bytes)
        .worker_threads(options.workers.max(WORKERS_MIN))
        .manual_journal_persist(true)
        .journal_compression(CompressionType::None)
        // Bounded by `flush.rs`: fjall's way goes through the queue that can block.
        .max_journaling_size(u64::MAX)
        .open()?;
    let rows = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(u64::MAX)
            .data_block_compression_policy(CompressionPolicy::disabled())
    };
    let separated = || {
        rows().with_kv_separation(Some(
            KvSeparationOptions::default()
                .separation_threshold(SEPARATION_BYTES)
                .compression(CompressionType::None),
        ))
    };
    let keyspaces = Keyspaces {
        log: db.keyspace("log", separated)?,
        state: db.keyspace("state", rows)?,
        modules: db.keyspace("modules", separated)?,
    };
    Ok((db, keyspaces))
}

/// As [`open`], for files that may be damaged: lsm-tree asserts some of what it reads of them.
pub(crate) fn open_damaged(path: &Path, options: &Options) -> fjall::Result<(Database, Keyspaces)> {
    // Nothing of what was half opened is used afterwards.
    panic::catch_unwind(AssertUnwindSafe(|| open(path, options))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic");
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("its files are damaged ({text})")).into())
    })
}

/// What must be there of the keyspaces of a store and is not. fjall takes a keyspace without its `current` for one that
/// was never finished, deletes what else there is of it and makes it anew, and makes anew a lost directory of blobs, all
/// without a word: so this is asked before it opens.
pub(crate) fn missing(path: &Path) -> io::Result<Option<PathBuf>> {
    for keyspace in keyspace_dirs(path) {
        for name in ["current", "blobs"] {
            let path = keyspace.join(name);
            let separated = name != "blobs" || SEPARATED.iter().any(|id| keyspace.ends_with(id));
            if separated && !path.try_exists()? {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Makes the names of the keyspaces durable. fjall syncs what is in each keyspace's directory, and the directory of the
/// keyspaces before it has any: a power loss could take the keyspaces and leave the journals, and then fjall drops what
/// belongs to no keyspace.
pub(crate) fn sync_names(path: &Path) -> io::Result<()> {
    layout::sync_dir(&path.join("keyspaces"))?;
    keyspace_dirs(path).try_for_each(|keyspace| layout::sync_dir(&keyspace))
}

/// fjall's own keyspace, and ours in the order in which `open` creates them.
fn keyspace_dirs(path: &Path) -> impl Iterator<Item = PathBuf> {
    ["0", "1", "2", "3"].into_iter().map(|id| path.join("keyspaces").join(id))
}

/// Which of them keep values apart.
const SEPARATED: [&str; 2] = ["1", "3"];

pub(crate) fn commit_row(keyspaces: &Keyspaces) -> Result<Option<CommitRow>, ReadError> {
    let Some(row) = keyspaces.state.get(COMMIT_KEY)? else { return Ok(None) };
    CommitRow::decode(&row).map(Some).ok_or_else(|| ReadError::damaged("commit row", &COMMIT_KEY))
}

pub(crate) fn partition_rows(keyspaces: &Keyspaces) -> Result<HashMap<PartitionId, PartitionRow>, ReadError> {
    let mut rows = HashMap::new();
    for guard in keyspaces.state.prefix([PartitionKey::TAG]) {
        let (key, value) = guard.into_inner()?;
        let partition: PartitionKey =
            keys::decode(&key).ok_or_else(|| ReadError::damaged("partition key", &key))?;
        let row = PartitionRow::decode(&value).ok_or_else(|| ReadError::damaged("partition row", &key))?;
        rows.insert(partition.0, row);
    }
    Ok(rows)
}

/// Key of the newest batch of a partition.
pub(crate) fn newest_key(keyspaces: &Keyspaces, partition: PartitionId) -> Result<Option<LogKey>, ReadError> {
    let Some(guard) = keyspaces.log.range(key(partition, 0)..=key(partition, u64::MAX)).next_back() else {
        return Ok(None);
    };
    let key = guard.key()?;
    LogKey::decode(&key).map(Some).ok_or_else(|| ReadError::damaged("log key", &key))
}

/// The batch under a key.
pub(crate) fn batch(keyspaces: &Keyspaces, at: LogKey) -> Result<Option<StoredBatch>, ReadError> {
    let value = keyspaces.log.get(at.encode())?;
    Ok(value.map(|value| StoredBatch { base_offset: at.base_offset, bytes: value.into() }))
}

/// Partitions that have batches in the log.
pub(crate) fn logged_partitions(keyspaces: &Keyspaces) -> Result<Vec<PartitionId>, ReadError> {
    let mut partitions = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let Some(guard) = keyspaces.log.range(key(PartitionId(start), 0)..).next() else { break };
        let key = guard.key()?;
        let found = LogKey::decode(&key).ok_or_else(|| ReadError::damaged("log key", &key))?;
        partitions.push(found.partition);
        from = found.partition.0.checked_add(1);
    }
    Ok(partitions)
}

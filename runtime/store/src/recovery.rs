//! Opening a store.

use std::{collections::HashMap, fmt, fs, path::Path};

use fjall::{CompressionType, Database, KeyspaceCreateOptions, KvSeparationOptions, config::CompressionPolicy};
use millstream_types::{Offset, PartitionId};

use crate::{
    error::{OpenError, ReadError},
    keys::{self, COMMIT_KEY, CommitRow, Encoding as _, PartitionKey, PartitionRow},
    layout::{Contents, Layout, io_error},
    options::{Options, WORKERS_MIN},
    progress::{Progress, Record},
    store::{Keyspaces, Position, Store},
};

/// What happened when a store was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the store is new.
    pub created: bool,
    /// Newest commit that is there.
    pub commits: u64,
    /// What was acknowledged and is gone; not empty only if that was accepted.
    pub missing: Vec<MissingRange>,
}

/// Offsets of a partition that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingRange {
    /// The partition.
    pub partition: PartitionId,
    /// First offset that is gone.
    pub from: Offset,
    /// Offset after the last one that is gone.
    pub to: Offset,
}

impl fmt::Display for MissingRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} offsets {}..{}", self.partition, self.from, self.to)
    }
}

pub(crate) fn open(dir: &Path, options: &Options) -> Result<(Store, Recovery), OpenError> {
    let layout = Layout::lock(dir)?;
    let created = layout.contents()? == Contents::Nothing;
    if created {
        create(&layout, options)?;
    }
    let (db, keyspaces) = open_database(&layout.db, options).map_err(|error| refused(&layout, error))?;
    let commit = commit_row(&keyspaces).map_err(|source| OpenError::Read { dir: dir.to_owned(), source })?;
    let partitions = partition_rows(&keyspaces).map_err(|source| OpenError::Read { dir: dir.to_owned(), source })?;
    let sequence = commit.map_or(0, |row| row.sequence);
    let progress = Progress::append_to(&layout.progress).map_err(|error| io_error("open", &layout.progress, error))?;
    let recovery = Recovery { created, commits: sequence, missing: Vec::new() };
    let position = Position { sequence, previous: sequence };
    let store = Store::assemble(layout, db, keyspaces, partitions, options, position, 0, progress);
    Ok((store, recovery))
}

/// Builds an empty database aside and moves it into place, so that an interrupted creation leaves nothing that looks
/// like a store.
fn create(layout: &Layout, options: &Options) -> Result<(), OpenError> {
    match fs::remove_dir_all(&layout.db_new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io_error("remove", &layout.db_new, error));
        }
        _ => {}
    }
    drop(open_database(&layout.db_new, options).map_err(|error| refused(layout, error))?);
    layout.write_format()?;
    let nothing = Record { sequence: 0, advances: Default::default() };
    Progress::create(&layout.progress, &nothing).map_err(|error| io_error("write", &layout.progress, error))?;
    fs::rename(&layout.db_new, &layout.db).map_err(|error| io_error("create", &layout.db, error))?;
    crate::layout::sync_parent(&layout.db).map_err(|error| io_error("sync", &layout.dir, error))
}

fn open_database(path: &Path, options: &Options) -> fjall::Result<(Database, Keyspaces)> {
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
            KvSeparationOptions::default().separation_threshold(1_024).compression(CompressionType::None),
        ))
    };
    let keyspaces = Keyspaces {
        log: db.keyspace("log", separated)?,
        state: db.keyspace("state", rows)?,
        modules: db.keyspace("modules", separated)?,
    };
    Ok((db, keyspaces))
}

fn commit_row(keyspaces: &Keyspaces) -> Result<Option<CommitRow>, ReadError> {
    let Some(row) = keyspaces.state.get(COMMIT_KEY)? else { return Ok(None) };
    CommitRow::decode(&row).map(Some).ok_or_else(|| ReadError::damaged("commit row", &COMMIT_KEY))
}

fn partition_rows(keyspaces: &Keyspaces) -> Result<HashMap<PartitionId, PartitionRow>, ReadError> {
    let mut rows = HashMap::new();
    for guard in keyspaces.state.prefix([PartitionKey::TAG]) {
        let (key, value) = guard.into_inner()?;
        let partition: PartitionKey = keys::decode(&key).ok_or_else(|| ReadError::damaged("partition key", &key))?;
        let row = PartitionRow::decode(&value).ok_or_else(|| ReadError::damaged("partition row", &key))?;
        rows.insert(partition.0, row);
    }
    Ok(rows)
}

fn refused(layout: &Layout, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::Locked { dir: layout.dir.clone() },
        fjall::Error::Io(source) => io_error("open", &layout.db, source),
        error => OpenError::Database { dir: layout.dir.clone(), source: error.into() },
    }
}

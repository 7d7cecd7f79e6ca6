//! The fjall database: its settings, its keyspaces, and the rows that recovery looks at.

use std::{collections::HashMap, path::Path, sync::Arc};

use fjall::{
    CompressionType, Database, KeyspaceCreateOptions, KvSeparationOptions, compaction::filter::Factory,
    config::CompressionPolicy,
};
use millstream_types::{BatchView, Check, Offset, PartitionId};

use crate::{
    error::ReadError,
    keys::{self, COMMIT_KEY, CommitRow, Encoding as _, LogKey, PartitionKey, PartitionRow},
    options::{Options, WORKERS_MIN},
    read::{StoredBatch, key},
    reclaim::Floors,
    store::Keyspaces,
};

const LOG: &str = "log";
/// Values from this size on live in blob files, which compaction does not rewrite.
const SEPARATION_BYTES: u32 = 1_024;

/// A blob file of which this share is stale is rewritten when its tables are compacted. Partitions whose batches go at
/// different times share blob files: a lower share would rewrite more of what stays than it frees.
const STALE_SHARE: f32 = 0.5;

/// Opens the database in `path`, creating what is not there. What lies below `floors` goes whenever it is compacted.
pub(crate) fn open(
    path: &Path,
    options: &Options,
    floors: &Arc<Floors>,
) -> fjall::Result<(Database, Keyspaces)> {
    let filter = Arc::clone(floors);
    let db = Database::builder(path)
        .cache_size(options.cache_bytes)
        .worker_threads(options.workers.max(WORKERS_MIN))
        .manual_journal_persist(true)
        .journal_compression(CompressionType::None)
        // Bounded by `flush.rs`: fjall's way goes through the queue that can block.
        .max_journaling_size(u64::MAX)
        .with_compaction_filter_factories(Arc::new(move |name| {
            (name == LOG).then(|| Arc::clone(&filter) as Arc<dyn Factory>)
        }))
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
                .staleness_threshold(STALE_SHARE)
                // All of those that are so stale, not the oldest quarter, which of three is none.
                .age_cutoff(1.0)
                .compression(CompressionType::None),
        ))
    };
    let keyspaces = Keyspaces {
        log: db.keyspace(LOG, separated)?,
        state: db.keyspace("state", rows)?,
        modules: db.keyspace("modules", separated)?,
    };
    Ok((db, keyspaces))
}

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
        let mut row =
            PartitionRow::decode(&value).ok_or_else(|| ReadError::damaged("partition row", &key))?;
        if value.len() == PartitionRow::UNCOUNTED_LEN {
            row.bytes = bytes_from(keyspaces, partition.0, row.low_watermark)?;
        }
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

/// Bytes of a partition's batches from the one at `offset` on.
pub(crate) fn bytes_from(
    keyspaces: &Keyspaces,
    partition: PartitionId,
    offset: Offset,
) -> Result<u64, ReadError> {
    batches_from(keyspaces, partition, offset).map(|guard| Ok(u64::from(guard.size()?))).sum()
}

/// Records of a partition's batches from the one at `offset` on. Reads all of them.
pub(crate) fn records_from(
    keyspaces: &Keyspaces,
    partition: PartitionId,
    offset: Offset,
) -> Result<u64, ReadError> {
    let records = batches_from(keyspaces, partition, offset).map(|guard| {
        let bytes = guard.value()?;
        // What cannot be read is for its reader to report.
        Ok(BatchView::new(&bytes, Check::Header).map_or(0, |view| view.len() as u64))
    });
    records.sum()
}

fn batches_from(keyspaces: &Keyspaces, partition: PartitionId, offset: Offset) -> fjall::Iter {
    keyspaces.log.range(key(partition, offset)..=key(partition, u64::MAX))
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

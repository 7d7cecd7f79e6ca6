//! A log in fjall, opened and rotated as `millstream-store` does it, and appends to it without a network.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fjall::{
    AbstractTree as _, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    OwnedWriteBatch, PersistMode, config::CompressionPolicy,
};

use crate::{Error, payload, stats};

// The values of `millstream_store::Options` and its `flush.rs`.
const CACHE_BYTES: u64 = 4 << 20;
const WORKERS: usize = 4;
const SEPARATION_BYTES: u32 = 1_024;
const MEMTABLE_BYTES: u64 = 32 << 20;
const MEMTABLE_BYTES_MAX: u64 = 256 << 20;
const SEALED_MAX: usize = 2;
const L0_RUNS_MAX: usize = 16;

/// An append-only log: `partition u32, offset u64 -> value`.
pub(super) struct FjallLog {
    db: Database,
    log: Keyspace,
}

/// One append.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) value: Bytes,
}

impl FjallLog {
    pub(super) fn create(dir: &Path) -> Result<Self, Error> {
        let db = Database::builder(dir.join("db"))
            .cache_size(CACHE_BYTES)
            .worker_threads(WORKERS)
            .manual_journal_persist(true)
            .journal_compression(CompressionType::None)
            .max_journaling_size(u64::MAX)
            .open()?;
        let log = db.keyspace("log", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(u64::MAX)
                .data_block_compression_policy(CompressionPolicy::disabled())
                .with_kv_separation(Some(
                    KvSeparationOptions::default()
                        .separation_threshold(SEPARATION_BYTES)
                        .compression(CompressionType::None),
                ))
        })?;
        Ok(Self { db, log })
    }

    /// Commits `entries` as one atomic batch, then rotates the memtable if it is due.
    pub(super) fn commit(
        &self,
        entries: impl ExactSizeIterator<Item = Entry>,
        persist: PersistMode,
    ) -> Result<(), Error> {
        let mut batch =
            OwnedWriteBatch::with_capacity(self.db.clone(), entries.len()).durability(Some(persist));
        for Entry { partition, offset, value } in entries {
            let mut key = [0; 12];
            let (front, back) = key.split_at_mut(4);
            front.copy_from_slice(&partition.to_be_bytes());
            back.copy_from_slice(&offset.to_be_bytes());
            batch.insert(&self.log, key, value);
        }
        batch.commit()?;
        self.maintain()
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn maintain(&self) -> Result<(), Error> {
        self.rotate()?;
        while self.db.write_buffer_size() > MEMTABLE_BYTES_MAX {
            thread::sleep(Duration::from_millis(1));
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&self) -> Result<(), Error> {
        let tree = &self.log.tree;
        if tree.active_memtable().size() >= MEMTABLE_BYTES
            && tree.sealed_memtable_count() < SEALED_MAX
            && tree.l0_run_count() < L0_RUNS_MAX
        {
            self.log.rotate_memtable()?;
        }
        Ok(())
    }
}

/// MB/s of commits of one value each, handed to the system.
pub(crate) fn fjall_buffered(dir: &Path, value_bytes: usize, duration: Duration) -> Result<f64, Error> {
    append(dir, value_bytes, duration, PersistMode::Buffer)
}

/// MB/s of commits of one value each, with an fdatasync each.
pub(crate) fn fjall_sync(dir: &Path, value_bytes: usize, duration: Duration) -> Result<f64, Error> {
    append(dir, value_bytes, duration, PersistMode::SyncData)
}

fn append(dir: &Path, value_bytes: usize, duration: Duration, persist: PersistMode) -> Result<f64, Error> {
    let log = FjallLog::create(dir)?;
    let source = payload::noise(value_bytes, 1);
    let mut offset = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        // A copy, as a value that comes from somewhere is in memory of its own.
        let value = Bytes::copy_from_slice(&source);
        log.commit(std::iter::once(Entry { partition: 0, offset, value }), persist)?;
        offset += 1;
    }
    Ok(stats::mb_per_s(offset * value_bytes as u64, start.elapsed()))
}

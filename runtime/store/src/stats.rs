//! Figures of an open store, for operators and tests.

use std::sync::atomic::Ordering;

use fjall::AbstractTree as _;

use crate::store::{Keyspaces, Store};

/// Figures of an open store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of journals, tables and blobs on disk.
    pub disk_bytes: u64,
    /// Bytes of journals on disk; journals are allocated 64 MiB ahead, sparsely.
    pub journal_bytes: u64,
    /// Number of journals.
    pub journals: usize,
    /// Bytes in memtables, not yet in tables.
    pub memtable_bytes: u64,
    /// Memtables that wait to be flushed.
    pub memtables_sealed: usize,
    /// Flushes queued.
    pub flushes_outstanding: usize,
    /// Compactions that run now.
    pub compactions_active: usize,
    /// Bytes of values no longer referred to, not yet collected.
    pub stale_bytes: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Commits ever made.
    pub committed: u64,
    /// Newest commit known durable.
    pub synced: u64,
}

impl Store {
    /// Figures as they are now. A figure that cannot be had is 0.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let Keyspaces { log, state, modules } = &inner.keyspaces;
        let keyspaces = [log, state, modules];
        Stats {
            disk_bytes: inner.db.disk_space().unwrap_or(0),
            journal_bytes: inner.db.journal_disk_space().unwrap_or(0),
            journals: inner.db.journal_count(),
            memtable_bytes: inner.db.write_buffer_size(),
            memtables_sealed: keyspaces.iter().map(|keyspace| keyspace.tree.sealed_memtable_count()).sum(),
            flushes_outstanding: inner.db.outstanding_flushes(),
            compactions_active: inner.db.active_compactions(),
            stale_bytes: keyspaces.iter().map(|keyspace| keyspace.fragmented_blob_bytes()).sum(),
            cache_bytes: inner.db.cache_size(),
            committed: inner.committed.load(Ordering::Relaxed),
            synced: inner.synced.load(Ordering::Relaxed),
        }
    }
}

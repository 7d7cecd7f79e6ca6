//! How a store is opened: sizes and bounds, with defaults for a broker that is mostly idle.

use std::time::Duration;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Open although acknowledged data is missing, and report what is.
    pub accept_data_loss: bool,
    /// Rotate a keyspace's memtable from this size on.
    pub memtable_bytes: u64,
    /// Hold back writes while this many bytes wait in memtables for the disk.
    pub memtable_bytes_max: u64,
    /// Capacity of the block cache. Small, since record batches that are read go through it: what they take from the
    /// processor's caches costs more than reading from the system's page cache saves.
    pub cache_bytes: u64,
    /// About how many bytes of journal may lie on disk, and so have to be read at the next open. At least 192 MiB is
    /// kept whatever is asked, since fjall seals journals of 64 MB and more.
    pub journal_bytes_max: u64,
    /// Threads that flush and compact. Fewer than four are raised to four: fjall's pool can stall with less.
    pub workers: usize,
    /// Disk space of batches below low watermarks is taken back once there are so many bytes of them.
    pub reclaim_bytes_min: u64,
    /// How long flushes may make no progress before the store reports itself stuck.
    pub flush_stall: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accept_data_loss: false,
            memtable_bytes: 32 << 20,
            memtable_bytes_max: 256 << 20,
            cache_bytes: 4 << 20,
            journal_bytes_max: 256 << 20,
            workers: WORKERS_MIN,
            reclaim_bytes_min: 8 << 20,
            flush_stall: Duration::from_secs(30),
        }
    }
}

pub(crate) const WORKERS_MIN: usize = 4;
pub(crate) const JOURNAL_BYTES_MIN: u64 = 192 << 20;

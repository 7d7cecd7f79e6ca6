//! Deleting the batches of a partition whose topic is gone, and the state of a processor: in chunks, so that nobody waits
//! long, and resumable, since they stay listed under [`RemovedPartition`] and [`RemovedState`] until the last chunk.

use bytes::Bytes;
use millstream_types::{Offset, PartitionId};

use crate::{
    error::{ReadError, WriteError},
    keys::{RemovedPartition, RemovedState, StateEntriesOf},
    read::key,
    store::{Persist, Store},
};

/// How far the cleanup of a removed partition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Batches are left: call again.
    More {
        /// Where the first of them is at the earliest.
        from: Offset,
    },
    /// Nothing is left.
    Done,
}

/// Why a chunk of the cleanup failed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The batches cannot be listed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Their deletion cannot be committed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

const CHUNK_BATCHES: usize = 1_000;
const CHUNK_ENTRIES: usize = 10_000;

impl Store {
    /// Deletes a chunk of the batches of a partition that [`Batch::delete_partition`](crate::Batch::delete_partition)
    /// deleted: from `from` on, which is 0 at first and then what the call before said. After a restart, [`Store::scan`] over
    /// [`RemovedPartition`] tells which partitions to go on with. Does nothing to a partition that exists. The disk space is given
    /// back by [`Store::reclaim`].
    ///
    /// # Errors
    /// [`CleanupError`] as for reads and commits.
    pub fn remove_partition(&self, partition: PartitionId, from: Offset) -> Result<Cleanup, CleanupError> {
        if self.get(&RemovedPartition(partition))?.is_none() {
            return Ok(Cleanup::Done);
        }
        let mut batch = self.batch();
        let (mut deleted, mut deleted_bytes, mut last) = (0, 0, from);
        // Not from the beginning each time: what was deleted before is passed over row by row.
        for size in self.sizes(partition, from, Offset::MAX).take(CHUNK_BATCHES) {
            let (base_offset, bytes) = size?;
            batch.remove_log_row(Bytes::copy_from_slice(&key(partition, base_offset)));
            (deleted, deleted_bytes, last) = (deleted + 1, deleted_bytes + bytes, base_offset);
        }
        let done = deleted < CHUNK_BATCHES;
        if done {
            batch.remove(&RemovedPartition(partition));
        }
        // Nothing was promised: a lost chunk is deleted again.
        self.commit(batch, Persist::Buffer)?;
        self.inner.reclaiming.freed(0, deleted_bytes);
        Ok(if done { Cleanup::Done } else { Cleanup::More { from: last } })
    }

    /// Deletes a chunk of the state of a processor that is listed under [`RemovedState`]; whether nothing is left.
    ///
    /// # Errors
    /// [`CleanupError`] as for reads and commits.
    pub fn remove_state(&self, processor: u32) -> Result<bool, CleanupError> {
        if self.get(&RemovedState(processor))?.is_none() {
            return Ok(true);
        }
        let mut batch = self.batch();
        let mut deleted = 0;
        let entries = StateEntriesOf { processor, prefix: Bytes::new() };
        for entry in self.scan_prefix(&entries).take(CHUNK_ENTRIES) {
            batch.remove(&entry?.0);
            deleted += 1;
        }
        let done = deleted < CHUNK_ENTRIES;
        if done {
            batch.remove(&RemovedState(processor));
        }
        self.commit(batch, Persist::Buffer)?;
        Ok(done)
    }
}

//! Deleting the batches of a partition whose topic is gone: in chunks, so that nobody waits long, and resumable, since
//! the partition stays listed under [`RemovedPartition`] until the last chunk.

use fjall::Readable as _;
use millstream_types::PartitionId;

use crate::{
    error::{ReadError, WriteError},
    keys::RemovedPartition,
    read::key,
    store::{Persist, Store},
};

/// How far the cleanup of a removed partition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Batches are left: call again.
    More {
        /// Batches deleted by this call.
        deleted: usize,
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

impl Store {
    /// Deletes a chunk of the batches of a partition that [`Batch::delete_partition`](crate::Batch::delete_partition)
    /// deleted. After a restart, [`Store::scan`] over [`RemovedPartition`] tells which partitions to go on with. Does
    /// nothing to a partition that exists.
    ///
    /// # Errors
    /// [`CleanupError`] as for reads and commits.
    pub fn remove_partition(&self, partition: PartitionId) -> Result<Cleanup, CleanupError> {
        if self.get(&RemovedPartition(partition))?.is_none() {
            return Ok(Cleanup::Done);
        }
        let mut batch = self.batch();
        let mut deleted = 0;
        let snapshot = self.inner.db.snapshot();
        let range = key(partition, 0)..=key(partition, u64::MAX);
        for guard in snapshot.range(&self.inner.keyspaces.log, range).take(CHUNK_BATCHES) {
            batch.remove_log_row(guard.key().map_err(ReadError::from)?.into());
            deleted += 1;
        }
        let done = deleted < CHUNK_BATCHES;
        if done {
            batch.remove(&RemovedPartition(partition));
        }
        // Nothing was promised: a lost chunk is deleted again.
        self.commit(batch, Persist::Buffer)?;
        Ok(if done { Cleanup::Done } else { Cleanup::More { deleted } })
    }
}

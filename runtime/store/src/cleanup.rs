//! Deleting the batches of a partition whose topic is gone: in chunks, so that nobody waits long, and resumable, since
//! the partition stays listed under [`RemovedPartition`] until the last chunk.

use bytes::Bytes;
use fjall::Readable as _;
use millstream_types::{Offset, PartitionId};

use crate::{
    error::{ReadError, WriteError},
    keys::{LogKey, RemovedPartition},
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
/// What is stale then is left to later compactions.
const PASSES_MAX: usize = 16;

impl Store {
    /// Deletes a chunk of the batches of a partition that [`Batch::delete_partition`](crate::Batch::delete_partition)
    /// deleted: from `from` on, which is 0 at first and then what the call before said. After a restart, [`Store::scan`] over [`RemovedPartition`] tells which partitions to go on with. Does
    /// nothing to a partition that exists. The last chunk of the last partition gives the space back, which takes longer:
    /// not for the committer's thread.
    ///
    /// # Errors
    /// [`CleanupError`] as for reads and commits.
    pub fn remove_partition(&self, partition: PartitionId, from: Offset) -> Result<Cleanup, CleanupError> {
        if self.get(&RemovedPartition(partition))?.is_none() {
            return Ok(Cleanup::Done);
        }
        let mut batch = self.batch();
        let (mut deleted, mut last) = (0, from);
        let snapshot = self.inner.db.snapshot();
        // Not from the beginning each time: what was deleted before is passed over row by row.
        let range = key(partition, from)..=key(partition, Offset::MAX);
        for guard in snapshot.range(&self.inner.keyspaces.log, range).take(CHUNK_BATCHES) {
            let key = guard.key().map_err(ReadError::from)?;
            last = LogKey::decode(&key).map_or(last, |key| key.base_offset);
            batch.remove_log_row(key.into());
            deleted += 1;
        }
        drop(snapshot);
        // Nothing was promised: a lost chunk is deleted again.
        if deleted == CHUNK_BATCHES {
            self.commit(batch, Persist::Buffer)?;
            return Ok(Cleanup::More { from: last });
        }
        // The last of those that are waiting pays for all; stopped in between, it is resumed here.
        if self.scan::<RemovedPartition>().nth(1).is_none() {
            self.commit(batch, Persist::Buffer)?;
            self.give_back(partition)?;
            batch = self.batch();
        }
        batch.remove(&RemovedPartition(partition));
        self.commit(batch, Persist::Buffer)?;
        Ok(Cleanup::Done)
    }

    /// Gives back to the disk what deleted batches took. fjall does so only as later writes happen to bring compactions
    /// about, which may be never.
    fn give_back(&self, partition: PartitionId) -> Result<(), CleanupError> {
        self.supersede(partition)?;
        // The first pass finds which blobs are no longer referred to, the next lets go of them: of all, or in a store
        // whose log was created before the settings said so, of the oldest quarter.
        let log = &self.inner.keyspaces.log;
        let mut stale_bytes = u64::MAX;
        for _ in 0..PASSES_MAX {
            // One that fails may leave files of which nobody knows whether they count: as with fjall's own compactions,
            // nothing is written any more.
            let compacted = log.major_compact().map_err(|error| WriteError::Unknown { cause: error.into() });
            self.inner.writer().note(compacted)?;
            let before = std::mem::replace(&mut stale_bytes, log.fragmented_blob_bytes());
            if stale_bytes >= before {
                break;
            }
        }
        // The files of before are removed with the next flush.
        self.supersede(partition)
    }

    /// Makes what the log holds older than the newest commit, and flushes it: only what is older is given up.
    fn supersede(&self, partition: PartitionId) -> Result<(), CleanupError> {
        for _ in 0..2 {
            let mut batch = self.batch();
            batch.remove_log_row(Bytes::copy_from_slice(&key(partition, 0)));
            self.commit(batch, Persist::Buffer)?;
        }
        Ok(self.flush_log()?)
    }
}

//! One atomic change, collected before it is committed.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_types::{Offset, PartitionId, Timestamp};

use crate::keys::{self, Family, Key, RemovedPartition};

/// A change that is applied as a whole or not at all. Later calls win over earlier ones on the same key.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) appends: Vec<Append>,
    pub(crate) rows: BTreeMap<(Family, Bytes), Option<Bytes>>,
    pub(crate) partitions: BTreeMap<PartitionId, PartitionChange>,
    /// Batches of partitions that compaction replaces or deletes.
    pub(crate) rewrites: Vec<(PartitionId, Rewrite)>,
    /// Log keys to delete: only the cleanup of removed partitions does that.
    pub(crate) log_removals: Vec<Bytes>,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) partition: PartitionId,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) bytes: Bytes,
}

/// A stored batch that is replaced, or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Under which it is stored.
    pub base_offset: Offset,
    /// What is stored in its place, with the same base offset; `None` for nothing.
    pub bytes: Option<Bytes>,
}

/// What compaction does to a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// None is of the partition's newest batch.
    pub rewrites: Vec<Rewrite>,
    /// Bytes of the batches that are replaced or deleted.
    pub freed_bytes: u64,
    /// Records that go.
    pub records: u64,
    /// If it has seen to everything below an offset: that, and when.
    pub below: Option<(Offset, Timestamp)>,
}

/// What a batch does to a partition beside appending.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct PartitionChange {
    pub(crate) delete: bool,
    pub(crate) low_watermark: Option<Offset>,
    /// Bytes of the batches that fall below it.
    pub(crate) freed_bytes: u64,
    /// And records that compaction had deleted there.
    pub(crate) freed_holes: u64,
    pub(crate) compacted: Option<CompactedSums>,
}

/// [`Compacted`] without its batches.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct CompactedSums {
    pub(crate) freed_bytes: u64,
    pub(crate) added_bytes: u64,
    pub(crate) records: u64,
    pub(crate) below: Option<(Offset, Timestamp)>,
}

/// Rough cost of a row beside its bytes, so that a batch of many small rows does not count as nothing.
const ROW_OVERHEAD_BYTES: usize = 32;

impl Batch {
    /// Appends a record batch that holds the offsets `base_offset..next_offset` to `partition`, and moves the
    /// partition's end. A partition that does not exist yet is created.
    ///
    /// The bytes are not copied: the buffer they are a slice of stays in memory until the memtable is flushed, so a
    /// small batch in a large receive buffer is better copied first.
    pub fn append(&mut self, partition: PartitionId, base_offset: Offset, next_offset: Offset, bytes: Bytes) {
        self.bytes += bytes.len() + ROW_OVERHEAD_BYTES;
        self.appends.push(Append { partition, base_offset, next_offset, bytes });
    }

    /// Creates an empty partition. Does nothing to one that exists.
    pub fn create_partition(&mut self, partition: PartitionId) {
        self.bytes += ROW_OVERHEAD_BYTES;
        self.partitions.entry(partition).or_default();
    }

    /// Raises the offset below which nothing of `partition` is read any more. It never falls. The batches that fall below
    /// it have `freed_bytes`, and `freed_holes` of the records there were compacted away before; [`Store::reclaim`](crate::Store::reclaim)
    /// gives their disk space back.
    pub fn raise_low_watermark(
        &mut self,
        partition: PartitionId,
        low_watermark: Offset,
        freed_bytes: u64,
        freed_holes: u64,
    ) {
        self.bytes += ROW_OVERHEAD_BYTES;
        let change = self.partitions.entry(partition).or_default();
        change.low_watermark = change.low_watermark.max(Some(low_watermark));
        change.freed_bytes += freed_bytes;
        change.freed_holes += freed_holes;
    }

    /// Replaces and deletes batches of `partition` by what is left of them. [`Store::reclaim`](crate::Store::reclaim) gives their
    /// disk space back.
    pub fn compact(&mut self, partition: PartitionId, compacted: Compacted) {
        let Compacted { rewrites, freed_bytes, records, below } = compacted;
        let length = |rewrite: &Rewrite| rewrite.bytes.as_ref().map_or(0, Bytes::len);
        let added_bytes: usize = rewrites.iter().map(length).sum();
        self.bytes += added_bytes + (rewrites.len() + 1) * ROW_OVERHEAD_BYTES;
        let change = self.partitions.entry(partition).or_default();
        let sums = change.compacted.get_or_insert_default();
        sums.freed_bytes += freed_bytes;
        sums.added_bytes += added_bytes as u64;
        sums.records += records;
        sums.below = sums.below.max(below);
        self.rewrites.extend(rewrites.into_iter().map(|rewrite| (partition, rewrite)));
    }

    /// Deletes `partition`: its row at once, its batches by `Store::remove_partition` in its own time. Its id must not be
    /// used again.
    pub fn delete_partition(&mut self, partition: PartitionId) {
        self.partitions.entry(partition).or_default().delete = true;
        self.put(&RemovedPartition(partition), Bytes::new());
    }

    /// Writes a row.
    pub fn put<K: Key>(&mut self, key: &K, value: impl Into<Bytes>) {
        self.set(key, Some(value.into()));
    }

    /// Deletes a row; does nothing if there is none.
    pub fn remove<K: Key>(&mut self, key: &K) {
        self.set(key, None);
    }

    /// Whether committing would change nothing.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
            && self.rows.is_empty()
            && self.partitions.is_empty()
            && self.log_removals.is_empty()
    }

    /// About how many bytes the batch adds to the journal.
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    fn set<K: Key>(&mut self, key: &K, value: Option<Bytes>) {
        let key = keys::encode(key);
        self.bytes += ROW_OVERHEAD_BYTES + key.len() + value.as_ref().map_or(0, Bytes::len);
        self.rows.insert((K::FAMILY, key), value);
    }

    pub(crate) fn remove_log_row(&mut self, key: Bytes) {
        self.bytes += ROW_OVERHEAD_BYTES + key.len();
        self.log_removals.push(key);
    }
}

//! Reading: record batches by offset, rows by key and by kind. Every read works on a snapshot, since a bare range can
//! see half of an atomic batch.

use std::{
    marker::PhantomData,
    ops::Bound::{Excluded, Included},
};

use bytes::Bytes;
use fjall::{Readable as _, Snapshot};
use millstream_types::{BatchView, Check, Offset, PartitionId};

use crate::{
    error::ReadError,
    keys::{self, Encoding as _, Key, LogKey, Prefix},
    store::Store,
};

/// A record batch as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Offset under which it was appended.
    pub base_offset: Offset,
    /// The batch, unchecked: the reader verifies its checksum.
    pub bytes: Bytes,
}

impl Store {
    /// The batches of `partition` that hold offsets in `from..end`, ascending: the first is the one that contains
    /// `from`, or the next one if none does. Stops once `bytes_max` is reached, but returns at least one batch if there
    /// is one. Offsets below the low watermark are not returned, save those that share a batch with it.
    ///
    /// # Errors
    /// [`ReadError`] if the database cannot be read.
    pub fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<Vec<StoredBatch>, ReadError> {
        let Some(row) = self.partition(partition) else { return Ok(Vec::new()) };
        let from = from.max(row.low_watermark);
        let end = end.min(row.next_offset);
        let mut batches = Vec::new();
        if from >= end {
            return Ok(batches);
        }
        let snapshot = self.inner.db.snapshot();
        let mut bytes = 0;
        let range = key(partition, from)..key(partition, end);
        for guard in snapshot.range(&self.inner.keyspaces.log, range) {
            let batch = stored(guard)?;
            // A reader that goes batch by batch starts at one's base: only others need a look behind.
            if batches.is_empty()
                && batch.base_offset != from
                && let Some(holder) = self.holder(&snapshot, partition, from)?
            {
                bytes += holder.bytes.len();
                batches.push(holder);
                if bytes >= bytes_max {
                    return Ok(batches);
                }
            }
            bytes += batch.bytes.len();
            batches.push(batch);
            if bytes >= bytes_max {
                return Ok(batches);
            }
        }
        if batches.is_empty() {
            batches.extend(self.holder(&snapshot, partition, from)?);
        }
        Ok(batches)
    }

    /// Base offset and size of each batch of `partition` whose base offset is in `from..end`, ascending. Reads no batch.
    pub fn sizes(&self, partition: PartitionId, from: Offset, end: Offset) -> Sizes {
        let range = key(partition, from)..key(partition, end.max(from));
        let (snapshot, log) = (self.inner.db.snapshot(), &self.inner.keyspaces.log);
        Sizes { keys: snapshot.range(log, range.clone()), values: snapshot.range(log, range) }
    }

    /// The newest batch of `partition` whose base offset is at most `offset`.
    ///
    /// # Errors
    /// [`ReadError`] if the database cannot be read.
    pub fn batch_at(&self, partition: PartitionId, offset: Offset) -> Result<Option<StoredBatch>, ReadError> {
        self.before(&self.inner.db.snapshot(), partition, offset)
    }

    /// The value of a row.
    ///
    /// # Errors
    /// [`ReadError`] if the database cannot be read.
    pub fn get<K: Key>(&self, key: &K) -> Result<Option<Bytes>, ReadError> {
        let keyspace = self.inner.keyspaces.of(K::FAMILY);
        let value = self.inner.db.snapshot().get(keyspace, keys::encode(key))?;
        Ok(value.map(Bytes::from))
    }

    /// All rows of one kind, in the order of their keys, as they are now.
    pub fn scan<K: Key>(&self) -> Scan<K> {
        let keyspace = self.inner.keyspaces.of(K::FAMILY);
        Scan { rows: self.inner.db.snapshot().prefix(keyspace, [K::TAG]), kind: PhantomData }
    }

    /// The keys of all rows of one kind, in order, as they are now. Reads no values.
    pub fn keys<K: Key>(&self) -> Keys<K> {
        let keyspace = self.inner.keyspaces.of(K::FAMILY);
        Keys { rows: self.inner.db.snapshot().prefix(keyspace, [K::TAG]), kind: PhantomData }
    }

    /// All rows that share `prefix`, in the order of their keys, as they are now.
    pub fn scan_prefix<P: Prefix>(&self, prefix: &P) -> Scan<P::Key> {
        let keyspace = self.inner.keyspaces.of(P::Key::FAMILY);
        let prefix = keys::encode_prefix(prefix);
        Scan { rows: self.inner.db.snapshot().prefix(keyspace, prefix), kind: PhantomData }
    }

    /// The rows that share `prefix` and come after `after`, in the order of their keys, as they are now.
    pub fn scan_after<P: Prefix>(&self, prefix: &P, after: &P::Key) -> Scan<P::Key> {
        let keyspace = self.inner.keyspaces.of(P::Key::FAMILY);
        let (prefix, after) = (keys::encode_prefix(prefix), keys::encode(after));
        // Behind all that start with the prefix; where it is nothing but 0xFF, it has no end, and the tag is never that.
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let end = Bytes::from(end);
        let from = match after {
            after if after < prefix => Included(prefix),
            after if after >= end => Included(end.clone()),
            after => Excluded(after),
        };
        let rows = self.inner.db.snapshot().range(keyspace, (from, Excluded(end)));
        Scan { rows, kind: PhantomData }
    }

    /// The batch that contains `offset`.
    fn holder(
        &self,
        snapshot: &Snapshot,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<StoredBatch>, ReadError> {
        let before = self.before(snapshot, partition, offset)?;
        Ok(before.filter(|batch| next_offset(batch).is_none_or(|next| next > offset)))
    }

    fn before(
        &self,
        snapshot: &Snapshot,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<StoredBatch>, ReadError> {
        let range = key(partition, 0)..=key(partition, offset);
        snapshot.range(&self.inner.keyspaces.log, range).next_back().map(stored).transpose()
    }
}

/// Base offset and size of batches, ascending.
pub struct Sizes {
    // Both over the same: fjall gives either the key of a row or its size, or else reads it.
    keys: fjall::Iter,
    values: fjall::Iter,
}

impl Iterator for Sizes {
    type Item = Result<(Offset, u64), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = (self.keys.next()?, self.values.next()?);
        Some(size_of(key, value))
    }
}

/// Rows of one kind, in the order of their keys.
pub struct Scan<K> {
    rows: fjall::Iter,
    kind: PhantomData<K>,
}

impl<K: Key> Iterator for Scan<K> {
    type Item = Result<(K, Bytes), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?.into_inner().map_err(ReadError::from);
        Some(row.and_then(|(key, value)| {
            let decoded = keys::decode(&key).ok_or_else(|| ReadError::damaged("key", &key))?;
            Ok((decoded, value.into()))
        }))
    }
}

/// Keys of the rows of one kind, in order.
pub struct Keys<K> {
    rows: fjall::Iter,
    kind: PhantomData<K>,
}

impl<K: Key> Iterator for Keys<K> {
    type Item = Result<K, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.rows.next()?.key().map_err(ReadError::from);
        Some(key.and_then(|key| keys::decode(&key).ok_or_else(|| ReadError::damaged("key", &key))))
    }
}

/// Offset after the last one of a batch, from its header and table; `None` if they are not readable, which is for the
/// one who verifies the batch to report.
pub(crate) fn next_offset(batch: &StoredBatch) -> Option<Offset> {
    let view = BatchView::new(&batch.bytes, Check::Header).ok()?;
    let records = view.next_offset().checked_sub(view.base_offset())?;
    batch.base_offset.checked_add(records)
}

pub(crate) fn key(partition: PartitionId, base_offset: Offset) -> [u8; 12] {
    LogKey { partition, base_offset }.encode()
}

fn size_of(key: fjall::Guard, value: fjall::Guard) -> Result<(Offset, u64), ReadError> {
    let key = key.key()?;
    let decoded = LogKey::decode(&key).ok_or_else(|| ReadError::damaged("log key", &key))?;
    Ok((decoded.base_offset, u64::from(value.size()?)))
}

fn stored(guard: fjall::Guard) -> Result<StoredBatch, ReadError> {
    let (key, value) = guard.into_inner()?;
    let decoded = LogKey::decode(&key).ok_or_else(|| ReadError::damaged("log key", &key))?;
    Ok(StoredBatch { base_offset: decoded.base_offset, bytes: value.into() })
}

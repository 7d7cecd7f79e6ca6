//! Taking back the disk space of batches that fell below their partition's low watermark, that compaction replaced or deleted,
//! or whose partition was removed.
//!
//! Deleting the former one by one would write as many tombstones. Instead each partition has a *floor*, and whenever tables of
//! the log are compacted, a filter leaves out what lies below it; the blob files that held it go with the next compaction.
//! [`Store::reclaim`] brings both about where enough is to be had, since fjall compacts only what is written to.
//!
//! Floors are in memory alone: they follow from the low watermarks, which are durable before a floor is raised.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fjall::{
    AbstractTree as _,
    compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict},
};
use millstream_types::{Offset, PartitionId};

use crate::{
    error::{ReadError, WriteError},
    keys::{LogKey, PartitionRow},
    read,
    store::{Inner, Keyspaces, Store},
};

/// Why disk space was not taken back. Nothing is lost by that: it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReclaimError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store takes no writes any more, since the compaction failed or something else did before.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// More than is ever there: how much it is has to be looked up.
const UNKNOWN_BYTES: u64 = 1 << 62;
/// From so many bytes on it is worth it, however much the log holds.
const ENOUGH_BYTES: u64 = 1 << 30;
/// How often it is looked whether memtables have reached the disk.
const FLUSH_POLL: Duration = Duration::from_millis(5);

/// What of the log is to be taken back.
#[derive(Debug)]
pub(crate) struct Reclaiming {
    floors: Arc<Floors>,
    /// Bytes below the low watermarks, as far as they are not yet taken back.
    below_bytes: AtomicU64,
    /// Bytes of batches that were replaced or deleted since the last time.
    stale_bytes: AtomicU64,
}

impl Reclaiming {
    /// `log_bytes` is what the log takes of the disk.
    pub(crate) fn new(
        floors: Arc<Floors>,
        partitions: &HashMap<PartitionId, PartitionRow>,
        log_bytes: u64,
    ) -> Self {
        let rows = partitions.values();
        let below_bytes = if rows.clone().any(|row| row.low_watermark > 0) { UNKNOWN_BYTES } else { 0 };
        // How much of it is known only by what should be there: what is beside the batches is less than they are.
        let compacted = rows.clone().any(|row| row.compacted > 0);
        let kept_bytes = rows.map(|row| row.bytes).sum();
        let any_stale = compacted || log_bytes / 2 > kept_bytes;
        let stale_bytes = if any_stale { log_bytes.saturating_sub(kept_bytes) } else { 0 };
        Self { floors, below_bytes: AtomicU64::new(below_bytes), stale_bytes: AtomicU64::new(stale_bytes) }
    }

    /// So many bytes fell below a low watermark, so many were replaced or deleted.
    pub(crate) fn freed(&self, below_bytes: u64, stale_bytes: u64) {
        self.below_bytes.fetch_add(below_bytes, Ordering::Relaxed);
        self.stale_bytes.fetch_add(stale_bytes, Ordering::Relaxed);
    }

    /// Of what was `expected` below the low watermarks, `found` is there.
    fn correct(&self, expected: u64, found: u64) {
        // Bytes may have been added meanwhile.
        self.below_bytes.fetch_add(found, Ordering::Relaxed);
        self.below_bytes.fetch_sub(expected, Ordering::Relaxed);
    }
}

impl Store {
    /// Takes back the disk space of batches that are not read any more, where that is worth the work; returns how many bytes of
    /// batches went. Blocks while the log is compacted: not to be called by the committer. One thread at a time.
    ///
    /// # Errors
    /// [`ReclaimError`]; the batches are then taken back by a later call, or after the store was opened again.
    pub fn reclaim(&self) -> Result<u64, ReclaimError> {
        let inner = &self.inner;
        let expected = inner.reclaiming.below_bytes.load(Ordering::Relaxed);
        let stale = inner.reclaiming.stale_bytes.load(Ordering::Relaxed);
        if expected == 0 && stale == 0 {
            return Ok(0);
        }
        let low_watermarks = self.partitions();
        // What goes must stay below its low watermark, or replaced, also when the power fails now.
        self.sync()?;
        let floors = self.floors(low_watermarks)?;
        inner.reclaiming.floors.set(Arc::clone(&floors));
        if !inner.is_worth(expected + stale) {
            return Ok(0);
        }
        let found = self.bytes_below(&floors)?;
        inner.reclaiming.correct(expected, found);
        if !inner.is_worth(found + stale) {
            return Ok(0);
        }
        if !self.flush_below(&floors, stale > 0)? {
            return Ok(0);
        }
        let log = &inner.keyspaces.log;
        let before = log.tree.disk_space();
        // The first leaves the batches out, the second drops the blob files that hold nothing else and rewrites those that
        // hold little else.
        for _ in 0..2 {
            // One that fails may leave files of which nobody knows whether they count: as with fjall's own compactions,
            // nothing is written any more.
            let compacted = log.major_compact().map_err(|error| WriteError::Unknown { cause: error.into() });
            inner.writer().note(compacted)?;
        }
        self.forget_old_versions()?;
        let left = self.bytes_below(&floors)?;
        inner.reclaiming.correct(found, left);
        // What is left of it shares files with what is kept, and goes with that.
        inner.reclaiming.stale_bytes.fetch_sub(stale, Ordering::Relaxed);
        let went = before.saturating_sub(log.tree.disk_space());
        Ok(found.saturating_sub(left) + stale.min(went))
    }

    /// Base offset of the batch that holds each low watermark.
    fn floors(
        &self,
        partitions: impl IntoIterator<Item = (PartitionId, PartitionRow)>,
    ) -> Result<Arc<FloorMap>, ReadError> {
        let before = self.inner.reclaiming.floors.now();
        let mut floors = FloorMap::default();
        for (partition, row) in partitions.into_iter().filter(|(_, row)| row.low_watermark > 0) {
            let low_watermark = row.low_watermark;
            let floor = match before.get(&partition) {
                Some(known) if known.low_watermark == low_watermark => known.floor,
                _ => self.floor(partition, &row)?,
            };
            floors.insert(partition, Floor { low_watermark, floor });
        }
        Ok(Arc::new(floors))
    }

    fn floor(&self, partition: PartitionId, row: &PartitionRow) -> Result<Offset, ReadError> {
        let low_watermark = row.low_watermark;
        // Nearly always there is a batch with just this offset.
        if let Some(size) = self.sizes(partition, low_watermark, low_watermark.saturating_add(1)).next() {
            return size.map(|(base_offset, _)| base_offset);
        }
        let Some(batch) = self.batch_at(partition, low_watermark)? else { return Ok(0) };
        // Compaction may have deleted what was there. The newest batch stays in any case: recovery may look for it.
        let ends_below = row.newest != Some(batch.base_offset)
            && read::next_offset(&batch).is_some_and(|next| next <= low_watermark);
        Ok(if ends_below { low_watermark } else { batch.base_offset })
    }

    fn bytes_below(&self, floors: &FloorMap) -> Result<u64, ReadError> {
        let mut bytes = 0;
        for (partition, Floor { floor, .. }) in floors {
            for size in self.sizes(*partition, 0, *floor) {
                bytes += size?.1;
            }
        }
        Ok(bytes)
    }

    /// Writes what goes and is still in memory to tables, where a compaction can leave it out; false when they have no room now.
    fn flush_below(&self, floors: &FloorMap, stale: bool) -> Result<bool, WriteError> {
        if stale {
            // fjall lets go of what was replaced only where that is older than the newest commits.
            self.commit_nothing()?;
            self.commit_nothing()?;
        }
        let mut floors = floors.iter();
        let mut rotated = true;
        if stale || floors.any(|(partition, floor)| self.may_be_in_memory_below(*partition, floor.floor)) {
            rotated = self.rotate_now(&[&self.inner.keyspaces.log])?;
        }
        self.wait_for_flushes();
        Ok(rotated)
    }

    /// fjall keeps the files of earlier versions until a memtable is rotated after a later write.
    fn forget_old_versions(&self) -> Result<(), WriteError> {
        self.commit_nothing()?;
        let Keyspaces { state, modules, .. } = &self.inner.keyspaces;
        // And journals until everything in them is in tables.
        self.rotate_now(&[modules, state])?;
        self.wait_for_flushes();
        Ok(())
    }

    /// False when there is no room to.
    fn rotate_now(&self, keyspaces: &[&fjall::Keyspace]) -> Result<bool, WriteError> {
        let mut writer = self.inner.writer();
        writer.check()?;
        let mut rotated = true;
        for keyspace in keyspaces {
            let result = writer.watch.rotate_now(&self.inner, keyspace);
            rotated &= writer.note(result)?;
        }
        Ok(rotated)
    }

    /// Waits until what is sealed by now has reached the disk.
    fn wait_for_flushes(&self) {
        let since = Instant::now();
        // Under load there is always one that waits.
        let wanted = self.inner.writer().watch.sealed_ever();
        let reached = || self.inner.writer().watch.flushed(&self.inner) >= wanted;
        // Should they stall, the committer finds out.
        while !reached() && since.elapsed() < self.inner.options.flush_stall {
            thread::sleep(FLUSH_POLL);
        }
    }
}

impl Inner {
    /// Whether taking `bytes` back is worth reading all tables of the log and writing what is left of them.
    fn is_worth(&self, bytes: u64) -> bool {
        let tree = &self.keyspaces.log.tree;
        let tables: u64 = tree.current_version().iter_levels().map(|level| level.size()).sum();
        bytes >= self.options.reclaim_bytes_min.max(1)
            && bytes >= tables / 4
            && bytes >= (tree.disk_space() / 8).min(ENOUGH_BYTES)
    }
}

/// Below which offset a partition's batches are left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    /// From which it follows.
    low_watermark: Offset,
    floor: Offset,
}

type FloorMap = HashMap<PartitionId, Floor>;

/// The floors, shared with the compactions.
#[derive(Debug, Default)]
pub(crate) struct Floors(RwLock<Arc<FloorMap>>);

impl Floors {
    fn now(&self) -> Arc<FloorMap> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, floors: Arc<FloorMap>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = floors;
    }
}

impl Factory for Floors {
    fn name(&self) -> &str {
        "low watermarks"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(AboveFloors(self.now()))
    }
}

/// Leaves out what lies below the floors, as they were when the compaction began.
struct AboveFloors(Arc<FloorMap>);

impl CompactionFilter for AboveFloors {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let below = LogKey::decode(item.key())
            .is_some_and(|key| self.0.get(&key.partition).is_some_and(|floor| key.base_offset < floor.floor));
        // Without a tombstone: an older value of the same key that comes to light by that is below the floor as well.
        Ok(if below { Verdict::Destroy } else { Verdict::Keep })
    }
}

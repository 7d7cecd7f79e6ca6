//! A topic as readers and publishers see it: what is committed.

use std::sync::{
    Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use millstream_store::Store;
use millstream_types::{
    Compaction, Durability, Offset, PartitionId, PartitionInfo, PublishRate, Retention, Timestamp,
    TopicConfig, TopicInfo, TopicName,
};
use tokio::sync::watch;

use crate::{
    Error,
    admission::TopicShare,
    ingest::Ingest,
    rows::{IngestRow, TopicRow},
    sources::Follower,
};

/// A topic and how far each of its partitions may be read.
#[derive(Debug)]
pub struct Topic {
    name: TopicName,
    row: TopicRow,
    /// As it is now; that of the row is as it was when the topic was created or found.
    config: RwLock<TopicConfig>,
    share: TopicShare,
    /// There once it has had modules.
    ingest: OnceLock<Arc<Ingest>>,
    ends: Vec<AtomicU64>,
    deleted: AtomicBool,
    /// Wakes readers; the number itself means nothing.
    changed: watch::Sender<u64>,
    /// Wakes those who read other topics as well.
    followers: RwLock<Vec<Weak<Follower>>>,
}

impl Topic {
    pub(crate) fn new(name: TopicName, row: TopicRow, ends: impl Iterator<Item = Offset>) -> Self {
        let ends = ends.map(AtomicU64::new).collect();
        let (config, share) = (RwLock::new(row.config.clone()), TopicShare::new(row.config.rate));
        let (deleted, changed) = (AtomicBool::new(false), watch::Sender::new(0));
        let (ingest, followers) = (OnceLock::new(), RwLock::default());
        let topic = Self { name, row, config, share, ingest, ends, deleted, changed, followers };
        if topic.row.ingest.revision > 0 {
            topic.set_ingest(topic.row.ingest.clone());
        }
        topic
    }

    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// Its settings.
    pub fn config(&self) -> TopicConfig {
        self.now().clone()
    }

    pub(crate) fn retention(&self) -> Retention {
        self.now().retention
    }

    pub(crate) fn compaction(&self) -> Compaction {
        self.now().compaction
    }

    /// How long at least message ids are remembered.
    pub(crate) fn dedup_window_ms(&self) -> u64 {
        self.row.config.dedup_window_ms.into()
    }

    pub(crate) fn set_config(&self, config: &TopicConfig) {
        self.share.rate.set(config.rate);
        self.config.write().unwrap_or_else(PoisonError::into_inner).clone_from(config);
    }

    /// The modules that records go through before they are stored, if there are or were any.
    pub(crate) fn ingest(&self) -> Option<&Arc<Ingest>> {
        self.ingest.get()
    }

    /// The same, if there are any now.
    pub(crate) fn judging(&self) -> Option<&Arc<Ingest>> {
        self.ingest().filter(|ingest| ingest.judges())
    }

    pub(crate) fn set_ingest(&self, row: IngestRow) {
        match self.ingest.get() {
            Some(ingest) => ingest.set(row),
            // Set by the committer alone.
            None => drop(self.ingest.set(Arc::new(Ingest::new(&self.name, &self.row.partitions, row)))),
        }
    }

    fn now(&self) -> RwLockReadGuard<'_, TopicConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its publishers share.
    pub(crate) fn share(&self) -> &TopicShare {
        &self.share
    }

    /// When it was created, ms since the Unix epoch.
    pub(crate) fn created_ms(&self) -> Timestamp {
        self.row.created_ms
    }

    pub(crate) fn is_sync(&self) -> bool {
        self.row.config.durability == Durability::Sync
    }

    pub(crate) fn partitions(&self) -> &[PartitionId] {
        &self.row.partitions
    }

    /// The store's name for partition `index`.
    pub(crate) fn partition(&self, index: u32) -> Result<PartitionId, Error> {
        self.row.partitions.get(index as usize).copied().ok_or_else(|| Error::UnknownPartition {
            topic: self.name.clone(),
            partition: index,
            last: self.row.config.partitions.saturating_sub(1),
        })
    }

    /// One past the newest readable offset of partition `index`.
    pub fn end(&self, index: u32) -> Offset {
        self.ends.get(index as usize).map_or(0, |end| end.load(Ordering::Acquire))
    }

    /// Readers may read up to `end` from now on, and further if they could before: of what was committed together, some waits
    /// for an fsync, and is told later than what came behind it.
    pub(crate) fn set_end(&self, index: usize, end: Offset) {
        if let Some(place) = self.ends.get(index) {
            place.fetch_max(end, Ordering::Release);
        }
        if let Some(partition) = self.row.partitions.get(index) {
            self.followers().iter().filter_map(Weak::upgrade).for_each(|follower| follower.note(*partition));
        }
    }

    pub(crate) fn wake(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
        self.followers().iter().filter_map(Weak::upgrade).for_each(|follower| follower.wake());
    }

    fn followers(&self) -> RwLockReadGuard<'_, Vec<Weak<Follower>>> {
        self.followers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells `follower` as well from now on.
    pub(crate) fn follow(&self, follower: &Arc<Follower>) {
        let mut followers = self.followers.write().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(follower));
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        // Who waits to publish to it learns that it is gone.
        self.share.rate.set(PublishRate::default());
        self.wake();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How it stands, with each partition's offsets.
    pub(crate) fn info(&self, store: &Store) -> TopicInfo {
        let offsets: Vec<_> = (0..)
            .zip(&self.row.partitions)
            .map(|(partition, id)| {
                let row = store.partition(*id).unwrap_or_default();
                let latest = self.end(partition);
                let earliest = row.low_watermark.min(latest);
                let records = (latest - earliest).saturating_sub(row.holes);
                PartitionInfo { partition, earliest, latest, records, bytes: row.bytes }
            })
            .collect();
        TopicInfo {
            name: self.name.clone(),
            config: self.config(),
            created_ms: self.row.created_ms,
            records: offsets.iter().map(|partition| partition.records).sum(),
            bytes: offsets.iter().map(|partition| partition.bytes).sum(),
            ingest: self.ingest().and_then(|ingest| ingest.info()).map(Box::new),
            offsets,
        }
    }

    /// How it stands, without its partitions and the configurations of its modules.
    pub(crate) fn summary(&self, store: &Store) -> TopicInfo {
        let mut info = self.info(store);
        info.offsets.clear();
        if let Some(ingest) = &mut info.ingest {
            ingest.pipeline.iter_mut().for_each(|binding| binding.config.clear());
        }
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A publish to a `sync` and an `interval` topic is told after its fsync, one to the latter that came behind it before.
    #[test]
    fn what_was_readable_stays_readable() {
        let row = TopicRow {
            config: TopicConfig::default(),
            created_ms: 0,
            partitions: vec![PartitionId(0)],
            ingest: IngestRow::default(),
        };
        let topic = Topic::new(TopicName::new("t").unwrap(), row, [0].into_iter());
        for (end, readable) in [(12, 12), (10, 12), (13, 13)] {
            topic.set_end(0, end);
            assert_eq!(topic.end(0), readable);
        }
    }
}

//! A topic as readers and publishers see it: what is committed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use millstream_types::{Durability, Offset, PartitionId, PartitionInfo, TopicConfig, TopicInfo, TopicName};
use tokio::sync::watch;

use crate::{Error, rows::TopicRow};

/// A topic and how far each of its partitions may be read.
#[derive(Debug)]
pub struct Topic {
    name: TopicName,
    row: TopicRow,
    ends: Vec<AtomicU64>,
    deleted: AtomicBool,
    /// Wakes readers; the number itself means nothing.
    changed: watch::Sender<u64>,
}

impl Topic {
    pub(crate) fn new(name: TopicName, row: TopicRow, ends: impl Iterator<Item = Offset>) -> Self {
        let ends = ends.map(AtomicU64::new).collect();
        Self { name, row, ends, deleted: AtomicBool::new(false), changed: watch::Sender::new(0) }
    }

    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// Its settings.
    pub fn config(&self) -> &TopicConfig {
        &self.row.config
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

    pub(crate) fn set_end(&self, index: usize, end: Offset) {
        if let Some(place) = self.ends.get(index) {
            place.store(end, Ordering::Release);
        }
    }

    pub(crate) fn wake(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How it stands, with each partition's offsets.
    pub fn info(&self) -> TopicInfo {
        let offsets = (0..self.row.config.partitions)
            .map(|partition| PartitionInfo { partition, earliest: 0, latest: self.end(partition) })
            .collect();
        TopicInfo { offsets, ..self.summary() }
    }

    /// How it stands, without its partitions.
    pub fn summary(&self) -> TopicInfo {
        TopicInfo {
            name: self.name.clone(),
            config: self.row.config.clone(),
            created_ms: self.row.created_ms,
            records: (0..self.row.config.partitions).map(|partition| self.end(partition)).sum(),
            offsets: Vec::new(),
        }
    }
}

//! What a subscription reads: the partitions of a topic, or of all topics that a pattern means, those included that are
//! made later.
//!
//! Within a subscription a partition goes by its index in this list, which only grows while the broker runs: of one
//! topic that is the partition's own number. Consumers know those of several topics by the store's number, which holds
//! over restarts and is never given again.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use millstream_types::{Offset, PartitionId, TopicPartition};
use tokio::sync::watch;

use crate::{Error, Topic};

/// See the module's head.
#[derive(Debug)]
pub(crate) enum Sources {
    /// All partitions of a topic.
    One(Arc<Topic>),
    /// Those of several, which come and go.
    Several(Several),
}

#[derive(Debug, Default)]
pub(crate) struct Several {
    /// Ascending by id.
    parts: RwLock<Vec<Part>>,
    follower: Arc<Follower>,
}

/// What topics tell a subscription that reads several: there may be very many, so that it must not look at all of them
/// whenever one of them changed.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// Wakes readers, as a topic's does.
    changed: watch::Sender<u64>,
    /// Partitions of which there is news since its reader looked.
    fresh: Mutex<BTreeSet<PartitionId>>,
}

impl Follower {
    /// There is news of a partition; to be told before [`wake`](Self::wake).
    pub(crate) fn note(&self, partition: PartitionId) {
        // A reader that comes looks at all of them first.
        if self.changed.receiver_count() == 0 {
            return;
        }
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(partition);
    }

    fn take(&self) -> BTreeSet<PartitionId> {
        std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn wake(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

#[derive(Debug)]
struct Part {
    id: PartitionId,
    /// Partition within the topic; `None` once that was deleted.
    of: Option<(Arc<Topic>, u32)>,
}

/// A partition that a subscription reads.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it belongs.
    pub topic: Arc<Topic>,
    /// Partition within the topic.
    pub partition: u32,
    pub(crate) id: PartitionId,
    /// Among what the subscription reads.
    pub(crate) index: u32,
    several: bool,
}

impl Place {
    /// Partition `index` of the one topic that is read.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub(crate) fn of_one(topic: &Arc<Topic>, index: u32) -> Result<Self, Error> {
        let id = topic.partition(index)?;
        Ok(Self { topic: Arc::clone(topic), partition: index, id, index, several: false })
    }

    /// What consumers know it by.
    pub fn number(&self) -> u32 {
        if self.several { self.id.0 } else { self.partition }
    }

    /// What that means, where it is not the partition within the one topic.
    pub fn of(&self) -> Option<TopicPartition> {
        let of = || TopicPartition { topic: self.topic.name().clone(), partition: self.partition };
        self.several.then(of)
    }

    /// One past the newest readable offset.
    pub fn end(&self) -> Offset {
        self.topic.end(self.partition)
    }
}

impl Sources {
    pub(crate) fn several<'a>(topics: impl Iterator<Item = &'a Arc<Topic>>) -> Self {
        let several = Several::default();
        for topic in by_age(topics) {
            several.attach(topic);
        }
        Self::Several(several)
    }

    /// How many there are, those included that are gone.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(topic) => topic.partitions().len(),
            Self::Several(several) => several.parts().len(),
        }
    }

    /// The partition at `index`; `None` where there is none, or none any more.
    pub(crate) fn place(&self, index: u32) -> Option<Place> {
        match self {
            Self::One(topic) => Place::of_one(topic, index).ok(),
            Self::Several(several) => {
                let parts = several.parts();
                let Part { id, of } = parts.get(index as usize)?;
                let (topic, partition) = of.clone()?;
                Some(Place { topic, partition, id: *id, index, several: true })
            }
        }
    }

    /// Partition `partition` of the topic called `topic`, if that is read.
    pub(crate) fn find(&self, topic: &str, partition: u32) -> Option<Place> {
        match self {
            Self::One(one) if one.name().as_str() == topic => self.place(partition),
            Self::One(_) => None,
            Self::Several(several) => {
                let same = |(of, at): &(Arc<Topic>, u32)| *at == partition && of.name().as_str() == topic;
                let index = several.parts().iter().position(|part| part.of.as_ref().is_some_and(same));
                index.and_then(|index| self.place(u32::try_from(index).ok()?))
            }
        }
    }

    /// All that are there.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).filter_map(|index| self.place(index))
    }

    /// One past the newest readable offset of the partition at `index`; `None` where there is none any more.
    pub(crate) fn end(&self, index: u32) -> Option<Offset> {
        match self {
            Self::One(topic) => Some(topic.end(index)),
            Self::Several(several) => {
                let parts = several.parts();
                let (topic, partition) = parts.get(index as usize)?.of.as_ref()?;
                // One that was deleted before the subscription was there to be told.
                (!topic.is_deleted()).then(|| topic.end(*partition))
            }
        }
    }

    /// The store's number of the partition at `index`, also of one that is gone.
    pub(crate) fn id(&self, index: u32) -> Option<PartitionId> {
        match self {
            Self::One(topic) => topic.partitions().get(index as usize).copied(),
            Self::Several(several) => several.parts().get(index as usize).map(|part| part.id),
        }
    }

    /// Where the partition with the store's number `id` is.
    pub(crate) fn index(&self, id: PartitionId) -> Option<u32> {
        let found = match self {
            Self::One(topic) => topic.partitions().binary_search(&id),
            Self::Several(several) => several.parts().binary_search_by_key(&id, |part| part.id),
        };
        found.ok().and_then(|index| u32::try_from(index).ok())
    }

    /// Where the partition is that a consumer knows as `number`; of several topics it may be gone, which is no index then.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`] where there is one topic, without it.
    pub(crate) fn index_of(&self, number: u32) -> Result<u32, Error> {
        match self {
            Self::One(topic) => topic.partition(number).map(|_| number),
            Self::Several(_) => Ok(self.index(PartitionId(number)).unwrap_or(u32::MAX)),
        }
    }

    /// Whether there is nothing to read any more, nor ever will be.
    pub(crate) fn gone(&self) -> Option<&Arc<Topic>> {
        match self {
            Self::One(topic) => Some(topic).filter(|topic| topic.is_deleted()),
            Self::Several(_) => None,
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        match self {
            Self::One(topic) => topic.changes(),
            Self::Several(several) => several.follower.changed.subscribe(),
        }
    }

    /// Readers look again.
    pub(crate) fn wake(&self) {
        match self {
            Self::One(topic) => topic.wake(),
            Self::Several(several) => several.follower.wake(),
        }
    }

    /// The partitions of which there is news since the last time; `None` where it may be any.
    pub(crate) fn take_fresh(&self) -> Option<Vec<u32>> {
        let Self::Several(several) = self else { return None };
        // Not held while the list is looked at: who removes a topic from that tells it here.
        let fresh = several.follower.take();
        Some(fresh.into_iter().filter_map(|id| self.index(id)).collect())
    }
}

impl Several {
    /// A topic is read as well from now on, one that was made after those before; false if it was already.
    pub(crate) fn attach(&self, topic: &Arc<Topic>) -> bool {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let known = |first| parts.binary_search_by_key(first, |part| part.id).is_ok();
        if topic.partitions().first().is_none_or(known) {
            return false;
        }
        parts.extend(
            (0..)
                .zip(topic.partitions())
                .map(|(partition, id)| Part { id: *id, of: Some((Arc::clone(topic), partition)) }),
        );
        drop(parts);
        topic.follow(&self.follower);
        true
    }

    /// A topic is gone; where its partitions were.
    pub(crate) fn detach(&self, topic: &Topic) -> Vec<u32> {
        let mut gone = Vec::new();
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        for id in topic.partitions() {
            if let Ok(index) = parts.binary_search_by_key(id, |part| part.id)
                && let Some(part) = parts.get_mut(index)
            {
                part.of = None;
                gone.extend(u32::try_from(index));
                self.follower.note(*id);
            }
        }
        gone
    }

    fn parts(&self) -> RwLockReadGuard<'_, Vec<Part>> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The topics in the order in which they were made, as they are attached.
pub(crate) fn by_age<'a>(topics: impl Iterator<Item = &'a Arc<Topic>>) -> Vec<&'a Arc<Topic>> {
    let mut topics: Vec<_> = topics.collect();
    topics.sort_by_key(|topic| topic.partitions().first().copied());
    topics
}

//! What there is, as committed: shared by everybody who reads, changed by the committer alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use millstream_types::{ModuleName, Offset, PartitionId, SubscriptionName, TopicName};

use crate::{
    Error, Subscription, Topic,
    rows::{ModuleRow, SubscriptionRow},
    shard::{Effect, PartitionCursor, Shard},
};

/// What there is, as committed.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    topics: BTreeMap<TopicName, Arc<Topic>>,
    partitions: HashMap<PartitionId, (Arc<Topic>, usize)>,
    subscriptions: BTreeMap<SubscriptionName, Arc<Subscription>>,
    modules: BTreeMap<ModuleName, ModuleRow>,
}

impl Catalog {
    /// The catalog of a shard that was just recovered.
    pub(crate) fn of(shard: &Shard) -> Self {
        let catalog = Self::default();
        {
            let mut inner = catalog.write();
            for (name, row) in &shard.topics {
                let ends =
                    row.partitions.iter().map(|id| shard.partitions.get(id).map_or(0, |state| state.next));
                inner.add_topic(Topic::new(name.clone(), row.clone(), ends));
            }
            for (id, state) in &shard.subscriptions {
                inner.add_subscription(*id, state.row.clone(), state.cursors.clone());
            }
            inner.modules = shard.modules.clone();
        }
        catalog
    }

    /// Makes what a group commit did visible, and wakes whom it concerns.
    pub(crate) fn carry_out(&self, effects: Vec<Effect>) {
        let mut woken: Vec<Arc<Topic>> = Vec::new();
        let (ends, others): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::End { .. }));
        if !others.is_empty() {
            let mut inner = self.write();
            for effect in others {
                inner.carry_out(effect);
            }
        }
        let inner = self.read();
        for effect in ends {
            let Effect::End { partition, end } = effect else { continue };
            let Some((topic, index)) = inner.partitions.get(&partition) else { continue };
            topic.set_end(*index, end);
            if !woken.iter().any(|seen| Arc::ptr_eq(seen, topic)) {
                woken.push(Arc::clone(topic));
            }
        }
        drop(inner);
        for topic in woken {
            topic.wake();
        }
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, Error> {
        self.read().topics.get(name).cloned().ok_or_else(|| Error::UnknownTopic(name.clone()))
    }

    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.read().topics.values().cloned().collect()
    }

    pub(crate) fn subscription(&self, name: &SubscriptionName) -> Result<Arc<Subscription>, Error> {
        self.read().subscriptions.get(name).cloned().ok_or_else(|| Error::UnknownSubscription(name.clone()))
    }

    pub(crate) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        self.read().subscriptions.values().cloned().collect()
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.read().subscriptions.len()
    }

    /// Adds an ephemeral subscription; at most `max` there may be.
    pub(crate) fn add_ephemeral(&self, subscription: Arc<Subscription>, max: usize) -> Result<(), Error> {
        let mut inner = self.write();
        let found = inner.subscriptions.len();
        if found >= max {
            return Err(Error::TooManySubscriptions { found });
        }
        inner.subscriptions.insert(subscription.name().clone(), subscription);
        Ok(())
    }

    pub(crate) fn remove_ephemeral(&self, name: &SubscriptionName) {
        self.write().subscriptions.remove(name);
    }

    pub(crate) fn modules(&self) -> Vec<(ModuleName, ModuleRow)> {
        self.read().modules.iter().map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    /// Whether a subscription, ephemeral ones included, binds these bytes.
    pub(crate) fn binds(&self, sha256: &[u8; 32]) -> bool {
        self.read().subscriptions.values().any(|subscription| subscription.binds(sha256))
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::End { .. } => {}
            Effect::TopicCreated { name, row } => {
                let ends = vec![0 as Offset; row.partitions.len()];
                self.add_topic(Topic::new(name, row, ends.into_iter()));
            }
            Effect::TopicUpdated { name, config } => {
                if let Some(topic) = self.topics.get(&name) {
                    topic.set_retention(config.retention);
                    topic.set_rate(config.rate);
                }
            }
            Effect::TopicDeleted { name, partitions } => {
                for partition in partitions {
                    self.partitions.remove(&partition);
                }
                if let Some(topic) = self.topics.remove(&name) {
                    topic.delete();
                }
            }
            Effect::SubscriptionCreated { id, row, cursors } => {
                self.add_subscription(id, row, cursors.into_iter().map(PartitionCursor::from).collect());
            }
            Effect::Routed { name, partition, next } => {
                if let Some(subscription) = self.subscriptions.get(&name) {
                    subscription.set_routed(partition, next);
                }
            }
            Effect::Moved { name, settled, reopened } => {
                if let Some(subscription) = self.subscriptions.get(&name) {
                    subscription.moved(&settled, &reopened);
                }
            }
            Effect::SubscriptionDeleted { name } => {
                if let Some(subscription) = self.subscriptions.remove(&name) {
                    subscription.delete();
                }
            }
            Effect::ModuleStored { name, row } => {
                self.modules.insert(name, row);
            }
        }
    }

    fn add_topic(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        for (index, partition) in topic.partitions().iter().enumerate() {
            self.partitions.insert(*partition, (Arc::clone(&topic), index));
        }
        self.topics.insert(topic.name().clone(), topic);
    }

    fn add_subscription(&mut self, id: u32, row: SubscriptionRow, cursors: Vec<PartitionCursor>) {
        // A subscription goes with its topic in one commit, so the topic is there.
        let Some(topic) = self.topics.get(&row.topic) else { return };
        let subscription = Subscription::durable(id, row, Arc::clone(topic), cursors);
        self.subscriptions.insert(subscription.name().clone(), Arc::new(subscription));
    }
}

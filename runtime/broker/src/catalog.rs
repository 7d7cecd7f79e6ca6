//! What there is, as committed: shared by everybody who reads, changed by the committer alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use millstream_engine::StateSize;
use millstream_types::{ModuleName, ModuleUsage, Offset, PartitionId, SubscriptionName, TopicName};

use crate::{
    Error, Subscription, Topic,
    bindings::PinnedBinding,
    rows::{ModuleRow, SubscriptionRow},
    shard::{Effect, PartitionCursor, Shard},
    sources::{Sources, by_age},
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
                inner.add_subscription(*id, state.row.clone(), state.cursors.clone(), state.state);
            }
            inner.modules = shard.modules.named.clone();
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

    /// What a subscription would read.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] where it is to read one topic, which is not there.
    pub(crate) fn sources(&self, row: &SubscriptionRow) -> Result<Sources, Error> {
        self.read().sources(row)
    }

    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.read().topics.values().cloned().collect()
    }

    pub(crate) fn topic_count(&self) -> usize {
        self.read().topics.len()
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
        // Those that were made since it was looked which there are.
        if subscription.reads_several() {
            by_age(inner.topics.values()).into_iter().for_each(|topic| subscription.attach(topic));
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

    /// A named module with these bytes.
    pub(crate) fn module_of(&self, sha256: &[u8; 32]) -> Option<ModuleRow> {
        self.read().modules.values().find(|row| row.sha256 == *sha256).cloned()
    }

    /// The subscriptions, ephemeral ones included, and the topics of whose bindings one is as `wanted`.
    pub(crate) fn binders(
        &self,
        wanted: impl Fn(&PinnedBinding) -> bool,
    ) -> (Vec<SubscriptionName>, Vec<TopicName>) {
        let inner = self.read();
        let binders = inner.subscriptions.values();
        let binders = binders.filter(|subscription| subscription.binds(&wanted));
        let topics = inner.topics.values();
        let topics = topics.filter(|topic| topic.ingest().is_some_and(|ingest| ingest.binds(&wanted)));
        (
            binders.map(|subscription| subscription.name().clone()).collect(),
            topics.map(|topic| topic.name().clone()).collect(),
        )
    }

    /// What the module called `name` has used in all subscriptions and ingests; none where it was not called.
    pub(crate) fn usage(&self, name: &str) -> Option<ModuleUsage> {
        // Not to hold up commits meanwhile.
        let (subscriptions, topics) = (self.subscriptions(), self.topics());
        let subscriptions = subscriptions.iter().filter_map(|subscription| subscription.used_by(name));
        let ingests = topics.iter().filter_map(|topic| topic.ingest()?.used_by(name));
        subscriptions.chain(ingests).reduce(|mut all, more| {
            all.add(&more);
            all
        })
    }

    /// How many subscriptions, ephemeral ones included, and topics' ingests bind each module that is bound.
    pub(crate) fn bound(&self) -> HashMap<String, u64> {
        let (mut bound, inner) = (HashMap::new(), self.read());
        let subscriptions = inner.subscriptions.values().map(|subscription| subscription.bound_modules());
        let topics = inner.topics.values().filter_map(|topic| topic.ingest());
        for module in subscriptions.chain(topics.map(|ingest| ingest.bound_modules())).flatten() {
            *bound.entry(module).or_default() += 1;
        }
        bound
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
                let topic = self.add_topic(Topic::new(name, row, ends.into_iter()));
                self.subscriptions.values().for_each(|subscription| subscription.attach(&topic));
            }
            Effect::TopicUpdated { name, config } => {
                if let Some(topic) = self.topics.get(&name) {
                    topic.set_config(&config);
                }
            }
            Effect::IngestSet { name, ingest } => {
                if let Some(topic) = self.topics.get(&name) {
                    topic.set_ingest(ingest);
                }
            }
            Effect::TopicDeleted { name, partitions } => {
                for partition in partitions {
                    self.partitions.remove(&partition);
                }
                if let Some(topic) = self.topics.remove(&name) {
                    self.subscriptions.values().for_each(|subscription| subscription.detach(&topic));
                    topic.delete();
                }
            }
            Effect::SubscriptionCreated { id, row, cursors } => {
                self.add_subscription(id, *row, cursors, StateSize::default());
            }
            Effect::Routed { name, partition, next, again } => {
                if let Some(subscription) = self.subscriptions.get(&name) {
                    subscription.routed_through(partition, next, &again);
                }
            }
            Effect::Moved { name, settled, reopened, unrouted } => {
                if let Some(subscription) = self.subscriptions.get(&name) {
                    subscription.moved(&settled, &reopened, &unrouted);
                }
            }
            Effect::SubscriptionDeleted { name } => {
                if let Some(subscription) = self.subscriptions.remove(&name) {
                    subscription.delete();
                }
            }
            Effect::Rebound { name, bindings } => {
                if let Some(subscription) = self.subscriptions.get(&name) {
                    subscription.rebind(*bindings);
                }
            }
            Effect::Processed { name, partition, range, size } => {
                if let Some(subscription) = self.subscriptions.get(&name) {
                    subscription.processed(partition, range, size);
                }
            }
            Effect::ProcessorChanged { name, change } => {
                if let Some(subscription) = self.subscriptions.get(&name) {
                    subscription.change(change);
                }
            }
            Effect::ModuleStored { name, row } => {
                self.modules.insert(name, row);
            }
            Effect::ModuleDeleted { name } => {
                self.modules.remove(&name);
            }
        }
    }

    fn add_topic(&mut self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        for (index, partition) in topic.partitions().iter().enumerate() {
            self.partitions.insert(*partition, (Arc::clone(&topic), index));
        }
        self.topics.insert(topic.name().clone(), Arc::clone(&topic));
        topic
    }

    /// What a subscription reads.
    fn sources(&self, row: &SubscriptionRow) -> Result<Sources, Error> {
        if let Some(name) = row.only_topic() {
            let topic = self.topics.get(&name).cloned().ok_or(Error::UnknownTopic(name))?;
            return Ok(Sources::One(topic));
        }
        Ok(Sources::several(self.topics.values().filter(|topic| row.reads(topic.name()))))
    }

    fn add_subscription(
        &mut self,
        id: u32,
        row: SubscriptionRow,
        cursors: Vec<(PartitionId, PartitionCursor)>,
        state: StateSize,
    ) {
        // A subscription goes with its topic in one commit, so the topic is there.
        let Ok(sources) = self.sources(&row) else { return };
        let subscription = Subscription::durable(id, row, sources, cursors, state);
        self.subscriptions.insert(subscription.name().clone(), Arc::new(subscription));
    }
}

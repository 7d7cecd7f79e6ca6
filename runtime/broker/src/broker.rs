//! The broker as the server uses it: opened on a directory, asked for things, closed.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use millstream_engine::{Engine, Workers};
use millstream_store::{Cleanup, RemovedPartition, Store};
use millstream_types::{
    DeadLetters, DeliveryConfig, DeliveryMode, ModuleInfo, ModuleName, Offset, PartitionId, ProducerId,
    ProducerName, RecordBatch, StartAt, SubscriptionInfo, SubscriptionName, Timestamp, TopicChange,
    TopicConfig, TopicInfo, TopicName,
};
use tokio::sync::watch;

use crate::{
    Error, Limits, Member, NewSubscription, Reading, Subscription, Topic, Window,
    catalog::Catalog,
    command::{Command, Outcome, Reply, Settlement},
    committer::{Committer, Submitter, answer},
    dead_letter,
    group::Moment,
    limits::{MODULE_JOBS_MAX, ONE_SHOT_WAIT},
    recover::recover,
    registry::Registry,
    retention,
    rows::{self, CursorRow, ModuleRow, NODE, SubscriptionRow},
    sources::Sources,
    start_at::start_positions,
};

/// How to open a broker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Everything is kept below here.
    pub data_dir: PathBuf,
    /// Of the store.
    pub store: millstream_store::Options,
    /// Bounds of what the broker holds.
    pub limits: Limits,
    /// Bounds of each module.
    pub module_limits: millstream_engine::Limits,
    /// Modules that come with the broker.
    pub stock: Vec<StockModule>,
}

/// A module that comes with the broker.
#[derive(Debug, Clone, Copy)]
pub struct StockModule {
    /// `std/NAME`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The component.
    pub wasm: &'static [u8],
}

/// Why a broker does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] millstream_store::OpenError),
    /// The module engine does not start.
    #[error(transparent)]
    Engine(#[from] millstream_engine::EngineError),
    /// What the store holds cannot be read, or the machine refuses.
    #[error(transparent)]
    Broker(#[from] Error),
}

/// A broker; cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) registry: Registry,
    pub(crate) workers: Workers,
    pub(crate) submitter: Submitter,
    /// What leases are measured from.
    started: Instant,
    pub(crate) limits: Limits,
    node: String,
    fatal: watch::Receiver<Option<String>>,
    committer: std::sync::Mutex<Option<JoinHandle<()>>>,
    retention: retention::Thread,
}

impl Broker {
    /// Opens the broker in its directory, creating it if there is none. Blocks while the store recovers.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way and what to do.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        let (store, recovery) = Store::open(&settings.data_dir.join("store"), &settings.store)?;
        if let Some(loss) = &recovery.loss {
            tracing::error!(%loss, "acknowledged records are lost, as was accepted");
        }
        if let Some(torn) = &recovery.torn {
            tracing::warn!(?torn, "an unacknowledged write was torn by a power loss, and cut off");
        }
        let shard = recover(&store, settings.limits.clone())?;
        let node = node_id(&store)?;
        let catalog = Arc::new(Catalog::of(&shard));
        let engine = Engine::new(&millstream_engine::Settings {
            cache_dir: Some(settings.data_dir.join("compiled")),
            ..millstream_engine::Settings::default()
        })?;
        let registry = Registry::new(
            engine,
            settings.module_limits,
            store.clone(),
            Arc::clone(&catalog),
            &settings.stock,
        )?;
        let (queue, commands) = mpsc::channel();
        let (fatal_sender, fatal) = watch::channel(None);
        let committer = Committer {
            shard,
            store: store.clone(),
            catalog: Arc::clone(&catalog),
            queue: commands,
            sync_interval: settings.limits.sync_interval,
            fatal: fatal_sender,
        };
        let thread = std::thread::Builder::new().name("committer".into()).spawn(move || committer.run());
        let thread =
            thread.map_err(|error| Error::Internal(format!("no thread for the committer: {error}")))?;
        let submitter = Submitter::new(queue, settings.limits.commit_backlog_bytes);
        let interval = settings.limits.retention_interval;
        let shared = Shared {
            retention: retention::Thread::start(&store, &catalog, &submitter, interval)?,
            submitter,
            workers: Workers::start(0, MODULE_JOBS_MAX)?,
            store,
            catalog,
            registry,
            started: Instant::now(),
            limits: settings.limits,
            node,
            fatal,
            committer: std::sync::Mutex::new(Some(thread)),
        };
        let broker = Self { shared: Arc::new(shared) };
        broker.resume_cleanups()?;
        Ok(broker)
    }

    /// Identity of the data directory.
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.shared.store.stats().disk_bytes
    }

    /// Resolves, with the cause, once the store is in doubt: the process must stop then. Cancel-safe.
    pub async fn failed(&self) -> String {
        let mut fatal = self.shared.fatal.clone();
        match fatal.wait_for(Option::is_some).await {
            Ok(cause) => cause.clone().unwrap_or_default(),
            // The committer ended in good order.
            Err(_) => std::future::pending().await,
        }
    }

    /// Refuses new commands, finishes those that were handed in, and syncs. Blocks.
    pub fn close(&self) {
        self.shared.retention.stop();
        self.shared.submitter.close();
        let thread = self.shared.committer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committer panicked");
        }
    }

    /// The topic called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    pub fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, Error> {
        self.shared.catalog.topic(name)
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.shared.catalog.topics().iter().map(|topic| topic.summary(&self.shared.store)).collect()
    }

    /// The topic called `name` as it stands.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    pub fn describe_topic(&self, name: &TopicName) -> Result<TopicInfo, Error> {
        Ok(self.topic(name)?.info(&self.shared.store))
    }

    /// Changes settings of a topic. Not cancel-safe: they may be changed all the same.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    pub async fn update_topic(&self, name: &TopicName, changes: Vec<TopicChange>) -> Result<(), Error> {
        self.execute(Command::UpdateTopic { name: name.clone(), changes }).await?;
        Ok(())
    }

    /// Creates a topic, or finds it there with the same settings. Not cancel-safe: it may be created all the same.
    ///
    /// # Errors
    /// [`Error::TopicExists`], [`Error::Partitions`], [`Error::LimitReached`].
    pub async fn create_topic(&self, name: &TopicName, config: TopicConfig) -> Result<Arc<Topic>, Error> {
        self.execute(Command::CreateTopic { name: name.clone(), config, now: now() }).await?;
        self.topic(name)
    }

    /// Deletes a topic, its records and its subscriptions. The disk space comes back in the background.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), Error> {
        let partitions = self.topic(name)?.partitions().to_vec();
        self.execute(Command::DeleteTopic { name: name.clone() }).await?;
        self.clean_up(partitions)
    }

    /// The identity of a producer: what it was given before, if that still holds, or a new one for it if it begins `anew`;
    /// that of `name`, taken from whoever has it; or a new one. Not cancel-safe: a name may be taken all the same.
    ///
    /// # Errors
    /// [`Error::ProducerFenced`] when `name` was taken by another since; [`Error::LimitReached`].
    pub async fn open_producer(
        &self,
        name: Option<ProducerName>,
        resume: Option<ProducerId>,
        anew: bool,
    ) -> Result<ProducerId, Error> {
        // 0 stands for a producer without identity.
        let fresh = u64::from_le_bytes(random()?).max(1);
        match (name, resume) {
            (None, Some(resume)) if !anew => Ok(resume),
            (None, _) => Ok(ProducerId { id: fresh, epoch: 0 }),
            (Some(name), resume) => {
                let command = Command::OpenProducer { name, id: fresh, resume, anew };
                match self.execute(command).await? {
                    Outcome::Producer(producer) => Ok(producer),
                    other => Err(Error::Internal(format!("opening a producer was answered by {other:?}"))),
                }
            }
        }
    }

    /// Stores a module after trying it out: under `name`, or private to the subscriptions that will bind it.
    ///
    /// # Errors
    /// [`Error::ModuleRefused`], [`Error::ModuleExists`], [`Error::ReservedName`].
    pub async fn put_module(&self, name: Option<ModuleName>, wasm: Bytes) -> Result<ModuleInfo, Error> {
        if let Some(name) = &name {
            Registry::check_name(name)?;
        }
        let (shared, checked) = (Arc::clone(&self.shared), wasm.clone());
        let row = blocking(move || shared.registry.check(&checked)).await??;
        let row = ModuleRow { stored_ms: now(), ..row };
        let reference = match &name {
            Some(name) => name.to_string(),
            None => format!("sha256:{}", hex::encode(row.sha256)),
        };
        self.execute(Command::PutModule { name, row, wasm }).await?;
        self.shared.registry.describe(&reference)
    }

    /// All named modules, those of the broker first.
    pub fn modules(&self) -> Vec<ModuleInfo> {
        self.shared.registry.list()
    }

    /// What `reference` means now.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn module(&self, reference: &str) -> Result<ModuleInfo, Error> {
        self.shared.registry.describe(reference)
    }

    /// All subscriptions, by name, ephemeral ones included, without their positions.
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        let summary = |info| SubscriptionInfo { positions: Vec::new(), ..info };
        self.shared.catalog.subscriptions().iter().map(|subscription| summary(subscription.info())).collect()
    }

    /// Number of subscriptions, ephemeral ones included.
    pub fn subscription_count(&self) -> usize {
        self.shared.catalog.subscription_count()
    }

    /// The subscription called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownSubscription`].
    pub fn subscription(&self, name: &SubscriptionName) -> Result<Arc<Subscription>, Error> {
        self.shared.catalog.subscription(name)
    }

    /// How a subscription stands, with the age of what is oldest in its backlog. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::UnknownSubscription`]; a failing store.
    pub async fn describe_subscription(&self, name: &SubscriptionName) -> Result<SubscriptionInfo, Error> {
        let subscription = self.subscription(name)?;
        let (store, mut info) = (self.shared.store.clone(), subscription.info());
        let behind = subscription.places().into_iter().filter(|(place, settled)| *settled < place.end());
        let behind: Vec<_> = behind.map(|(place, settled)| (place.id, settled)).collect();
        if !behind.is_empty() {
            info.oldest_unsettled_ms = blocking(move || oldest(&store, &behind)).await??;
        }
        Ok(info)
    }

    /// Creates a durable subscription, or finds it there with the same settings. Its modules are bound once, so that a
    /// bad configuration is refused here. Not cancel-safe: it may be created all the same.
    ///
    /// # Errors
    /// Those of [`subscribe`](Self::subscribe) but [`Error::SubscriptionBusy`].
    pub async fn create_subscription(
        &self,
        name: SubscriptionName,
        wanted: NewSubscription,
    ) -> Result<Arc<Subscription>, Error> {
        check_own(&name)?;
        let row = self.row(name, &wanted)?;
        self.check_delivery(&row)?;
        let (sources, cursors) = self.start(&row, &wanted.from).await?;
        let trial = Arc::new(Subscription::ephemeral(row.clone(), sources, &cursors));
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.registry.bind(&trial).map(drop)).await??;
        let name = row.name.clone();
        self.execute(Command::CreateSubscription { row, cursors }).await?;
        self.subscription(&name)
    }

    /// Deletes a durable subscription; its reader is told.
    ///
    /// # Errors
    /// [`Error::UnknownSubscription`].
    pub async fn delete_subscription(&self, name: &SubscriptionName) -> Result<(), Error> {
        check_own(name)?;
        self.execute(Command::DeleteSubscription { name: name.clone() }).await?;
        Ok(())
    }

    /// Takes a subscription for one reader: the durable one named, created if there is none, or an ephemeral one.
    /// Not cancel-safe: a durable one may be created all the same.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::OffsetOutOfRange`], [`Error::SubscriptionExists`], [`Error::SubscriptionBusy`],
    /// [`Error::UnknownModule`], [`Error::ModuleRefused`], [`Error::ConfigRefused`], [`Error::LimitReached`].
    pub async fn subscribe(&self, wanted: NewSubscription) -> Result<Reading, Error> {
        let subscription = match wanted.name.clone() {
            Some(name) => match self.subscription(&name) {
                Ok(found) => self.same(found, &wanted)?,
                Err(_) => self.create_subscription(name, wanted).await?,
            },
            None => self.create_ephemeral(wanted).await?,
        };
        let held = subscription.hold()?;
        Reading::start(Arc::clone(&self.shared), held).await
    }

    /// Joins the consumers of a durable subscription, created, `shared` unless told otherwise, if there is none, as one that leases its records. Not
    /// cancel-safe: the subscription may be created all the same.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe); [`Error::WorkerNeedsName`], [`Error::TooManyConsumers`].
    pub async fn join(&self, wanted: NewSubscription, window: Window) -> Result<Member, Error> {
        let name = wanted.name.clone().ok_or(Error::WorkerNeedsName)?;
        check_own(&name)?;
        let subscription = match self.subscription(&name) {
            Ok(found) => self.same(found, &wanted)?,
            Err(_) => {
                let delivery = wanted.delivery.clone().unwrap_or(DeliveryConfig::of(DeliveryMode::Shared));
                self.create_subscription(name, NewSubscription { delivery: Some(delivery), ..wanted }).await?
            }
        };
        Member::join(Arc::clone(&self.shared), subscription, window)
    }

    /// Moves a subscription's settled positions forward: per partition, as consumers know it, everything below the offset
    /// is done.
    ///
    /// # Errors
    /// [`Error::AckBeyond`], [`Error::UnknownPartition`]; earlier positions of `next` may have been moved.
    pub async fn ack(&self, subscription: &Subscription, next: Vec<(u32, Offset)>) -> Result<(), Error> {
        let mut settlements = Vec::new();
        for (number, offset) in next {
            let index = subscription.sources().index_of(number)?;
            let done = subscription.settle(index, offset)?;
            let settlement = Settlement { done, tried: Vec::new() };
            settlements.extend(subscription.sources().id(index).map(|partition| (partition, settlement)));
        }
        if let Some(id) = subscription.id() {
            self.shared.submitter.execute(Command::Settle { subscription: id, settlements }).await?;
        }
        Ok(())
    }

    fn same(&self, found: Arc<Subscription>, wanted: &NewSubscription) -> Result<Arc<Subscription>, Error> {
        let row = found.row();
        let wanted_delivery = wanted.delivery.as_ref().unwrap_or(&row.delivery);
        let wanted_row =
            SubscriptionRow { topic: wanted.topic.clone(), delivery: wanted_delivery.clone(), ..row.clone() };
        if let Some(what) = row.differs_from(&wanted_row) {
            return Err(Error::SubscriptionExists { name: row.name.clone(), what });
        }
        let exists = |what| Err(Error::SubscriptionExists { name: row.name.clone(), what });
        if let Some(pipeline) = &wanted.pipeline {
            let pinned = pipeline.iter().map(|binding| self.shared.registry.pin(binding));
            let same = |(a, b): (&rows::PinnedBinding, &rows::PinnedBinding)| {
                a.sha256 == b.sha256 && same_json(&a.config, &b.config)
            };
            let pinned = pinned.collect::<Result<Vec<_>, _>>()?;
            if pinned.len() != row.pipeline.len() || !pinned.iter().zip(&row.pipeline).all(same) {
                return exists("pipeline");
            }
            if row.on_fault != wanted.on_fault {
                return exists("fault policy");
            }
        }
        Ok(found)
    }

    async fn create_ephemeral(&self, wanted: NewSubscription) -> Result<Arc<Subscription>, Error> {
        let name = SubscriptionName::new(format!("ephemeral-{}", random_hex::<8>()?));
        let row = self.row(name.map_err(|error| Error::Internal(error.to_string()))?, &wanted)?;
        let (sources, cursors) = self.start(&row, &wanted.from).await?;
        let subscription = Arc::new(Subscription::ephemeral(row, sources, &cursors));
        self.shared.catalog.add_ephemeral(Arc::clone(&subscription), self.shared.limits.subscriptions_max)?;
        Ok(subscription)
    }

    fn row(&self, name: SubscriptionName, wanted: &NewSubscription) -> Result<SubscriptionRow, Error> {
        let bindings = wanted.pipeline.iter().flatten().map(|binding| self.shared.registry.pin(binding));
        Ok(SubscriptionRow {
            name,
            topic: wanted.topic.clone(),
            pipeline: bindings.collect::<Result<_, _>>()?,
            on_fault: wanted.on_fault,
            delivery: wanted.delivery.clone().unwrap_or_default(),
            created_ms: now(),
        })
    }

    fn check_delivery(&self, row: &SubscriptionRow) -> Result<(), Error> {
        row.delivery.check()?;
        if let Some(letters) = dead_letter::topic_of(&row.name, &row.delivery)? {
            if row.topic.as_topic().as_ref() == Some(&letters) {
                return Err(Error::DeadLettersToSource(row.name.clone()));
            }
            if matches!(row.delivery.dead_letters, DeadLetters::Topic(_)) {
                self.topic(&letters)?;
            }
        }
        Ok(())
    }

    /// What a subscription reads, and where it starts.
    async fn start(
        &self,
        row: &SubscriptionRow,
        from: &StartAt,
    ) -> Result<(Sources, Vec<(PartitionId, CursorRow)>), Error> {
        let sources = self.shared.catalog.sources(row)?;
        let (store, from) = (self.shared.store.clone(), from.clone());
        blocking(move || start_positions(&store, &sources, &from).map(|cursors| (sources, cursors))).await?
    }

    fn resume_cleanups(&self) -> Result<(), Error> {
        let left = self.shared.store.scan::<RemovedPartition>();
        let left = left.map(|row| row.map(|(removed, _)| removed.0)).collect::<Result<Vec<_>, _>>()?;
        self.clean_up(left)
    }

    /// Deletes the records of deleted partitions, on a thread of its own.
    fn clean_up(&self, partitions: Vec<PartitionId>) -> Result<(), Error> {
        if partitions.is_empty() {
            return Ok(());
        }
        let store = self.shared.store.clone();
        let work = move || {
            for partition in partitions {
                loop {
                    match store.remove_partition(partition) {
                        Ok(Cleanup::More { .. }) => {}
                        Ok(Cleanup::Done) => break,
                        // It is resumed at the next start.
                        Err(error) => {
                            return tracing::warn!(%partition, %error, "cleanup of a deleted topic stopped");
                        }
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("cleanup".into()).spawn(work);
        thread.map(drop).map_err(|error| Error::Internal(format!("no thread for the cleanup: {error}")))
    }

    /// For requests: refused, with nothing done, where too much is on its way for too long.
    pub(crate) async fn execute(&self, command: Command) -> Reply {
        let submitted = tokio::time::timeout(ONE_SHOT_WAIT, self.shared.submitter.submit(command)).await;
        answer(submitted.unwrap_or_else(|_| Err(self.backlog_is_full()))?).await
    }
}

impl Shared {
    /// Now, for groups.
    pub(crate) fn moment(&self) -> Moment {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Without randomness everybody waits the mean.
        let chance = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        Moment { ms, wall: now(), chance }
    }

    /// When [`Moment::ms`] will be `ms`.
    pub(crate) fn instant_at(&self, ms: u64) -> tokio::time::Instant {
        (self.started + Duration::from_millis(ms)).into()
    }

    /// Gives up an ephemeral subscription, and the modules that only it bound.
    pub(crate) fn end_ephemeral(self: &Arc<Self>, subscription: &Subscription) {
        self.catalog.remove_ephemeral(subscription.name());
        let private: Vec<_> = subscription.pipeline().iter().map(|binding| binding.sha256).collect();
        let orphans: Vec<_> = private.into_iter().filter(|sha256| !self.catalog.binds(sha256)).collect();
        let shared = Arc::clone(self);
        if let (false, Ok(runtime)) = (orphans.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                for sha256 in orphans {
                    // Named modules and those of durable subscriptions are kept by the shard.
                    let _ = shared.submitter.execute(Command::RemovePrivateModule { sha256 }).await;
                }
            });
        }
    }
}

/// Now, ms since the Unix epoch: the only place where the broker asks the clock for what it stores.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
}

/// When the oldest of the records at these places was appended.
fn oldest(store: &Store, places: &[(PartitionId, Offset)]) -> Result<Option<Timestamp>, Error> {
    let mut oldest = None;
    for (partition, offset) in places {
        // What retention deleted is no backlog any more.
        let Some(row) = store.partition(*partition) else { continue };
        if let Some(stored) = store.batch_at(*partition, (*offset).max(row.low_watermark))? {
            let appended =
                RecordBatch::new(stored.bytes, millstream_types::Check::Header)?.view().timestamp();
            oldest = Some(oldest.map_or(appended, |oldest: Timestamp| oldest.min(appended)));
        }
    }
    Ok(oldest)
}

/// Whether a subscription is for its users to touch.
fn check_own(name: &SubscriptionName) -> Result<(), Error> {
    let account = name.as_str().starts_with(dead_letter::ACCOUNT_PREFIX);
    if account { Err(Error::Account(name.clone())) } else { Ok(()) }
}

/// Runs what blocks off the network threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(error.to_string()))
}

fn node_id(store: &Store) -> Result<String, Error> {
    if let Some(node) = store.get(&NODE)? {
        return Ok(String::from_utf8_lossy(&node).into_owned());
    }
    let node = random_hex::<8>()?;
    let mut batch = store.batch();
    batch.put(&NODE, node.clone().into_bytes());
    let written = store.commit(batch, millstream_store::Persist::Sync);
    written.map_err(|error| Error::OutcomeUnknown(error.to_string()))?;
    Ok(node)
}

fn random_hex<const BYTES: usize>() -> Result<String, Error> {
    random::<BYTES>().map(hex::encode)
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::Internal(format!("no randomness: {error}")))?;
    Ok(bytes)
}

fn same_json(a: &str, b: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || parse(a).is_some_and(|a| parse(b).is_some_and(|b| a == b))
}

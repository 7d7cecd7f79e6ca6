//! The broker as the server uses it: opened on a directory, asked for things, closed.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use millstream_engine::{Engine, Workers};
use millstream_store::Store;
use millstream_types::{
    ModuleInfo, ModuleName, ProducerId, ProducerName, Timestamp, TopicChange, TopicConfig, TopicInfo,
    TopicName,
};
use tokio::sync::watch;

use crate::{
    Error, Limits, Subscription, Topic,
    admission::Quota,
    catalog::Catalog,
    command::{Command, Outcome, Reply},
    committer::{Committer, Submitter, answer},
    group::Moment,
    limits::{MODULE_JOBS_MAX, ONE_SHOT_WAIT},
    recover::recover,
    registry::Registry,
    rows::{ModuleRow, NODE},
    tail::Tail,
    upkeep,
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
    /// Who compiles modules; this process itself when `None`.
    pub module_compiler: Option<millstream_engine::Compiler>,
    /// Whose modules run; those that come with the broker always do.
    pub trust: millstream_engine::Trust,
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
    pub(crate) tail: Arc<Tail>,
    pub(crate) submitter: Submitter,
    /// Bytes that wait for modules on topics' ingests, of everybody.
    pub(crate) ingest: Quota,
    /// What leases are measured from.
    started: Instant,
    pub(crate) limits: Limits,
    node: String,
    fatal: watch::Receiver<Option<String>>,
    committer: std::sync::Mutex<Option<JoinHandle<()>>>,
    /// Of each processor, by its id.
    processors: std::sync::Mutex<HashMap<u32, tokio::task::JoinHandle<()>>>,
    upkeep: upkeep::Thread,
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
        let mut shard = recover(&store, settings.limits.clone())?;
        let node = node_id(&store)?;
        shard.modules.stock =
            settings.stock.iter().map(|stock| millstream_engine::digest(stock.wasm)).collect();
        let mut orphans = store.batch();
        shard.drop_orphans(&mut orphans);
        write(&store, orphans)?;
        let catalog = Arc::new(Catalog::of(&shard));
        let engine = Engine::new(&millstream_engine::Settings {
            cache_dir: Some(settings.data_dir.join("compiled")),
            compiler: settings.module_compiler,
            ..millstream_engine::Settings::default()
        })?;
        let tail = Arc::<Tail>::default();
        let registry = Registry::new(
            engine,
            settings.module_limits,
            settings.trust,
            store.clone(),
            Arc::clone(&catalog),
            Arc::clone(&tail),
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
            upkeep: upkeep::Thread::start(&store, &catalog, &submitter, interval)?,
            submitter,
            ingest: Quota::new(settings.limits.commit_backlog_bytes),
            workers: Workers::start(0, MODULE_JOBS_MAX)?,
            tail,
            store,
            catalog,
            registry,
            started: Instant::now(),
            limits: settings.limits,
            node,
            fatal,
            committer: std::sync::Mutex::new(Some(thread)),
            processors: std::sync::Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
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
        let processors = std::mem::take(&mut *self.shared.processors());
        processors.values().for_each(tokio::task::JoinHandle::abort);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for task in processors.into_values() {
                // Aborted, which is no failure.
                let _ = runtime.block_on(task);
            }
        }
        self.shared.upkeep.stop();
        self.shared.submitter.close();
        self.shared.ingest.close();
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

    /// All topics, by name, without their partitions and what the modules on their ingests used.
    pub fn topics(&self) -> Vec<TopicInfo> {
        let mut topics = self.topics_in_use();
        topics.iter_mut().filter_map(|topic| topic.ingest.as_mut()).for_each(|ingest| ingest.modules.clear());
        topics
    }

    /// All topics, by name, with what the modules on their ingests used, without their partitions.
    pub fn topics_in_use(&self) -> Vec<TopicInfo> {
        self.shared.catalog.topics().iter().map(|topic| topic.summary(&self.shared.store)).collect()
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.shared.catalog.topic_count()
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

    /// Deletes a topic, its records, and the subscriptions that read nothing else. The disk space comes back in the background.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`].
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), Error> {
        self.execute(Command::DeleteTopic { name: name.clone() }).await.map(drop)
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
    /// [`Error::ModuleRefused`], [`Error::ModuleUntrusted`], [`Error::ModuleExists`], [`Error::ModuleDeleted`],
    /// [`Error::ReservedName`].
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
        self.execute(Command::PutModule { name, row: Box::new(row), wasm }).await?;
        self.module(reference).await
    }

    /// Deletes a stored module, `NAME@VERSION` or the only version of `NAME`. Not cancel-safe: it may be deleted all the same.
    ///
    /// # Errors
    /// [`Error::ModuleBound`] while a subscription or a topic's ingest binds it; [`Error::UnknownModule`], [`Error::AmbiguousModule`],
    /// [`Error::StockModule`], [`Error::DeleteByDigest`].
    pub async fn delete_module(&self, reference: &str) -> Result<(), Error> {
        let name = self.shared.registry.one_version(reference)?;
        self.execute(Command::DeleteModule { name, now: now() }).await.map(drop)
    }

    /// All named modules, those of the broker first.
    pub fn modules(&self) -> Vec<ModuleInfo> {
        self.shared.registry.list()
    }

    /// What `reference` means now. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub async fn module(&self, reference: String) -> Result<ModuleInfo, Error> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.registry.describe(&reference)).await?
    }

    /// What `reference` means now, and the bytes of the component. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub async fn module_bytes(&self, reference: String) -> Result<(ModuleInfo, Bytes), Error> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.registry.get(&reference)).await?
    }

    /// For requests: refused, with nothing done, where too much is on its way for too long.
    pub(crate) async fn execute(&self, command: Command) -> Reply {
        let submitted = tokio::time::timeout(ONE_SHOT_WAIT, self.shared.submitter.submit(command)).await;
        answer(submitted.unwrap_or_else(|_| Err(self.backlog_is_full()))?).await
    }
}

impl Shared {
    pub(crate) fn processors(&self) -> std::sync::MutexGuard<'_, HashMap<u32, tokio::task::JoinHandle<()>>> {
        self.processors.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

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
        let (shared, holder) = (Arc::clone(self), subscription.name().clone());
        let holds = self.registry.keeps_any(&subscription.revision().pipeline);
        if let (true, Ok(runtime)) = (holds, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // Fails only when the broker stops, and all holds with it.
                let _ = shared.submitter.execute(Command::ReleaseModules { holder }).await;
            });
        }
    }
}

/// Now, ms since the Unix epoch: the only place where the broker asks the clock for what it stores.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
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
    write(store, batch)?;
    Ok(node)
}

/// Before there is a committer.
fn write(store: &Store, batch: millstream_store::Batch) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let written = store.commit(batch, millstream_store::Persist::Sync);
    written.map_err(|error| Error::OutcomeUnknown(error.to_string()))
}

pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, Error> {
    random::<BYTES>().map(hex::encode)
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::Internal(format!("no randomness: {error}")))?;
    Ok(bytes)
}

//! A topic's ingest: modules that every published record goes through before it is stored.
//!
//! Batches wait in a lane of their partition (`lane.rs`), are judged one after the other on module threads (`judge.rs`), and are
//! handed to the committer in that order with what became of them (`judged.rs`). What waits is bounded by room of its own, so
//! that slow modules keep nothing that other topics need.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use millstream_engine::Bound;
use millstream_types::{
    Binding, IngestInfo, ModuleLogLevel, ModuleLogLine, ModuleUsage, PartitionId, RecordBatch,
    SubscriptionName, TopicConfig, TopicName, Unstored,
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    Broker, Error, Room, Topic,
    admission::Quota,
    bindings::PinnedBinding,
    breaker::Breaker,
    broker::{Shared, blocking, now},
    command::{Command, Reply},
    limits::{INGEST_AT_ONCE, INGEST_BYTES},
    registry::{Registry, Seat},
    rows::IngestRow,
    subscription::new_flow,
    tail::Tail,
    usage::Used,
};
use lane::{Entry, Lane, Wanted};

mod judge;
mod judged;
mod lane;

pub(crate) use judged::Judged;
#[cfg(test)]
pub(crate) use judged::Refused;

/// By names that begin so modules on topics' ingests are told of.
pub(crate) const INGEST_PREFIX: &str = "ingest.";

/// The ingest of one topic that has modules there, or had.
#[derive(Debug)]
pub(crate) struct Ingest {
    topic: TopicName,
    /// Whose turn on the module threads its jobs are.
    flow: u64,
    row: Mutex<Arc<IngestRow>>,
    breaker: Breaker,
    /// Room for what waits.
    quota: Quota,
    /// Lanes that may be at work at once.
    at_once: Semaphore,
    /// One a partition.
    lanes: Vec<Lane>,
    partitions: Vec<PartitionId>,
    counts: Mutex<Counts>,
    /// Under which its modules' lines are told.
    reader: SubscriptionName,
}

/// What its modules did since they were set.
#[derive(Debug, Default)]
struct Counts {
    /// Whose.
    revision: u64,
    records_in: u64,
    rejected: u64,
    faulted: u64,
    dropped: u64,
    changed: u64,
    modules: Used,
}

impl Ingest {
    pub(crate) fn new(topic: &TopicName, partitions: &[PartitionId], row: IngestRow) -> Self {
        let revision = row.revision;
        Self {
            topic: topic.clone(),
            flow: new_flow(),
            row: Mutex::new(Arc::new(row)),
            breaker: Breaker::new(revision),
            quota: Quota::new(INGEST_BYTES),
            at_once: Semaphore::new(INGEST_AT_ONCE),
            lanes: std::iter::repeat_with(Lane::default).take(partitions.len()).collect(),
            partitions: partitions.to_vec(),
            counts: Mutex::new(Counts { revision, ..Counts::default() }),
            reader: reader_of(topic),
        }
    }

    /// Others judge from now on, or none. Batches that are being judged are judged to their end by those before.
    pub(crate) fn set(&self, row: IngestRow) {
        let mut current = self.row_now();
        *self.counts() = Counts { revision: row.revision, ..Counts::default() };
        self.breaker.start(row.revision);
        *current = Arc::new(row);
    }

    /// What judges now.
    pub(crate) fn row(&self) -> Arc<IngestRow> {
        Arc::clone(&self.row_now())
    }

    /// Whether there are modules now.
    pub(crate) fn judges(&self) -> bool {
        !self.row_now().pipeline.is_empty()
    }

    /// Whether one of its modules is as `wanted`.
    pub(crate) fn binds(&self, wanted: impl Fn(&PinnedBinding) -> bool) -> bool {
        self.row().pipeline.iter().any(wanted)
    }

    /// Its modules, each once.
    pub(crate) fn bound_modules(&self) -> BTreeSet<String> {
        self.row().pipeline.iter().map(|binding| binding.module.clone()).collect()
    }

    /// What the module called `name` has used since it was set.
    pub(crate) fn used_by(&self, name: &str) -> Option<ModuleUsage> {
        self.counts().modules.by(name)
    }

    /// Room for what waits.
    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// How it stands; `None` without modules.
    pub(crate) fn info(&self) -> Option<IngestInfo> {
        let row = self.row();
        let counts = self.counts();
        (!row.pipeline.is_empty()).then(|| IngestInfo {
            revision: row.revision,
            pipeline: row.pipeline.iter().map(PinnedBinding::to_binding).collect(),
            sha256: row.pipeline.iter().map(|binding| hex::encode(binding.sha256)).collect(),
            bound_ms: row.bound_ms,
            fault: self.breaker.fault(),
            records_in: counts.records_in,
            rejected: counts.rejected,
            faulted: counts.faulted,
            dropped: counts.dropped,
            changed: counts.changed,
            modules: counts.modules.all(),
        })
    }

    /// Takes `batch`, if it must go through modules or behind one that does; else gives it back with its room.
    pub(crate) fn offer(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        partition: u32,
        batch: RecordBatch,
        room: Room,
    ) -> Result<oneshot::Receiver<Reply>, (RecordBatch, Room)> {
        let Some(lane) = self.lanes.get(partition as usize) else { return Err((batch, room)) };
        let (reply, answer) = oneshot::channel();
        let entry = Entry { batch: batch.stamped(0, now()), wanted: Wanted::Append { room, reply } };
        match lane.enter(entry, self.judges()) {
            Ok(begins) => self.run(begins, shared, partition),
            Err(Entry { batch, wanted: Wanted::Append { room, .. } }) => return Err((batch, room)),
            Err(Entry { wanted: Wanted::Verdicts { .. }, .. }) => {}
        }
        Ok(answer)
    }

    /// Has `batch` judged, for the caller to append. Its `room` is kept for so long.
    pub(crate) fn judge(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        partition: u32,
        batch: RecordBatch,
        room: Arc<Room>,
    ) -> oneshot::Receiver<Result<Judged, Error>> {
        let (reply, answer) = oneshot::channel();
        if let Some(lane) = self.lanes.get(partition as usize) {
            let wanted = Wanted::Verdicts { _room: room, reply };
            if let Ok(begins) = lane.enter(Entry { batch: batch.stamped(0, now()), wanted }, true) {
                self.run(begins, shared, partition);
            }
        }
        answer
    }

    fn run(self: &Arc<Self>, begins: bool, shared: &Arc<Shared>, partition: u32) {
        if begins {
            tokio::spawn(lane::run(Arc::downgrade(shared), Arc::clone(self), partition as usize));
        }
    }

    /// Counts for the modules of `revision`.
    fn count(&self, revision: u64, count: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts();
        if counts.revision == revision {
            count(&mut counts);
        }
    }

    /// Tells whoever follows the module, and operators of what is amiss: a producer that is refused is told itself.
    fn tell(&self, tail: &Tail, module: &str, level: ModuleLogLevel, text: String) {
        if level >= ModuleLogLevel::Error || level == ModuleLogLevel::Info {
            return tail.write(&self.reader, module, level, &text, 0);
        }
        let (subscription, module) = (self.reader.clone(), module.to_owned());
        tail.push(ModuleLogLine { time_ms: now(), subscription, module, level, text, left_out: 0 });
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row_now(&self) -> MutexGuard<'_, Arc<IngestRow>> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a subscription's, so that its lines can be followed: `ingest.TOPIC`, cut where that is too long a name.
fn reader_of(topic: &TopicName) -> SubscriptionName {
    let name = format!("{INGEST_PREFIX}{topic}");
    let cut = name.get(..name.len().min(millstream_types::limits::NAME_BYTES_MAX)).unwrap_or(&name);
    let name = SubscriptionName::new(cut.trim_end_matches('.'));
    name.unwrap_or_else(|_| SubscriptionName::new("ingest").expect("a short name of letters"))
}

impl Broker {
    /// Has the records of a topic go through the modules of `pipeline`, in order, before they are stored; none: they go by. The
    /// modules are bound once before, so that what does not load, or a bad configuration, is refused here. Batches that are
    /// being judged are judged to their end by those before. Not cancel-safe: they may be set all the same.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownModule`], [`Error::ModuleRefused`], [`Error::ModuleUntrusted`],
    /// [`Error::ConfigRefused`], [`Error::NotForIngest`].
    pub async fn set_ingest(&self, name: &TopicName, pipeline: &[Binding]) -> Result<(), Error> {
        self.topic(name)?;
        let pipeline = self.tried_out(name, pipeline).await?;
        self.execute(Command::SetIngest { name: name.clone(), pipeline, now: now() }).await.map(drop)
    }

    /// [`create_topic`](Self::create_topic) with modules on its ingest from the first record on. One that is there must have
    /// the same; without any in `pipeline`, whatever it has. Not cancel-safe: it may be created all the same.
    ///
    /// # Errors
    /// As of [`create_topic`](Self::create_topic) and [`set_ingest`](Self::set_ingest).
    pub async fn create_judged_topic(
        &self,
        name: &TopicName,
        config: TopicConfig,
        pipeline: &[Binding],
    ) -> Result<Arc<Topic>, Error> {
        if pipeline.is_empty() {
            return self.create_topic(name, config).await;
        }
        let pipeline = self.tried_out(name, pipeline).await?;
        let (name_of, config) = (name.clone(), Box::new(config));
        let command = Command::CreateJudgedTopic { name: name_of, config, pipeline, now: now() };
        self.execute(command).await?;
        self.topic(name)
    }

    async fn tried_out(&self, topic: &TopicName, pipeline: &[Binding]) -> Result<Vec<PinnedBinding>, Error> {
        let pipeline = self.pin(pipeline)?;
        let (shared, topic, bound) = (Arc::clone(&self.shared), topic.clone(), pipeline.clone());
        blocking(move || bind(&shared.registry, &topic, &bound).map(drop)).await??;
        Ok(pipeline)
    }
}

/// Binds modules for the ingest of `topic`. Takes up to seconds when one is not compiled yet.
fn bind(registry: &Registry, topic: &TopicName, pipeline: &[PinnedBinding]) -> Result<Vec<Bound>, Error> {
    let seat =
        Seat { topic: topic.to_string(), subscription: String::new(), reader: reader_of(topic), state: None };
    let modules = registry.bind_at(&seat, pipeline)?;
    for (module, binding) in modules.iter().zip(pipeline) {
        check(module, binding)?;
    }
    Ok(modules)
}

/// Whether a module may be on a topic's ingest.
fn check(module: &Bound, binding: &PinnedBinding) -> Result<(), Error> {
    let topics: Vec<_> = module.spec().topics.iter().map(ToString::to_string).collect();
    if topics.is_empty() {
        return Ok(());
    }
    let cause = format!(
        "it emits to other topics ({}), and on its ingest modules change what is published to the topic itself: route with a \
         subscription of the topic instead",
        topics.join(", ")
    );
    Err(Error::NotForIngest { module: binding.module.clone(), cause })
}

/// The first record of `judged` that its producer is to be told as refused.
pub(crate) fn first_refused(judged: &Judged) -> Option<(u32, &Unstored)> {
    let refused = judged.unstored.iter().find(|refused| refused.why != Unstored::Dropped);
    refused.map(|refused| (refused.position, &refused.why))
}

/// Who holds it no longer than needed, so that the store is free when the broker is closed.
type Held = Weak<Shared>;

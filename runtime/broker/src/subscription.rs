//! A subscription: what it reads, how far it is, and who reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use millstream_engine::StateSize;
use millstream_types::{
    Binding, Counters, DeadLetters, DeliveryConfig, DeliveryMode, ModuleUsage, Offset, OnFault, PartitionId,
    PositionInfo, ProcessorChange, StartAt, SubscriptionInfo, SubscriptionName, SubscriptionState, Timestamp,
    TopicPattern,
};
use tokio::sync::watch;

use crate::{
    Error, Place, Topic,
    bindings::{Bindings, PinnedBinding, Revision},
    breaker::Breaker,
    group::Group,
    processing::Processing,
    pump::Pump,
    rows::{CursorRow, ProcessorRow, SubscriptionRow},
    shadow::Shadow,
    shard::PartitionCursor,
    sources::Sources,
    usage::Used,
};

/// What a consumer asks for.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// What to read: a topic, or all that a pattern means.
    pub topic: TopicPattern,
    /// Durable when named.
    pub name: Option<SubscriptionName>,
    /// Where a new one starts.
    pub from: StartAt,
    /// `None`: as it is, or no modules for a new one.
    pub pipeline: Option<Vec<Binding>>,
    /// What happens when a module fails.
    pub on_fault: OnFault,
    /// How it delivers. `None`: as it is, or the defaults for a new one.
    pub delivery: Option<DeliveryConfig>,
}

/// A subscription, shared by its readers, acks and whoever looks at it.
#[derive(Debug)]
pub struct Subscription {
    /// Of a durable one.
    id: Option<u32>,
    /// But for its bindings, which change.
    row: SubscriptionRow,
    judges: Mutex<Judges>,
    /// Number of the revision that judges now.
    revision: watch::Sender<u64>,
    /// Why its modules are let alone, while they are.
    faults: watch::Sender<Option<String>>,
    pub(crate) breaker: Breaker,
    flow: u64,
    sources: Sources,
    group: Mutex<Group>,
    /// Records that were dead letters made by modules, and are judged again: what is routed of them is not appended.
    unrouted: Mutex<BTreeMap<PartitionId, BTreeSet<Offset>>>,
    /// If the broker itself reads it.
    processing: Option<Processing>,
    counters: Mutex<Counters>,
    used: Mutex<Used>,
    deleted: AtomicBool,
    fault: Mutex<Option<String>>,
    /// What its consumers share.
    pub(crate) pump: Pump,
}

/// What judges its records.
#[derive(Debug)]
struct Judges {
    revision: Arc<Revision>,
    earlier: Vec<Revision>,
    shadow: Option<Arc<Shadow>>,
}

impl Judges {
    fn of(bindings: Bindings) -> Self {
        let Bindings { current, earlier, shadow } = bindings;
        let shadow = shadow.map(|pipeline| Arc::new(Shadow::new(pipeline)));
        Self { revision: Arc::new(current), earlier, shadow }
    }

    /// What is bound now, to judge or to be compared.
    fn bound(&self) -> impl Iterator<Item = &PinnedBinding> {
        self.revision.pipeline.iter().chain(self.shadow.iter().flat_map(|shadow| shadow.pipeline()))
    }
}

impl Subscription {
    pub(crate) fn durable(
        id: u32,
        row: SubscriptionRow,
        sources: Sources,
        cursors: Vec<(PartitionId, PartitionCursor)>,
        state: StateSize,
    ) -> Self {
        Self::new(Some(id), row, sources, cursors, state)
    }

    pub(crate) fn ephemeral(
        row: SubscriptionRow,
        sources: Sources,
        cursors: &[(PartitionId, CursorRow)],
    ) -> Self {
        let cursors = cursors.iter().map(|(partition, row)| (*partition, PartitionCursor::from(*row)));
        Self::new(None, row, sources, cursors.collect(), StateSize::default())
    }

    /// `cursors` are those of the sources, in their order.
    fn new(
        id: Option<u32>,
        mut row: SubscriptionRow,
        sources: Sources,
        cursors: Vec<(PartitionId, PartitionCursor)>,
        state: StateSize,
    ) -> Self {
        let processing = row.processor.as_ref().map(|processor| Processing::new(processor, state));
        let judges = Judges::of(std::mem::take(&mut row.bindings));
        let mut unrouted = BTreeMap::<_, BTreeSet<_>>::new();
        for (partition, cursor) in &cursors {
            for (offset, _) in cursor.tried.iter().filter(|(_, row)| row.unrouted) {
                unrouted.entry(*partition).or_default().insert(*offset);
            }
        }
        let cursors = cursors.into_iter().map(|(_, cursor)| cursor).collect();
        Self {
            id,
            group: Mutex::new(Group::new(row.delivery.clone(), cursors)),
            row,
            breaker: Breaker::new(judges.revision.number),
            revision: watch::Sender::new(judges.revision.number),
            faults: watch::Sender::new(None),
            judges: Mutex::new(judges),
            flow: new_flow(),
            sources,
            unrouted: Mutex::new(unrouted),
            processing,
            counters: Mutex::default(),
            used: Mutex::default(),
            deleted: AtomicBool::new(false),
            fault: Mutex::new(None),
            pump: Pump::default(),
        }
    }

    /// Its name; made up for an ephemeral one.
    pub fn name(&self) -> &SubscriptionName {
        &self.row.name
    }

    /// How it delivers.
    pub fn delivery(&self) -> &DeliveryConfig {
        &self.row.delivery
    }

    /// Whether it survives its consumer.
    pub fn is_durable(&self) -> bool {
        self.id.is_some()
    }

    /// What it reads now, with the offset below which everything is settled.
    pub fn places(&self) -> Vec<(Place, Offset)> {
        let group = self.group();
        self.sources.places().map(|place| (place.clone(), group.settled(place.index))).collect()
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Everything below is settled in partition `index`.
    pub(crate) fn settled(&self, index: u32) -> Offset {
        self.group().settled(index)
    }

    /// Whether it reads all that a pattern means.
    pub(crate) fn reads_several(&self) -> bool {
        matches!(self.sources, Sources::Several(_))
    }

    /// A topic is there that was not: it is read from now on, if it is meant.
    pub(crate) fn attach(&self, topic: &Arc<Topic>) {
        let Sources::Several(several) = &self.sources else { return };
        if !self.row.reads(topic.name()) {
            return;
        }
        {
            let mut group = self.group();
            if !several.attach(topic) {
                return;
            }
            group.attach(topic.partitions().len());
        }
        self.sources.wake();
        self.pump.wake();
    }

    /// A topic is gone.
    pub(crate) fn detach(&self, topic: &Topic) {
        let Sources::Several(several) = &self.sources else { return };
        {
            let mut group = self.group();
            group.detach(&several.detach(topic));
        }
        self.sources.wake();
        self.pump.wake();
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.id
    }

    /// What it reads.
    pub(crate) fn topic(&self) -> &TopicPattern {
        &self.row.topic
    }

    pub(crate) fn created_ms(&self) -> Timestamp {
        self.row.created_ms
    }

    /// All that is stored of it, but for its positions.
    pub(crate) fn to_row(&self) -> SubscriptionRow {
        let processor = self.row.processor.clone();
        let processor = processor.zip(self.processing.as_ref()).map(|(row, now)| ProcessorRow {
            paused: now.is_paused(),
            state_bytes_max: now.state_bytes_max(),
            ..row
        });
        SubscriptionRow { bindings: self.bindings(), processor, ..self.row.clone() }
    }

    pub(crate) fn bindings(&self) -> Bindings {
        let judges = self.judges();
        Bindings {
            current: Revision::clone(&judges.revision),
            earlier: judges.earlier.clone(),
            shadow: judges.shadow.as_ref().map(|shadow| shadow.pipeline().to_vec()),
        }
    }

    /// Whether one of what is bound now is as `wanted`.
    pub(crate) fn binds(&self, wanted: impl Fn(&PinnedBinding) -> bool) -> bool {
        self.judges().bound().any(wanted)
    }

    /// What is bound now, each once, without the configurations.
    pub(crate) fn bound_modules(&self) -> BTreeSet<String> {
        self.judges().bound().map(|binding| binding.module.clone()).collect()
    }

    /// Whose turn on the module threads its jobs are.
    pub(crate) fn flow(&self) -> u64 {
        self.flow
    }

    /// What judges its records now.
    pub(crate) fn revision(&self) -> Arc<Revision> {
        Arc::clone(&self.judges().revision)
    }

    /// What happens to records that its modules fail on.
    pub(crate) fn on_fault(&self, revision: &Revision) -> OnFault {
        match revision.on_fault {
            OnFault::DeadLetter if !self.has_dead_letters() => OnFault::Halt,
            policy => policy,
        }
    }

    pub(crate) fn has_dead_letters(&self) -> bool {
        self.is_durable() && self.row.delivery.dead_letters != DeadLetters::Off
    }

    /// What runs beside that, to be compared.
    pub(crate) fn shadow(&self) -> Option<Arc<Shadow>> {
        self.judges().shadow.clone()
    }

    /// Resolves once revision `number` is not what judges any more. Cancel-safe.
    pub(crate) async fn rebound(&self, number: u64) {
        // Sent by this subscription itself, which is there.
        let _ = self.revision.subscribe().wait_for(|current| *current != number).await;
    }

    /// Other modules judge its records from now on, or run beside.
    pub(crate) fn rebind(&self, bindings: Bindings) {
        let mut judges = self.judges();
        let number = bindings.current.number;
        let same_shadow = judges.shadow.take().filter(|shadow| {
            bindings.shadow.as_deref() == Some(shadow.pipeline()) && judges.revision.number == number
        });
        let taken_over = judges.revision.number != number;
        let next = Judges::of(bindings);
        *judges = Judges { shadow: same_shadow.or(next.shadow), ..next };
        drop(judges);
        if taken_over {
            self.try_again();
            self.revision.send_replace(number);
            self.sources.wake();
            self.pump.wake();
            self.wake_processing();
        }
    }

    fn judges(&self) -> MutexGuard<'_, Judges> {
        self.judges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn routed(&self, index: u32) -> Offset {
        self.group().routed(index)
    }

    /// What its modules emitted for records below `next` is appended.
    pub(crate) fn routed_through(&self, partition: PartitionId, next: Offset, again: &[Offset]) {
        if !again.is_empty()
            && let Some(unrouted) = self.lock_unrouted().get_mut(&partition)
        {
            unrouted.retain(|offset| !again.contains(offset));
        }
        if let Some(index) = self.sources.index(partition) {
            self.set_routed(index, next);
        }
    }

    /// Records below [`routed`](Self::routed) of which what modules emit to topics is not appended.
    pub(crate) fn unrouted(
        &self,
        partition: PartitionId,
        range: std::ops::RangeInclusive<Offset>,
    ) -> BTreeSet<Offset> {
        let unrouted = self.lock_unrouted();
        unrouted.get(&partition).map(|offsets| offsets.range(range).copied().collect()).unwrap_or_default()
    }

    fn lock_unrouted(&self) -> MutexGuard<'_, BTreeMap<PartitionId, BTreeSet<Offset>>> {
        self.unrouted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_routed(&self, index: u32, next: Offset) {
        self.group().set_routed(index, next);
    }

    pub(crate) fn set_scanned(&self, index: u32, next: Offset) {
        self.group().reach(index, next);
    }

    /// The parts of `range` that are not settled.
    pub(crate) fn unsettled(
        &self,
        index: u32,
        range: std::ops::Range<Offset>,
    ) -> Vec<std::ops::Range<Offset>> {
        self.group().unsettled(index, range)
    }

    /// Moves the settled position forward, never past what was scanned; what that settles.
    pub(crate) fn settle(&self, index: u32, next: Offset) -> Result<Vec<std::ops::Range<Offset>>, Error> {
        self.group().settle_through(index, next)
    }

    /// Who has which of its records.
    pub(crate) fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Others settled records, or had them delivered again.
    pub(crate) fn moved(
        &self,
        settled: &[(PartitionId, Offset)],
        reopened: &[(PartitionId, Offset)],
        unrouted: &[(PartitionId, Offset)],
    ) {
        for (partition, offset) in unrouted {
            self.lock_unrouted().entry(*partition).or_default().insert(*offset);
        }
        let index =
            |(partition, offset): &(PartitionId, Offset)| Some((self.sources.index(*partition)?, *offset));
        {
            let mut group = self.group();
            for (partition, offset) in settled.iter().filter_map(index) {
                group.settled_elsewhere(partition, offset);
            }
            for (partition, offset) in reopened.iter().filter_map(index) {
                group.reopen(partition, offset);
            }
        }
        self.pump.wake();
        self.wake_processing();
    }

    /// What makes it a processor.
    pub(crate) fn processing(&self) -> Option<&Processing> {
        self.processing.as_ref()
    }

    /// Whether what its modules let through goes somewhere, if it is a processor.
    pub(crate) fn has_sink(&self) -> bool {
        self.row.processor.as_ref().is_some_and(|processor| processor.sink.is_some())
    }

    /// A processor is done with `range`.
    pub(crate) fn processed(&self, partition: PartitionId, range: std::ops::Range<Offset>, size: StateSize) {
        if let Some(processing) = &self.processing {
            processing.set_size(size);
        }
        if let Some(unrouted) = self.lock_unrouted().get_mut(&partition) {
            unrouted.retain(|offset| !range.contains(offset));
        }
        if let Some(index) = self.sources.index(partition) {
            self.group().processed(index, range);
        }
    }

    /// A processor is to be otherwise from now on.
    pub(crate) fn change(&self, change: ProcessorChange) {
        if let Some(processing) = &self.processing {
            processing.change(change);
            if change != ProcessorChange::Paused(true) {
                self.try_again();
                processing.wake();
            }
        }
    }

    fn wake_processing(&self) {
        if let Some(processing) = &self.processing {
            processing.wake();
        }
    }

    /// Takes the subscription for one reader of everything, who starts again from what is settled.
    pub(crate) fn hold(self: &Arc<Self>) -> Result<Held, Error> {
        if self.processing.is_some() {
            return Err(Error::IsProcessor(self.name().clone()));
        }
        if self.row.delivery.mode != DeliveryMode::Exclusive {
            return Err(Error::NotExclusive { name: self.name().clone(), mode: self.row.delivery.mode });
        }
        if !self.group().start_stream() {
            return Err(Error::SubscriptionBusy(self.name().clone()));
        }
        self.try_again();
        Ok(Held(Arc::clone(self)))
    }

    /// Somebody new reads: its modules are tried as if nothing had been.
    pub(crate) fn try_again(&self) {
        self.breaker.start(self.revision().number);
        self.tell_readers();
        self.clear_fault();
    }

    /// Why its modules are let alone, while they are: for its readers, who get nothing then.
    pub fn faults(&self) -> watch::Receiver<Option<String>> {
        self.faults.subscribe()
    }

    /// Its modules are let alone from now on, or not any more.
    pub(crate) fn tell_readers(&self) {
        let fault = self.breaker.fault();
        self.faults.send_if_modified(|told| {
            let is_news = told.is_some() != fault.is_some();
            if is_news {
                *told = fault;
            }
            is_news
        });
    }

    pub(crate) fn clear_fault(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn count(&self, counted: Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) += counted;
    }

    /// What the modules bound here have used.
    pub(crate) fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the module called `name` has used here.
    pub(crate) fn used_by(&self, name: &str) -> Option<ModuleUsage> {
        self.used().by(name)
    }

    pub(crate) fn set_fault(&self, fault: String) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        // A reader waits on what it reads, workers on their pump.
        self.sources.wake();
        self.pump.wake();
        self.wake_processing();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// How it stands.
    pub fn info(&self) -> SubscriptionInfo {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fault = fault.or_else(|| self.breaker.fault());
        let group = self.group();
        let processor = self.processing.as_ref().map(|processing| processing.info(&self.row));
        let state = match (&fault, group.is_read() || processor.is_some()) {
            _ if processor.as_ref().is_some_and(|processor| processor.paused) => SubscriptionState::Paused,
            (Some(_), _) => SubscriptionState::Faulted,
            (None, true) => SubscriptionState::Active,
            (None, false) => SubscriptionState::Idle,
        };
        let positions = self.sources.places().map(|place| {
            let index = place.index;
            let (leased, waiting) = group.counts(index);
            PositionInfo {
                topic: place.of().map(|of| of.topic),
                partition: place.partition,
                settled: group.settled(index),
                scanned: group.scanned(index),
                latest: place.end(),
                settled_ahead: group.settled_ahead(index),
                leased,
                waiting,
            }
        });
        let positions: Vec<_> = positions.collect();
        let mode = self.row.delivery.mode;
        let (revision, earlier, shadow) = {
            let judges = self.judges();
            let earlier = judges.earlier.iter().map(Revision::to_public).collect();
            (Arc::clone(&judges.revision), earlier, judges.shadow.clone())
        };
        SubscriptionInfo {
            name: self.name().clone(),
            topic: self.row.topic.clone(),
            durable: self.is_durable(),
            pipeline: revision.pipeline.iter().map(PinnedBinding::to_binding).collect(),
            on_fault: revision.on_fault,
            revision: revision.number,
            earlier,
            shadow: shadow.map(|shadow| shadow.info()),
            processor,
            delivery: self.row.delivery.clone(),
            consumers: group.consumers() as u64,
            state,
            fault,
            pending: positions.iter().map(|at| at.pending(mode)).sum(),
            unscanned: positions.iter().map(PositionInfo::unscanned).sum(),
            oldest_unsettled_ms: None,
            positions,
            counters: *self.counters.lock().unwrap_or_else(PoisonError::into_inner),
            modules: self.used().all(),
        }
    }
}

/// Somebody new who takes turns on the module threads.
pub(crate) fn new_flow() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The right to read a subscription; dropping it gives the subscription free.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) Arc<Subscription>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.group().end_stream();
    }
}

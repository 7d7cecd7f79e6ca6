//! A subscription: what it reads, how far it is, and who reads it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use millstream_types::{
    Binding, Counters, Offset, OnFault, PositionInfo, StartAt, SubscriptionInfo, SubscriptionName,
    SubscriptionState, TopicName,
};

use crate::{
    Error, Topic,
    rows::{CursorRow, PinnedBinding, SubscriptionRow},
};

/// What a consumer asks for.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// What to read.
    pub topic: TopicName,
    /// Durable when named.
    pub name: Option<SubscriptionName>,
    /// Where a new one starts.
    pub from: StartAt,
    /// `None`: as it is, or no modules for a new one.
    pub pipeline: Option<Vec<Binding>>,
    /// What happens when a module fails.
    pub on_fault: OnFault,
}

/// A subscription, shared by its reader, acks and whoever looks at it.
#[derive(Debug)]
pub struct Subscription {
    /// Of a durable one.
    id: Option<u32>,
    row: SubscriptionRow,
    topic: Arc<Topic>,
    positions: Vec<Position>,
    counters: Mutex<Counters>,
    held: AtomicBool,
    deleted: AtomicBool,
    fault: Mutex<Option<String>>,
}

/// How far it is in one partition.
#[derive(Debug)]
struct Position {
    settled: AtomicU64,
    scanned: AtomicU64,
    routed: AtomicU64,
}

impl Subscription {
    pub(crate) fn durable(id: u32, row: SubscriptionRow, topic: Arc<Topic>, cursors: &[CursorRow]) -> Self {
        Self::new(Some(id), row, topic, cursors)
    }

    pub(crate) fn ephemeral(row: SubscriptionRow, topic: Arc<Topic>, cursors: &[CursorRow]) -> Self {
        Self::new(None, row, topic, cursors)
    }

    fn new(id: Option<u32>, row: SubscriptionRow, topic: Arc<Topic>, cursors: &[CursorRow]) -> Self {
        let positions = cursors.iter().map(|cursor| Position {
            settled: AtomicU64::new(cursor.settled),
            scanned: AtomicU64::new(cursor.settled),
            routed: AtomicU64::new(cursor.routed),
        });
        Self {
            id,
            positions: positions.collect(),
            row,
            topic,
            counters: Mutex::default(),
            held: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            fault: Mutex::new(None),
        }
    }

    /// Its name; made up for an ephemeral one.
    pub fn name(&self) -> &SubscriptionName {
        &self.row.name
    }

    /// Whether it survives its consumer.
    pub fn is_durable(&self) -> bool {
        self.id.is_some()
    }

    /// What it reads.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// Everything below is settled in partition `index`.
    pub fn settled(&self, index: u32) -> Offset {
        self.position(index).map_or(0, |position| position.settled.load(Ordering::Acquire))
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.id
    }

    pub(crate) fn row(&self) -> &SubscriptionRow {
        &self.row
    }

    pub(crate) fn pipeline(&self) -> &[PinnedBinding] {
        &self.row.pipeline
    }

    pub(crate) fn binds(&self, sha256: &[u8; 32]) -> bool {
        self.row.pipeline.iter().any(|binding| binding.sha256 == *sha256)
    }

    pub(crate) fn routed(&self, index: u32) -> Offset {
        self.position(index).map_or(0, |position| position.routed.load(Ordering::Acquire))
    }

    pub(crate) fn set_routed(&self, index: u32, next: Offset) {
        if let Some(position) = self.position(index) {
            position.routed.fetch_max(next, Ordering::AcqRel);
        }
    }

    pub(crate) fn set_scanned(&self, index: u32, next: Offset) {
        if let Some(position) = self.position(index) {
            position.scanned.store(next, Ordering::Release);
        }
    }

    /// Moves the settled position forward, never past what was scanned.
    pub(crate) fn settle(&self, index: u32, next: Offset) -> Result<(), Error> {
        let last = self.topic.config().partitions.saturating_sub(1);
        let position = self.position(index).ok_or_else(|| Error::UnknownPartition {
            topic: self.topic.name().clone(),
            partition: index,
            last,
        })?;
        let scanned = position.scanned.load(Ordering::Acquire);
        if next > scanned {
            return Err(Error::AckBeyond { partition: index, next, scanned });
        }
        position.settled.fetch_max(next, Ordering::AcqRel);
        Ok(())
    }

    /// Takes the subscription for one consumer, which reads again from what is settled.
    pub(crate) fn hold(self: &Arc<Self>) -> Result<Held, Error> {
        if self.held.swap(true, Ordering::AcqRel) {
            return Err(Error::SubscriptionBusy(self.name().clone()));
        }
        for position in &self.positions {
            position.scanned.store(position.settled.load(Ordering::Acquire), Ordering::Release);
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(Held(Arc::clone(self)))
    }

    pub(crate) fn count(&self, counted: Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) += counted;
    }

    pub(crate) fn set_fault(&self, fault: String) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        // Its reader waits on the topic.
        self.topic.wake();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// How it stands.
    pub fn info(&self) -> SubscriptionInfo {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let state = match (&fault, self.held.load(Ordering::Acquire)) {
            (Some(_), _) => SubscriptionState::Faulted,
            (None, true) => SubscriptionState::Active,
            (None, false) => SubscriptionState::Idle,
        };
        let positions = self.positions.iter().zip(0..).map(|(position, partition)| PositionInfo {
            partition,
            settled: position.settled.load(Ordering::Acquire),
            scanned: position.scanned.load(Ordering::Acquire),
            latest: self.topic.end(partition),
        });
        SubscriptionInfo {
            name: self.name().clone(),
            topic: self.topic.name().clone(),
            durable: self.is_durable(),
            pipeline: self.row.pipeline.iter().map(PinnedBinding::to_binding).collect(),
            on_fault: self.row.on_fault,
            state,
            fault,
            positions: positions.collect(),
            counters: *self.counters.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn position(&self, index: u32) -> Option<&Position> {
        self.positions.get(index as usize)
    }
}

impl PinnedBinding {
    fn to_binding(&self) -> Binding {
        Binding { module: self.module.clone(), config: self.config.clone() }
    }
}

/// The right to read a subscription; dropping it gives the subscription free.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) Arc<Subscription>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Release);
    }
}

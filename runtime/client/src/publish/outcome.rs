//! The receipt of a batch, awaited by each of its records.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use millstream_types::{Offset, Timestamp, Unstored};
use millstream_wire::Receipt;

use crate::PublishError;

/// Where a record stands. It is durable as its topic asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordReceipt {
    /// Partition within the topic.
    pub partition: u32,
    /// Position in the partition; of a record that was dropped, where the next one stands. Of one that modules made several
    /// of, the position of the first.
    pub offset: Offset,
    /// When it was appended, ms since the Unix epoch.
    pub timestamp: Timestamp,
    /// Whether a module on the topic's ingest dropped it: it is accepted, and not stored.
    pub dropped: bool,
}

impl RecordReceipt {
    /// Of record `index` of a batch, or why it is not stored.
    pub(super) fn of(receipt: &Receipt, index: u32) -> Result<Self, PublishError> {
        let why = receipt.unstored.get(index);
        match why.and_then(refused_by) {
            Some(refused) => Err(refused),
            None => Ok(Self {
                partition: receipt.partition,
                offset: receipt.offset_of(index),
                timestamp: receipt.timestamp,
                dropped: why.is_some(),
            }),
        }
    }
}

/// What a record fails with that is not stored, unless it was dropped.
pub(super) fn refused_by(why: &Unstored) -> Option<PublishError> {
    match why.clone() {
        Unstored::Rejected { module, reason } => Some(PublishError::Rejected { module, reason }),
        Unstored::Faulted { module, cause } => Some(PublishError::Faulted { module, cause }),
        Unstored::Dropped => None,
    }
}

/// The receipt of a record on its way. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "whether the record was stored is known only from its receipt, or from `Publisher::flush`"]
pub struct Pending {
    waiter: Waiter,
    index: u32,
}

/// The receipt of a batch on its way. Dropping it does not take the batch back.
#[derive(Debug)]
#[must_use = "whether the batch was stored is known only from its receipt, or from `Publisher::flush`"]
pub struct PendingBatch {
    waiter: Waiter,
}

impl Future for Pending {
    type Output = Result<RecordReceipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        self.waiter.poll(cx).map(|receipt| RecordReceipt::of(&receipt?, index))
    }
}

impl Future for PendingBatch {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.waiter.poll(cx)
    }
}

/// What became of a batch: shared by the queue and all who wait for it.
#[derive(Debug)]
pub(super) struct Outcome {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Waiting(Vec<Waker>),
    Known(Result<Receipt, PublishError>),
}

impl Outcome {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Waiting(Vec::new())) })
    }

    /// The receipt of record `index` of the batch.
    pub(super) fn record(self: &Arc<Self>, index: u32) -> Pending {
        Pending { waiter: Waiter { outcome: self.clone(), slot: None }, index }
    }

    /// The receipt of the whole batch.
    pub(super) fn batch(self: &Arc<Self>) -> PendingBatch {
        PendingBatch { waiter: Waiter { outcome: self.clone(), slot: None } }
    }

    /// Tells all who wait. Only the first result counts.
    pub(super) fn settle(&self, result: Result<Receipt, PublishError>) {
        let mut state = self.lock();
        if let State::Waiting(wakers) = &mut *state {
            let wakers = std::mem::take(wakers);
            *state = State::Known(result);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is changed in single assignments, so that a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits; remembers its place among the wakers, so that polling again does not add another.
#[derive(Debug)]
struct Waiter {
    outcome: Arc<Outcome>,
    slot: Option<usize>,
}

impl Waiter {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receipt, PublishError>> {
        match &mut *self.outcome.lock() {
            State::Known(result) => Poll::Ready(result.clone()),
            State::Waiting(wakers) => {
                match self.slot.and_then(|slot| wakers.get_mut(slot)) {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => {
                        self.slot = Some(wakers.len());
                        wakers.push(cx.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }
}

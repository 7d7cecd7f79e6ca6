//! The handle that an application works with.

use std::{
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use millstream_types::SubscriptionName;
use millstream_wire::{Joined, SettleAs};
use tokio::sync::{Notify, oneshot, watch};

use super::{
    leased::Leased,
    options::WorkOptions,
    state::{Settled, State},
    task,
};
use crate::{ConsumeError, connect::Link};

/// One of a subscription's consumers, which holds a lease on each record that it gets: a `Stream` of [`Leased`]
/// messages. Each must be settled, in any order, by the methods of [`Settler`], which this is as well: acknowledged
/// when it is done, given back with [`nack`](Settler::nack) when it failed. What is not settled before its lease ends
/// is delivered again.
///
/// Settlements are sent in the background; [`flush`](Settler::flush) waits for the broker to have stored them.
/// Leases of messages that wait here are kept from ending as long as messages are taken or their leases extended; what
/// an application does not take for most of a lease is given back, without a failure.
///
/// A lost connection is taken up again; what was held then is delivered again, to this worker or to another one.
/// Dropping a worker gives back what it holds; [`close`](Self::close) waits.
#[derive(Debug)]
pub struct Worker {
    settler: Settler,
    joined: Joined,
    failed: bool,
}

/// Settles messages, also from elsewhere than where they are taken.
#[derive(Debug, Clone)]
pub struct Settler {
    shared: Arc<Shared>,
}

/// What the handles and the task share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the task's sending half.
    pub(super) wake: Notify,
    /// Wakes those who wait for settlements to be stored.
    pub(super) settled: Notify,
    /// Why the subscription's modules are let alone, while they are.
    pub(super) faults: watch::Sender<Option<String>>,
    /// The worker is dropped.
    closed: AtomicBool,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Worker {
    pub(crate) async fn open(link: Arc<Link>, options: WorkOptions) -> Result<Self, ConsumeError> {
        let stream = task::open_stream(&link, &options, (options.records, options.bytes)).await?;
        let joined = stream.answer.clone();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(joined.mode, (options.records, options.bytes))),
            wake: Notify::new(),
            settled: Notify::new(),
            faults: watch::Sender::new(None),
            closed: AtomicBool::new(false),
        });
        tokio::spawn(task::run(link, options, Arc::clone(&shared), stream));
        Ok(Self { settler: Settler { shared }, joined, failed: false })
    }

    /// Name of the subscription.
    pub fn name(&self) -> &SubscriptionName {
        &self.joined.name
    }

    /// How long a lease lasts.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.joined.lease_ms.into())
    }

    /// The next message; `None` after an error. Cancel-safe.
    pub async fn next_message(&mut self) -> Option<Result<Leased, ConsumeError>> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    /// Why nothing comes: the subscription's modules fail and are let alone for a while, and its backlog is kept. `None` while
    /// they judge.
    pub fn faults(&self) -> watch::Receiver<Option<String>> {
        self.shared.faults.subscribe()
    }

    /// A handle that settles from elsewhere.
    pub fn settler(&self) -> Settler {
        self.settler.clone()
    }

    /// From now on holds at most so much unsettled. 0 records pauses deliveries.
    pub fn set_window(&self, records: u32, bytes: u64) {
        self.shared.state().set_window(records, bytes);
        self.shared.wake.notify_one();
    }

    /// Waits until the broker has stored what was said so far, gives back what is still held, and waits for that. If
    /// cancelled, both still happen.
    ///
    /// # Errors
    /// As [`flush`](Settler::flush).
    pub async fn close(self) -> Result<(), ConsumeError> {
        let settler = self.settler();
        let flushed = settler.flush().await;
        drop(self);
        settler.ended().await;
        flushed
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Leased, ConsumeError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let taken = ready!(self.shared.state().poll(cx));
        self.failed = taken.is_err();
        Poll::Ready(Some(taken))
    }
}

impl Deref for Worker {
    type Target = Settler;

    fn deref(&self) -> &Settler {
        &self.settler
    }
}

impl Stream for Worker {
    type Item = Result<Leased, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(cx)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl Settler {
    /// The message is done. Of several messages that modules made of one record, the last one's ack counts.
    pub fn ack(&self, message: &Leased) {
        self.say(message, SettleAs::Ack);
    }

    /// The message failed, for the reason `error`: it is delivered again after the subscription's backoff, or becomes a
    /// dead letter with that reason. Where order is kept, what is behind it is delivered again after it, and not
    /// handed out here before.
    pub fn nack(&self, message: &Leased, error: impl Into<String>) {
        self.say(message, SettleAs::Nack { delay_ms: None, error: Some(error.into()) });
    }

    /// The same, delivered again after `delay`.
    pub fn nack_after(&self, message: &Leased, delay: Duration, error: impl Into<String>) {
        self.say(message, SettleAs::Nack { delay_ms: Some(millis(delay)), error: Some(error.into()) });
    }

    /// The message was not tried: it is delivered again, to anybody, at once, and did not fail.
    pub fn release(&self, message: &Leased) {
        self.say(message, SettleAs::Release);
    }

    /// Acknowledges a message and waits for what becomes of that. If cancelled, it is acknowledged all the same.
    pub async fn ack_confirmed(&self, message: &Leased) -> Settled {
        let (answer, told) = oneshot::channel();
        self.shared.state().say(message, SettleAs::Ack, Some(answer));
        self.shared.wake.notify_one();
        told.await.unwrap_or(Settled::Unknown)
    }

    /// Has the lease that the message came under end `time` from now, for all messages under it. If cancelled, it may
    /// be extended all the same.
    pub async fn extend(&self, message: &Leased, time: Duration) -> Settled {
        let (answer, told) = oneshot::channel();
        self.shared.state().extend(message, u32::try_from(millis(time)).unwrap_or(u32::MAX), answer);
        self.shared.wake.notify_one();
        told.await.unwrap_or(Settled::Unknown)
    }

    /// How many settlements came too late so far: their records were, or will be, delivered again.
    pub fn stale(&self) -> u64 {
        self.shared.state().stale()
    }

    /// Waits until the broker has stored what was said so far. Cancel-safe.
    ///
    /// # Errors
    /// [`ConsumeError`] when the subscription ended before.
    pub async fn flush(&self) -> Result<(), ConsumeError> {
        loop {
            let mut settled = std::pin::pin!(self.shared.settled.notified());
            // Listen before looking, so that what happens in between is not missed.
            settled.as_mut().enable();
            {
                let state = self.shared.state();
                if let Some(error) = state.ended() {
                    return Err(error.clone());
                }
                if state.is_settled() {
                    return Ok(());
                }
            }
            self.shared.wake.notify_one();
            settled.await;
        }
    }

    /// Waits until the task has ended.
    async fn ended(&self) {
        loop {
            let mut settled = std::pin::pin!(self.shared.settled.notified());
            settled.as_mut().enable();
            if self.shared.state().ended().is_some() {
                return;
            }
            settled.await;
        }
    }

    fn say(&self, message: &Leased, verdict: SettleAs) {
        if self.shared.state().say(message, verdict, None) {
            self.shared.wake.notify_one();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

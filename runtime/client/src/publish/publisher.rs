//! The handle that an application publishes with.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millstream_types::{Compression, ProducerName, Record, RecordBatch, SlowDown, TopicName};
use millstream_wire::WireError;
use tokio::{
    sync::{Notify, Semaphore, TryAcquireError, watch},
    time::Instant,
};

use super::{
    outcome::{Pending, PendingBatch},
    queue::{PublishCounts, Queue, Settings, alone_bytes},
    task::{self, Target},
};
use crate::{PublishError, connect::Link};

/// Settings of a publisher.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// A batch is sent at the latest when it has this size, uncompressed. Larger batches cost the broker less.
    pub batch_bytes: usize,
    /// How long a batch waits for more records. Zero, the default: it goes at once while fewer than two batches are
    /// on the way, and gathers records meanwhile, so that load makes batches and idleness makes no delay.
    pub linger: Duration,
    /// How payloads are compressed.
    pub compression: Compression,
    /// Most bytes without a receipt; `publish` waits beyond.
    pub in_flight_bytes: usize,
    /// Most batches without a receipt; the broker may allow fewer.
    pub in_flight_batches: usize,
    /// A name that only one publisher may have at a time: one that is opened later takes it over, and the one before is
    /// refused from then on, also where it was thought dead. Without a name a publisher has an identity of its own.
    pub producer: Option<ProducerName>,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            batch_bytes: 256 << 10,
            linger: Duration::ZERO,
            compression: Compression::None,
            in_flight_bytes: 8 << 20,
            in_flight_batches: 256,
            producer: None,
        }
    }
}

/// Publishes records to one topic. Shared by reference; records of one task keep their order within a partition.
///
/// After a reconnect, or a restart of the broker, everything without a receipt is sent again, and the broker knows what
/// it has by then: each record is stored *once*, in the order of its partition. Only a record that was given up, as its
/// receipt says, may be stored all the same; an application that publishes it again may store it twice.
///
/// When the publisher is dropped, what it holds is still sent, as long as the runtime lives and the connection holds;
/// [`flush`](Self::flush) or [`close`](Self::close) tell whether it was stored.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    topic: TopicName,
}

/// What the handle and its task share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Bytes that may still be taken.
    pub(super) room: Semaphore,
    /// Wakes the task.
    pub(super) wake: Notify,
    pub(super) partitions: u32,
    batch_bytes_max: usize,
    room_bytes: usize,
    /// What the broker holds it back by.
    slowed: watch::Sender<Option<SlowDown>>,
    slowed_for: Mutex<Slowed>,
    /// Why it takes batches later.
    refused: watch::Sender<Option<WireError>>,
}

/// How long the broker held the publisher back.
#[derive(Debug, Default)]
struct Slowed {
    since: Option<Instant>,
    before: Duration,
}

impl Slowed {
    fn total(&self, now: Instant) -> Duration {
        self.before + self.since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
    }
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker holds the publisher back, or no longer.
    pub(super) fn slow_down(&self, slow: Option<SlowDown>) {
        {
            let (mut slowed, now) = (self.slowed_for(), Instant::now());
            slowed.before = slowed.total(now);
            slowed.since = slow.map(|_| now);
        }
        // Receipts that tell nothing new wake nobody.
        self.slowed.send_if_modified(|known| std::mem::replace(known, slow) != slow);
    }

    /// The broker refused a batch, which is sent again later; or took one.
    pub(super) fn refused_by(&self, error: Option<WireError>) {
        self.refused.send_if_modified(|known| {
            let modified = *known != error;
            *known = error;
            modified
        });
    }

    fn slowed_for(&self) -> MutexGuard<'_, Slowed> {
        self.slowed_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of room that something of `bytes` takes: all there is, if it is larger than that.
    fn cost(&self, bytes: usize) -> usize {
        bytes.min(self.room_bytes)
    }

    async fn take_room(&self, cost: usize) -> Result<(), PublishError> {
        match self.room.acquire_many(permits(cost)).await {
            Ok(permits) => {
                permits.forget();
                Ok(())
            }
            Err(_) => Err(self.ended()),
        }
    }

    /// Why nothing is taken any more.
    fn ended(&self) -> PublishError {
        self.queue().check_open().err().unwrap_or(PublishError::Closed)
    }
}

fn permits(cost: usize) -> u32 {
    u32::try_from(cost).expect("room is at most 4 GiB")
}

impl Publisher {
    pub(crate) async fn open(
        link: Arc<Link>,
        topic: TopicName,
        options: PublishOptions,
    ) -> Result<Self, PublishError> {
        let target = Target { topic: topic.clone(), producer: options.producer };
        let stream = task::open_stream(&link, &target, None).await?;
        let ready = &stream.answer;
        let batch_bytes_max = usize::try_from(ready.batch_bytes_max).unwrap_or(usize::MAX);
        let room_bytes = options.in_flight_bytes.clamp(1, 1 << 30);
        let settings = Settings {
            partitions: ready.partitions,
            batch_bytes: options.batch_bytes.clamp(1, batch_bytes_max),
            linger: options.linger,
            compression: options.compression,
            in_flight_max: options.in_flight_batches.min(ready.in_flight_max as usize).max(1),
            retry: link.options().reconnect,
            producer: ready.producer,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(settings)),
            room: Semaphore::new(room_bytes),
            wake: Notify::new(),
            partitions: ready.partitions,
            batch_bytes_max,
            room_bytes,
            slowed: watch::Sender::new(None),
            slowed_for: Mutex::default(),
            refused: watch::Sender::new(None),
        });
        tokio::spawn(task::run(link, target, shared.clone(), stream));
        Ok(Self { shared, topic })
    }

    /// Where records go.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Number of partitions of the topic.
    pub fn partitions(&self) -> u32 {
        self.shared.partitions
    }

    /// What has been stored, and what failed, so far.
    pub fn counts(&self) -> PublishCounts {
        self.shared.queue().counts()
    }

    /// What the broker holds this publisher back by; `None` while it does not. It reads no further then, so that `publish`
    /// waits once the publisher holds as much as it may; nothing is lost, and nothing need be done.
    pub fn slowed(&self) -> watch::Receiver<Option<SlowDown>> {
        self.shared.slowed.subscribe()
    }

    /// Why the broker refuses for now what is sent again later by itself; `None` while it does not. What comes of it in the
    /// end is told by the receipts.
    pub fn refused(&self) -> watch::Receiver<Option<WireError>> {
        self.shared.refused.subscribe()
    }

    /// How long it was held back so far.
    pub fn slowed_for(&self) -> Duration {
        self.shared.slowed_for().total(Instant::now())
    }

    /// As [`publish`](Self::publish), but does not wait.
    ///
    /// # Errors
    /// [`PublishError::Full`] where `publish` would wait, with what the broker says; and as [`publish`](Self::publish).
    pub fn try_publish(&self, record: Record) -> Result<Pending, PublishError> {
        let cost = self.cost_of(&record)?;
        match self.shared.room.try_acquire_many(permits(cost)) {
            Ok(permits) => permits.forget(),
            Err(TryAcquireError::NoPermits) => {
                let (in_flight_bytes, slow_down) = (self.shared.room_bytes, *self.shared.slowed.borrow());
                return Err(PublishError::Full { in_flight_bytes, slow_down });
            }
            Err(TryAcquireError::Closed) => return Err(self.shared.ended()),
        }
        self.push(None, &record, cost)
    }

    /// Takes a record, waiting while too much is without a receipt, and returns its receipt to be awaited. Its
    /// partition is that of its key; records without one go to each partition in turn, a batch at a time.
    ///
    /// Cancel-safe: a call that is dropped while it waits has taken nothing.
    ///
    /// # Errors
    /// [`PublishError`] when the record cannot be put in a batch, or the publisher has ended. Why a record was not
    /// stored comes with its receipt.
    pub async fn publish(&self, record: Record) -> Result<Pending, PublishError> {
        self.put(None, &record).await
    }

    /// As [`publish`](Self::publish), to a partition counted from 0. Cancel-safe in the same way.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and [`PublishError::UnknownPartition`].
    pub async fn publish_to(&self, partition: u32, record: Record) -> Result<Pending, PublishError> {
        self.check_partition(partition)?;
        self.put(Some(partition), &record).await
    }

    /// Takes a batch that was built elsewhere, as it is, behind the records taken before it. Cancel-safe: a call that
    /// is dropped while it waits has taken nothing.
    ///
    /// # Errors
    /// As [`publish_to`](Self::publish_to).
    pub async fn publish_batch(
        &self,
        partition: u32,
        batch: RecordBatch,
    ) -> Result<PendingBatch, PublishError> {
        self.check_partition(partition)?;
        let bytes = batch.as_bytes().len();
        self.check_size("a batch", bytes)?;
        let cost = self.shared.cost(bytes);
        self.shared.take_room(cost).await?;
        let pending = self.shared.queue().push_batch(partition, batch, cost);
        self.after_push(cost, &pending, true);
        pending
    }

    /// Sends what is there without waiting for more, and waits until all of it has its receipt. Cancel-safe.
    ///
    /// # Errors
    /// The first failure of any record since the last flush.
    pub async fn flush(&self) -> Result<(), PublishError> {
        let pending = self.shared.queue().flush();
        self.shared.wake.notify_one();
        for batch in pending {
            // Failures are gathered by the queue, also those of batches answered before.
            let _ = batch.await;
        }
        match self.shared.queue().take_failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// [`flush`](Self::flush), and ends the stream. If cancelled, what is left is sent in the background.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(self) -> Result<(), PublishError> {
        self.flush().await
    }

    async fn put(&self, partition: Option<u32>, record: &Record) -> Result<Pending, PublishError> {
        let cost = self.cost_of(record)?;
        self.shared.take_room(cost).await?;
        self.push(partition, record, cost)
    }

    fn cost_of(&self, record: &Record) -> Result<usize, PublishError> {
        let bytes = alone_bytes(record);
        self.check_size("a record", bytes)?;
        Ok(self.shared.cost(bytes))
    }

    /// Takes a record that has its room.
    fn push(&self, partition: Option<u32>, record: &Record, cost: usize) -> Result<Pending, PublishError> {
        let pushed = self.shared.queue().push(partition, record, cost, Instant::now());
        let look = pushed.as_ref().is_ok_and(|(_, look)| *look);
        self.after_push(cost, &pushed, look);
        pushed.map(|(pending, _)| pending)
    }

    fn after_push<T>(&self, cost: usize, pushed: &Result<T, PublishError>, look: bool) {
        if pushed.is_err() {
            self.shared.room.add_permits(cost);
        } else if look {
            self.shared.wake.notify_one();
        }
    }

    fn check_partition(&self, partition: u32) -> Result<(), PublishError> {
        let partitions = self.shared.partitions;
        match partition < partitions {
            true => Ok(()),
            false => Err(PublishError::UnknownPartition { partition, partitions }),
        }
    }

    fn check_size(&self, what: &'static str, bytes: usize) -> Result<(), PublishError> {
        let max = self.shared.batch_bytes_max;
        match bytes <= max {
            true => Ok(()),
            false => Err(PublishError::TooLarge { what, bytes, max }),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.queue().close_down();
        self.shared.wake.notify_one();
    }
}

//! Who may publish how much: rates, and bytes on their way, of each connection, each topic and everybody.
//!
//! What is narrower is asked first, so that who is held back by a limit of its own keeps nobody else waiting. Whoever has
//! room of one kind waits only for wider ones, and what has room of all is committed: nothing can wait in a circle.

use std::sync::{Arc, OnceLock};

use millstream_types::{PublishLimit, PublishRate, RecordBatch, SlowDown};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    Broker, Error, Limits, Topic,
    limits::{COMMAND_BYTES, ONE_SHOT_WAIT, TELL_AFTER},
    rate::{Held, Passed, Rate, Weight},
};

/// Bytes on their way, up to a limit. Something larger passes alone. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    free: Arc<Semaphore>,
    bytes: u32,
}

impl Quota {
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = u32::try_from(bytes.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(bytes as usize)), bytes }
    }

    fn cost(&self, bytes: u64) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes)
    }

    fn try_take(&self, bytes: u64) -> Option<Share> {
        Arc::clone(&self.free).try_acquire_many_owned(self.cost(bytes)).ok()
    }

    /// Waits behind those that wait already. Cancel-safe.
    pub(crate) async fn take(&self, bytes: u64) -> Result<Share, AcquireError> {
        Arc::clone(&self.free).acquire_many_owned(self.cost(bytes)).await
    }

    /// Nothing is given out any more, also to those that wait.
    pub(crate) fn close(&self) {
        self.free.close();
    }

    fn is_full(&self, limit: PublishLimit) -> SlowDown {
        SlowDown { limit, value: u64::from(self.bytes), after_ms: None }
    }
}

/// Bytes of a quota; given back when dropped.
pub(crate) type Share = OwnedSemaphorePermit;

/// What the publishers of one connection share.
#[derive(Debug)]
pub struct Allowance {
    rate: Rate,
    quota: Quota,
}

impl Allowance {
    /// That of a new connection.
    pub fn new(limits: &Limits) -> Self {
        Self { rate: Rate::new(limits.connection_rate), quota: Quota::new(limits.connection_bytes) }
    }
}

/// What the publishers of one topic share.
#[derive(Debug)]
pub(crate) struct TopicShare {
    pub(crate) rate: Rate,
    /// There once somebody publishes.
    quota: OnceLock<Quota>,
}

impl TopicShare {
    pub(crate) fn new(rate: PublishRate) -> Self {
        Self { rate: Rate::new(rate), quota: OnceLock::new() }
    }
}

/// Room for what is published, of each kind, until it is committed; given back when dropped.
#[derive(Debug)]
pub struct Room {
    parts: Vec<Part>,
    /// Whether some of it is of what everybody has on the way into the store.
    in_backlog: bool,
}

/// A part of it.
#[derive(Debug)]
enum Part {
    Share(#[expect(dead_code, reason = "held until it is dropped")] Share),
    Shared(#[expect(dead_code, reason = "held until it is dropped")] Arc<Room>),
}

impl From<Share> for Room {
    fn from(share: Share) -> Self {
        Self { parts: vec![Part::Share(share)], in_backlog: true }
    }
}

impl From<Arc<Room>> for Room {
    fn from(others: Arc<Room>) -> Self {
        Self { in_backlog: others.in_backlog, parts: vec![Part::Shared(others)] }
    }
}

impl Room {
    /// The same with room in `backlog`, if it has none there yet. Waits for it, holding nothing that others wait for who have
    /// room there. Cancel-safe, but this room is given back.
    pub(crate) async fn widened(mut self, backlog: &Quota, bytes: usize) -> Result<Self, Error> {
        if !self.in_backlog {
            let share = backlog.take(bytes as u64).await.map_err(|_| Error::Stopping)?;
            self.parts.push(Part::Share(share));
            self.in_backlog = true;
        }
        Ok(self)
    }
}

impl Broker {
    /// Room for `batch` on its way from `connection` to `topic`. Waits for it; `told` is called with the reason, and again when
    /// another one takes over, unless it is but a moment. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Stopping`].
    pub async fn room_for(
        &self,
        batch: &RecordBatch,
        connection: &Allowance,
        topic: &Topic,
        told: impl FnMut(SlowDown),
    ) -> Result<Room, Error> {
        self.make_room(connection, &[(topic, weight(batch))], told).await
    }

    /// The same for what is published at once to several topics, in the order of their names; not waiting for long.
    ///
    /// # Errors
    /// [`Error::SlowDown`], [`Error::Stopping`].
    pub(crate) async fn room_at_once(
        &self,
        connection: &Allowance,
        topics: &[(&Topic, Weight)],
    ) -> Result<Room, Error> {
        let mut why = self.backlog_is_full();
        let told = |slow| why = Error::SlowDown(slow);
        let room = timeout(ONE_SHOT_WAIT, self.make_room(connection, topics, told)).await;
        room.unwrap_or_else(|_| Err(why))
    }

    async fn make_room(
        &self,
        connection: &Allowance,
        topics: &[(&Topic, Weight)],
        mut told: impl FnMut(SlowDown),
    ) -> Result<Room, Error> {
        use PublishLimit as Of;
        let mut all = Weight::default();
        topics.iter().for_each(|(_, weight)| all += *weight);
        let mut passed = Vec::new();
        for (topic, weight) in topics {
            let rate = &topic.share().rate;
            passed.extend(pass(rate, *weight, [Of::TopicBytesPerS, Of::TopicRecordsPerS], &mut told).await);
        }
        let of_connection = [Of::ConnectionBytesPerS, Of::ConnectionRecordsPerS];
        passed.extend(pass(&connection.rate, all, of_connection, &mut told).await);
        let mut parts = Vec::with_capacity(topics.len() + 3);
        parts.push(Part::Share(take(&connection.quota, all.bytes, Of::ConnectionBytes, &mut told).await?));
        let mut in_backlog = true;
        for (topic, weight) in topics {
            let quota = match topic.judging() {
                Some(ingest) => {
                    in_backlog = false;
                    ingest.quota()
                }
                None => topic.share().quota.get_or_init(|| Quota::new(self.shared.limits.topic_bytes)),
            };
            parts.push(Part::Share(take(quota, weight.bytes, Of::TopicBytes, &mut told).await?));
        }
        // What waits for modules takes nothing of what others need: it gets its room there once it is judged.
        let widest = if in_backlog { self.backlog() } else { &self.shared.ingest };
        parts.push(Part::Share(take(widest, all.bytes, Of::BrokerBytes, &mut told).await?));
        passed.into_iter().for_each(Passed::keep);
        Ok(Room { parts, in_backlog })
    }

    pub(crate) fn backlog_is_full(&self) -> Error {
        Error::SlowDown(self.backlog().is_full(PublishLimit::BrokerBytes))
    }

    fn backlog(&self) -> &Quota {
        self.shared.submitter.backlog()
    }
}

/// What `batch` counts.
pub(crate) fn weight(batch: &RecordBatch) -> Weight {
    Weight { bytes: batch.as_bytes().len() as u64, records: batch.view().len() as u64 }
}

async fn pass<'a>(
    rate: &'a Rate,
    weight: Weight,
    [bytes, records]: [PublishLimit; 2],
    told: &mut impl FnMut(SlowDown),
) -> Option<Passed<'a>> {
    if !rate.is_limited() {
        return None;
    }
    if let Some(passed) = rate.try_pass(weight) {
        return Some(passed);
    }
    // Who is here has been faster than the rate for longer than a moment.
    if let Some((held, wait)) = rate.held() {
        let after_ms = Some(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).saturating_add(1));
        told(match held {
            Held::Bytes { per_s, .. } => SlowDown { limit: bytes, value: per_s, after_ms },
            Held::Records { per_s, .. } => SlowDown { limit: records, value: per_s, after_ms },
        });
    }
    Some(rate.pass(weight).await)
}

/// Room for a command with so many bytes of batches.
async fn take(
    quota: &Quota,
    bytes: u64,
    limit: PublishLimit,
    told: &mut impl FnMut(SlowDown),
) -> Result<Share, Error> {
    let bytes = bytes + COMMAND_BYTES as u64;
    if let Some(share) = quota.try_take(bytes) {
        return Ok(share);
    }
    let mut wait = std::pin::pin!(quota.take(bytes));
    let share = tokio::select! {
        biased;
        share = &mut wait => share,
        // Less than a moment is how a busy broker works.
        () = sleep(TELL_AFTER) => {
            told(quota.is_full(limit));
            wait.await
        }
    };
    share.map_err(|_| Error::Stopping)
}

#[cfg(test)]
mod tests;

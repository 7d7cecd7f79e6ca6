//! One of a subscription's consumers, which holds a lease on each record that it has.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use millstream_types::{Offset, RecordBatch};

use crate::{
    Error, Place, Said, Subscription, Window,
    broker::Shared,
    group::{JoinError, MemberId},
    pump::{self, Outbox},
};

/// Records under a lease.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Where they are.
    pub place: Place,
    /// What settles them.
    pub lease: u64,
    /// Number of the newest message of this consumer that was taken before they were leased.
    pub heard: u64,
    /// Whether more that a module made of the last record comes with the next ones.
    pub more_follows: bool,
    /// Offset, deliveries before this one and failures, of those that were delivered before.
    pub tried: Vec<(Offset, u32, u32)>,
    /// The records.
    pub batch: RecordBatch,
}

/// One of a subscription's consumers. Dropping it counts as breaking off.
#[derive(Debug)]
pub struct Member {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    id: MemberId,
    outbox: Arc<Outbox>,
    left: AtomicBool,
}

impl Member {
    pub(crate) fn join(
        shared: Arc<Shared>,
        subscription: Arc<Subscription>,
        window: Window,
    ) -> Result<Self, Error> {
        if subscription.processing().is_some() {
            return Err(Error::IsProcessor(subscription.name().clone()));
        }
        let joined = {
            let mut group = subscription.group();
            // Before others see it in the group: what they hand to one without an outbox would be lost until its lease ends.
            group.join(window).map(|id| (id, subscription.pump.add(id)))
        };
        let (id, outbox) = joined.map_err(|error| match error {
            JoinError::Busy => Error::SubscriptionBusy(subscription.name().clone()),
            JoinError::Full { consumers } => {
                Error::TooManyConsumers { name: subscription.name().clone(), consumers }
            }
        })?;
        Ok(Self { shared, subscription, id, outbox, left: AtomicBool::new(false) })
    }

    /// What it consumes.
    pub fn subscription(&self) -> &Arc<Subscription> {
        &self.subscription
    }

    /// The next records; waits for some, and for room in the window. Cancel-safe. One call at a time.
    ///
    /// # Errors
    /// Why the subscription cannot go on, as [`Reading::next`](crate::Reading::next).
    pub async fn next(&self) -> Result<Granted, Error> {
        loop {
            if let Some(granted) = self.outbox.take() {
                return granted;
            }
            tokio::select! {
                biased;
                () = self.outbox.filled() => {}
                pumped = self.subscription.pump.run(&self.shared, &self.subscription, &self.outbox) => pumped?,
            }
        }
    }

    /// Settles records, by message `number` of the consumer; each answer says whether any of what was said was this consumer's to say. Returns once that is
    /// stored. If cancelled, it is stored all the same.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`], with nothing settled; a store in doubt.
    pub async fn settle(&self, number: u64, mut said: Vec<Said>) -> Result<Vec<bool>, Error> {
        for said in &mut said {
            said.partition = self.subscription.sources().index_of(said.partition)?;
        }
        let (held, news) = {
            let mut group = self.subscription.group();
            let held = group.settle(self.id, number, &said, self.shared.moment());
            (held, group.take_news())
        };
        self.subscription.pump.wake();
        if let Some(stored) = pump::store(&self.shared, &self.subscription, news) {
            stored.await.map_err(|error| Error::Internal(error.to_string()))??;
        }
        Ok(held)
    }

    /// Whether it holds records.
    pub fn holds_records(&self) -> bool {
        self.subscription.group().holds(self.id).0 > 0
    }

    /// Lets a lease end `ms` from now. False if this consumer does not hold it.
    pub fn extend(&self, lease: u64, ms: u64) -> bool {
        let extended = self.subscription.group().extend(self.id, lease, ms, self.shared.moment());
        self.subscription.pump.wake();
        extended
    }

    /// From now on it may hold so much.
    pub fn set_window(&self, window: Window) {
        self.subscription.group().set_window(self.id, window);
        self.subscription.pump.wake();
    }

    /// Leaves in good order: what it holds is for others at once, and did not fail.
    pub fn leave(&self) {
        self.end(false);
    }

    fn end(&self, broke_off: bool) {
        if self.left.swap(true, Ordering::AcqRel) {
            return;
        }
        let news = {
            let mut group = self.subscription.group();
            group.leave(self.id, broke_off, self.shared.moment());
            group.take_all_news()
        };
        self.subscription.pump.remove(self.id);
        // Without a runtime everything ends anyway.
        if tokio::runtime::Handle::try_current().is_ok() {
            pump::tell(&self.shared, &self.subscription, news);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end(true);
        self.subscription.pump.rest();
    }
}

//! Reading a subscription as a stream: by one consumer, in order, with cumulative acks.

use std::sync::Arc;

use millstream_types::{Offset, RecordBatch};

use crate::{
    Error, Place, Subscription,
    broker::{Shared, now},
    scan::Scan,
    subscription::Held,
};

/// What comes next in a subscription.
#[derive(Debug)]
pub enum Next {
    /// Records for the consumer.
    Batch {
        /// Where they are.
        place: Place,
        /// Everything below has been scanned.
        next: Offset,
        /// What is left of what was scanned.
        batch: RecordBatch,
    },
    /// Records were scanned, and none of them is for the consumer.
    Progress {
        /// Where they are.
        place: Place,
        /// Everything below has been scanned.
        next: Offset,
    },
    /// The topic of a partition was deleted, which is one of several.
    Gone {
        /// As consumers know the partition.
        number: u32,
    },
}

/// The same within the broker, by the partition's index among what the subscription reads.
#[derive(Debug)]
pub(crate) enum Step {
    Batch { partition: u32, next: Offset, batch: RecordBatch },
    Progress { partition: u32, next: Offset },
    Gone { partition: u32 },
}

impl Step {
    /// Of its records.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Batch { batch, .. } => batch.as_bytes().len(),
            Self::Progress { .. } | Self::Gone { .. } => 0,
        }
    }
}

/// A consumer's hold on a subscription. Dropping it gives the subscription free, and ends an ephemeral one.
#[derive(Debug)]
pub struct Reading {
    scan: Scan,
    held: Held,
    // Last: what ends is free by then.
    _ending: Ending,
}

/// Ends an ephemeral subscription, with what it binds, when it is dropped.
#[derive(Debug)]
pub(crate) struct Ending {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
}

impl Ending {
    /// Does nothing for a durable one.
    pub(crate) fn of(shared: &Arc<Shared>, subscription: &Arc<Subscription>) -> Self {
        Self { shared: Arc::clone(shared), subscription: Arc::clone(subscription) }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.subscription.is_durable() {
            self.shared.end_ephemeral(&self.subscription);
        }
    }
}

impl Reading {
    /// Takes a subscription for one reader. Cancel-safe.
    pub(crate) async fn start(ending: Ending) -> Result<Self, Error> {
        let held = ending.subscription.hold()?;
        let (shared, subscription) = (Arc::clone(&ending.shared), Arc::clone(&ending.subscription));
        let scan = Scan::start(shared, subscription, Subscription::settled).await?;
        Ok(Self { scan, held, _ending: ending })
    }

    /// What is being read.
    pub fn subscription(&self) -> &Arc<Subscription> {
        &self.held.0
    }

    /// What comes next; waits for records when there are none. Cancel-safe.
    ///
    /// # Errors
    /// Why the subscription cannot go on: [`Error::ModuleFault`], [`Error::CorruptBatch`], [`Error::TopicDeleted`],
    /// [`Error::SubscriptionDeleted`], or a failing store. The reading is of no more use then.
    pub async fn next(&mut self) -> Result<Next, Error> {
        loop {
            let step = match self.scan.next().await? {
                Step::Batch { partition, next, batch } => self.unsettled(partition, next, batch)?,
                step => step,
            };
            let subscription = self.subscription();
            let (partition, next) = match &step {
                Step::Batch { partition, next, .. } | Step::Progress { partition, next } => {
                    (*partition, *next)
                }
                Step::Gone { partition } => match subscription.sources().id(*partition) {
                    Some(id) => return Ok(Next::Gone { number: id.0 }),
                    None => continue,
                },
            };
            subscription.set_scanned(partition, next);
            // Where its topic is gone, that comes next.
            let Some(place) = subscription.sources().place(partition) else { continue };
            return Ok(match step {
                Step::Batch { batch, .. } => Next::Batch { place, next, batch },
                _ => Next::Progress { place, next },
            });
        }
    }

    /// Leaves out what was settled by others than a stream, record by record or as a dead letter, and what has expired.
    fn unsettled(&self, partition: u32, next: Offset, batch: RecordBatch) -> Result<Step, Error> {
        let view = batch.view();
        let gaps = self.subscription().unsettled(partition, view.base_offset()..next.max(view.next_offset()));
        let ranges = gaps.into_iter().map(|gap| view.index_of(gap.start)..view.index_of(gap.end));
        let mut ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
        if view.is_timed() {
            let now = now();
            let timely = |index: &usize| {
                view.record(*index).is_none_or(|record| record.expires_at.is_none_or(|at| at > now))
            };
            ranges = ranges.into_iter().flatten().filter(timely).map(|index| index..index + 1).collect();
        }
        Ok(match ranges.as_slice() {
            [] => Step::Progress { partition, next },
            [all] if all.len() == view.len() => Step::Batch { partition, next, batch },
            _ => Step::Batch { partition, next, batch: batch.decompressed()?.view().subset(&ranges)? },
        })
    }
}

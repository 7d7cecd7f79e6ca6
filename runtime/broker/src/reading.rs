//! Reading a subscription: pulled by its consumer, fetched ahead by a little, woken by its topic.

use std::{collections::VecDeque, sync::Arc};

use millstream_engine::Pipeline;
use millstream_types::{Offset, RecordBatch};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Error, Subscription, Topic,
    broker::{Shared, blocking},
    fetch::{self, Fetched, Source},
    limits::{FETCHES_MAX, FRESH_RECORDS, READY_BYTES_MAX, REST_AFTER},
    subscription::Held,
};

/// What comes next in a subscription.
#[derive(Debug)]
pub enum Step {
    /// Records for the consumer.
    Batch {
        /// Partition within the topic.
        partition: u32,
        /// Everything below has been scanned.
        next: Offset,
        /// What is left of what was scanned.
        batch: RecordBatch,
    },
    /// Records were scanned, and none of them is for the consumer.
    Progress {
        /// Partition within the topic.
        partition: u32,
        /// Everything below has been scanned.
        next: Offset,
    },
}

/// A consumer's hold on a subscription. Dropping it gives the subscription free, and ends an ephemeral one.
#[derive(Debug)]
pub struct Reading {
    shared: Arc<Shared>,
    held: Held,
    lanes: Vec<Lane>,
    /// Where the search for the next partition to fetch from begins: so that none is forgotten.
    turn: usize,
    ready: VecDeque<Step>,
    ready_bytes: usize,
    running: JoinSet<(usize, Result<Fetched, Error>)>,
    /// Bound modules that no fetch is using.
    idle: Vec<Pipeline>,
    changed: watch::Receiver<u64>,
    /// Told once everything before it was handed out.
    failure: Option<Error>,
    /// Whether the instances of the idle pipelines were given up.
    resting: bool,
}

/// One partition.
#[derive(Debug)]
struct Lane {
    next: Offset,
    fetching: bool,
}

impl Reading {
    pub(crate) async fn start(shared: Arc<Shared>, held: Held) -> Result<Self, Error> {
        let subscription = Arc::clone(&held.0);
        let topic = subscription.topic();
        let lanes = (0..topic.config().partitions)
            .map(|partition| Lane { next: subscription.settled(partition), fetching: false })
            .collect();
        let mut reading = Self {
            changed: topic.changes(),
            shared,
            held,
            lanes,
            turn: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            running: JoinSet::new(),
            idle: Vec::new(),
            failure: None,
            resting: false,
        };
        // The first pipeline is bound at once, so that a bad configuration is told to who subscribes.
        if !subscription.pipeline().is_empty() {
            reading.idle.push(bind(&reading.shared, &subscription).await?);
        }
        Ok(reading)
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
    pub async fn next(&mut self) -> Result<Step, Error> {
        loop {
            self.check_alive()?;
            self.changed.borrow_and_update();
            self.start_fetches()?;
            if let Some(step) = self.ready.pop_front() {
                return Ok(self.hand_out(step));
            }
            if let Some(failure) = &self.failure {
                if let Error::ModuleFault(fault) = failure {
                    self.subscription().set_fault(fault.clone());
                }
                return Err(failure.clone());
            }
            tokio::select! {
                biased;
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    let (lane, fetched) = done.map_err(|error| Error::Internal(error.to_string()))?;
                    self.take_in(lane, fetched);
                }
                () = tokio::time::sleep(REST_AFTER), if self.running.is_empty() && !self.resting => self.rest(),
                changed = self.changed.changed() => {
                    changed.map_err(|_| Error::TopicDeleted(self.topic().name().clone()))?;
                }
            }
        }
    }

    /// A quiet subscription holds no instances.
    fn rest(&mut self) {
        self.resting = true;
        for pipeline in &mut self.idle {
            pipeline.rest();
        }
    }

    fn topic(&self) -> &Arc<Topic> {
        self.held.0.topic()
    }

    fn check_alive(&self) -> Result<(), Error> {
        let subscription = self.subscription();
        if subscription.topic().is_deleted() {
            return Err(Error::TopicDeleted(subscription.topic().name().clone()));
        }
        if subscription.is_deleted() {
            return Err(Error::SubscriptionDeleted(subscription.name().clone()));
        }
        Ok(())
    }

    fn hand_out(&mut self, step: Step) -> Step {
        let (partition, next) = match &step {
            Step::Batch { partition, next, batch } => {
                self.ready_bytes -= batch.as_bytes().len();
                (*partition, *next)
            }
            Step::Progress { partition, next } => (*partition, *next),
        };
        self.subscription().set_scanned(partition, next);
        step
    }

    fn take_in(&mut self, lane: usize, fetched: Result<Fetched, Error>) {
        let place = self.lanes.get_mut(lane);
        let Some(place) = place else { return };
        place.fetching = false;
        match fetched {
            Ok(fetched) => {
                place.next = fetched.next;
                self.subscription().count(fetched.counted);
                self.idle.extend(fetched.pipeline);
                self.failure = self.failure.take().or(fetched.failure);
                for step in fetched.steps {
                    if let Step::Batch { batch, .. } = &step {
                        self.ready_bytes += batch.as_bytes().len();
                    }
                    self.ready.push_back(step);
                }
            }
            Err(error) => self.failure = Some(error),
        }
    }

    /// Starts fetching wherever there is something and room for it.
    fn start_fetches(&mut self) -> Result<(), Error> {
        if self.failure.is_some() {
            return Ok(());
        }
        let lanes = self.lanes.len();
        for step in 0..lanes {
            if self.running.len() >= FETCHES_MAX || self.ready_bytes >= READY_BYTES_MAX {
                break;
            }
            let index = (self.turn + step) % lanes;
            let partition = u32::try_from(index).expect("a topic has at most 1,024 partitions");
            let end = self.topic().end(partition);
            let Some(lane) = self.lanes.get(index) else { continue };
            if lane.fetching || lane.next >= end {
                continue;
            }
            let source = Source { partition, id: self.topic().partition(partition)?, from: lane.next, end };
            let modules = !self.subscription().pipeline().is_empty();
            if !modules && end - source.from <= FRESH_RECORDS {
                // In memory: a thread of its own would cost more than the read.
                let fetched = fetch::plain(&self.shared.store, self.topic(), source);
                self.take_in(index, fetched);
                continue;
            }
            // Fetches are as few as pipelines may be: where none is idle, one more is bound.
            let pipeline = self.idle.pop();
            self.turn = index + 1;
            self.resting = false;
            if let Some(lane) = self.lanes.get_mut(index) {
                lane.fetching = true;
            }
            let (shared, subscription) = (Arc::clone(&self.shared), Arc::clone(self.subscription()));
            self.running.spawn(async move {
                let fetched = match modules {
                    true => judged(&shared, &subscription, source, pipeline).await,
                    false => {
                        let store = shared.store.clone();
                        blocking(move || fetch::plain(&store, subscription.topic(), source)).await.flatten()
                    }
                };
                (index, fetched)
            });
        }
        Ok(())
    }
}

async fn judged(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    source: Source,
    pipeline: Option<Pipeline>,
) -> Result<Fetched, Error> {
    let pipeline = match pipeline {
        Some(pipeline) => pipeline,
        None => bind(shared, subscription).await?,
    };
    fetch::judged(shared, subscription, source, pipeline).await
}

/// A pipeline for `subscription`. Cancel-safe: what was bound is dropped.
async fn bind(shared: &Arc<Shared>, subscription: &Arc<Subscription>) -> Result<Pipeline, Error> {
    let (shared, subscription) = (Arc::clone(shared), Arc::clone(subscription));
    let bound = blocking(move || shared.registry.bind(&subscription)).await??;
    Ok(Pipeline::new(bound))
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.subscription().is_durable() {
            self.shared.end_ephemeral(self.subscription());
        }
    }
}

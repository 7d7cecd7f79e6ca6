//! Scanning what a subscription reads through its modules: pulled by who reads, fetched ahead by a little, woken by the
//! topic.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use millstream_engine::Pipeline;
use millstream_types::Offset;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::{
    Error, Subscription,
    bindings::Revision,
    broker::{Shared, blocking},
    fetch::{self, Fetched, Source},
    judging,
    lane::{Fetch, Lane},
    limits::{BUSY_WAIT, FETCH_BYTES, FETCHES_MAX, IN_MEMORY_BYTES, READY_BYTES_MAX, REST_AFTER},
    reading::Step,
};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Scan {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    /// One for each of the sources; those that are gone stay at their end.
    lanes: Vec<Lane>,
    /// Where the lane of a partition starts.
    start: fn(&Subscription, u32) -> Offset,
    /// Those of which something may be fetched now; all others have nothing, or wait for what comes of a fetch.
    open: BTreeSet<usize>,
    /// Those of which something was begun.
    begun: BTreeSet<usize>,
    /// Those that are held.
    held: BTreeSet<usize>,
    /// Where the search for the next partition to fetch from begins: so that none is forgotten.
    turn: usize,
    /// Of what changed, up to where it was looked.
    seen: Option<u64>,
    ready: VecDeque<Step>,
    ready_bytes: usize,
    /// Each with its lane and the number of its span.
    running: JoinSet<Ran>,
    /// Of those that run, by lane and number of the span.
    tasks: HashMap<(usize, u64), AbortHandle>,
    /// Bound modules that no fetch is using, each with its revision.
    idle: Vec<(u64, Pipeline)>,
    /// What judges the subscription's records now.
    revision: Arc<Revision>,
    /// What did before, as long as something is begun with it.
    older: BTreeMap<u64, Arc<Revision>>,
    /// Whether several spans of one partition may be judged at once: what goes to topics is appended in order.
    splits: bool,
    changed: watch::Receiver<u64>,
    /// Told once everything before it was handed out.
    failure: Option<Error>,
    /// Whether the instances of the idle pipelines were given up.
    resting: bool,
}

/// A fetch that is done: its lane, the number of its span, the revision of its modules, and what it brought.
type Ran = (usize, u64, u64, Result<Fetched, Error>);

impl Scan {
    /// `from` is where each partition starts.
    pub(crate) async fn start(
        shared: Arc<Shared>,
        subscription: Arc<Subscription>,
        from: fn(&Subscription, u32) -> Offset,
    ) -> Result<Self, Error> {
        let mut scan = Self {
            changed: subscription.sources().changes(),
            shared,
            subscription: Arc::clone(&subscription),
            lanes: Vec::new(),
            start: from,
            open: BTreeSet::new(),
            begun: BTreeSet::new(),
            held: BTreeSet::new(),
            turn: 0,
            seen: None,
            ready: VecDeque::new(),
            ready_bytes: 0,
            running: JoinSet::new(),
            tasks: HashMap::new(),
            idle: Vec::new(),
            revision: subscription.revision(),
            older: BTreeMap::new(),
            splits: false,
            failure: None,
            resting: false,
        };
        // The first pipeline is bound at once, so that a bad configuration is told to who subscribes.
        if !scan.revision.pipeline.is_empty() {
            let pipeline = bind(&scan.shared, &subscription, &scan.revision).await?;
            scan.give_back(scan.revision.number, pipeline);
        }
        Ok(scan)
    }

    /// What comes next; waits for records when there are none. Cancel-safe.
    ///
    /// # Errors
    /// Why the subscription cannot go on: [`Error::ModuleFault`], [`Error::CorruptBatch`], [`Error::TopicDeleted`],
    /// [`Error::SubscriptionDeleted`], or a failing store. The reading is of no more use then.
    pub(crate) async fn next(&mut self) -> Result<Step, Error> {
        loop {
            self.check_alive()?;
            self.look();
            self.start_fetches();
            if let Some(step) = self.ready.pop_front() {
                self.ready_bytes -= step.bytes();
                return Ok(step);
            }
            if let Some(failure) = &self.failure {
                if let Error::ModuleFault(fault) = failure {
                    self.subscription.set_fault(fault.clone());
                }
                return Err(failure.clone());
            }
            tokio::select! {
                biased;
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    match done {
                        Ok(ran) => self.take_in(ran),
                        // It was given up.
                        Err(error) if error.is_cancelled() => {}
                        Err(error) => return Err(Error::Internal(error.to_string())),
                    }
                }
                () = tokio::time::sleep(REST_AFTER), if self.running.is_empty() && !self.resting => self.rest(),
                changed = self.changed.changed() => {
                    changed.map_err(|_| Error::Gone)?;
                }
            }
        }
    }

    /// A quiet subscription holds no instances.
    fn rest(&mut self) {
        self.resting = true;
        for (_, pipeline) in &mut self.idle {
            pipeline.rest();
        }
    }

    fn give_back(&mut self, revision: u64, pipeline: Pipeline) {
        if revision == self.revision.number {
            self.splits = !pipeline.emits();
        }
        if revision == self.revision.number || self.older.contains_key(&revision) {
            self.idle.push((revision, pipeline));
        }
    }

    /// Other modules may judge from now on: those before are kept for what was begun with them.
    fn follow_bindings(&mut self) {
        let current = self.subscription.revision();
        if current.number != self.revision.number {
            let before = std::mem::replace(&mut self.revision, current);
            self.older.insert(before.number, before);
            self.splits = false;
            if matches!(self.failure, Some(Error::ModuleFault(_))) {
                self.failure = None;
                self.lanes.iter_mut().for_each(Lane::forget_failure);
                self.open.extend(self.begun.iter());
            }
        }
        if self.older.is_empty() {
            return;
        }
        let begun = self.begun.iter().filter_map(|index| self.lanes.get(*index)?.revision());
        let oldest = begun.min().unwrap_or(self.revision.number);
        self.older.retain(|number, _| *number >= oldest);
        self.idle.retain(|(number, _)| *number >= oldest);
    }

    /// Whether there is still something to scan.
    ///
    /// # Errors
    /// [`Error::TopicDeleted`], [`Error::SubscriptionDeleted`].
    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        let subscription = &self.subscription;
        if let Some(topic) = subscription.sources().gone() {
            return Err(Error::TopicDeleted(topic.name().clone()));
        }
        if subscription.is_deleted() {
            return Err(Error::SubscriptionDeleted(subscription.name().clone()));
        }
        Ok(())
    }

    /// Gives up what was fetched of a partition, and fetches nothing more of it until it is let go on: at `from`.
    pub(crate) fn hold(&mut self, partition: u32, from: Offset) {
        if let Some(lane) = self.lanes.get_mut(partition as usize) {
            lane.hold(from);
            // What they would do is done again, perhaps by other modules.
            self.tasks.retain(|(lane, _), task| {
                let given_up = *lane == partition as usize;
                if given_up {
                    task.abort();
                }
                !given_up
            });
            self.held.insert(partition as usize);
        }
        let of = |step: &Step| match step {
            Step::Batch { partition, .. } | Step::Progress { partition, .. } | Step::Gone { partition } => {
                *partition
            }
        };
        self.ready.retain(|step| of(step) != partition);
        self.ready_bytes = self.ready.iter().map(Step::bytes).sum();
    }

    /// Lets those partitions go on that are `eligible`.
    pub(crate) fn let_go(&mut self, eligible: impl Fn(u32) -> bool) {
        let (lanes, open) = (&mut self.lanes, &mut self.open);
        self.held.retain(|index| {
            let goes_on = eligible(index_of(*index));
            if goes_on && let Some(lane) = lanes.get_mut(*index) {
                lane.let_go();
                open.insert(*index);
            }
            !goes_on
        });
    }

    fn take_in(&mut self, ran: Ran) {
        let (lane, span, revision, mut fetched) = ran;
        self.tasks.remove(&(lane, span));
        if let Ok(fetched) = &mut fetched
            && let Some(pipeline) = fetched.pipeline.take()
        {
            self.give_back(revision, pipeline);
        }
        let (index, Some(lane)) = (lane, self.lanes.get_mut(lane)) else { return };
        self.open.insert(index);
        if self.subscription.sources().end(index_of(index)).is_none() {
            // Of a topic that is gone, one of several: that is told next, and what failed for it is no failure of the others.
            self.begun.remove(&index);
            return;
        }
        let released = lane.take(span, fetched, self.revision.number);
        if !lane.is_begun() {
            self.begun.remove(&index);
        }
        self.failure = self.failure.take().or(released.failure);
        for fetched in released.fetched {
            self.subscription.count(fetched.counted);
            for step in fetched.steps {
                self.ready_bytes += step.bytes();
                self.ready.push_back(step);
            }
        }
    }

    /// Takes in what changed since the last time.
    fn look(&mut self) {
        self.follow_bindings();
        let sources = self.subscription.sources();
        let version = *self.changed.borrow_and_update();
        for index in self.lanes.len()..sources.len() {
            let from = (self.start)(&self.subscription, index_of(index));
            self.lanes.push(Lane::at(from));
            self.open.insert(index);
        }
        if self.seen.replace(version) == Some(version) {
            return;
        }
        match sources.take_fresh() {
            Some(fresh) => self.open.extend(fresh.into_iter().map(|index| index as usize)),
            None => {
                let behind = |(index, lane): &(usize, &Lane)| {
                    sources.end(index_of(*index)).is_none_or(|end| lane.is_behind(end))
                };
                self.open.extend(self.lanes.iter().enumerate().filter(behind).map(|(index, _)| index));
            }
        }
    }

    /// Starts fetching wherever there is something and room for it.
    fn start_fetches(&mut self) {
        let turn = self.turn;
        // There may be very many: no more of them are looked at than there is room for.
        for Range { mut start, end } in [turn..usize::MAX, 0..turn] {
            while let Some(index) = self.open.range(start..end).next().copied() {
                if self.is_busy() {
                    return;
                }
                start = index + 1;
                match self.next_fetch(index, Lane::first) {
                    Some(fetch) => self.start_fetch(index, fetch),
                    None => drop(self.open.remove(&index)),
                }
            }
        }
        if !self.splits {
            return;
        }
        let begun: Vec<_> =
            self.begun.range(self.turn..).chain(self.begun.range(..self.turn)).copied().collect();
        for index in begun {
            if self.is_busy() {
                return;
            }
            if let Some(fetch) = self.next_fetch(index, Lane::further) {
                self.start_fetch(index, fetch);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.running.len() >= FETCHES_MAX || self.ready_bytes >= READY_BYTES_MAX || self.failure.is_some()
    }

    fn next_fetch(
        &mut self,
        index: usize,
        next: fn(&mut Lane, Offset, u64) -> Option<Fetch>,
    ) -> Option<Fetch> {
        let lane = self.lanes.get_mut(index)?;
        let Some(end) = self.subscription.sources().end(index_of(index)) else {
            if lane.end() {
                self.ready.push_back(Step::Gone { partition: index_of(index) });
            }
            return None;
        };
        next(lane, end, self.revision.number)
    }

    fn start_fetch(&mut self, lane: usize, fetch: Fetch) {
        let Fetch { number, revision, from, end, judged_bytes } = fetch;
        let Some(place) = self.subscription.sources().place(index_of(lane)) else {
            // Its topic was deleted just now: that is noticed the next time.
            return;
        };
        let source = Source { place, from, end, judged_bytes };
        self.turn = lane + 1;
        let by =
            if revision == self.revision.number { Some(&self.revision) } else { self.older.get(&revision) };
        let by = Arc::clone(by.expect("what something was begun with is kept"));
        // What runs beside needs to be given what is judged, even if nothing judges.
        let modules = !by.pipeline.is_empty() || self.subscription.shadow().is_some();
        if !modules && self.shared.store.is_in_memory(source.place.id, from) {
            // A thread of its own would cost more than the read.
            let fetched = fetch::plain(&self.shared.store, &source, IN_MEMORY_BYTES);
            return self.take_in((lane, number, revision, fetched));
        }
        // Fetches are as few as pipelines may be: where none is idle, one more is bound.
        let idle = self.idle.iter().position(|(idle, _)| *idle == revision);
        let pipeline = idle.map(|idle| self.idle.swap_remove(idle).1);
        self.begun.insert(lane);
        self.resting = false;
        let (shared, subscription) = (Arc::clone(&self.shared), Arc::clone(&self.subscription));
        let task = self.running.spawn(async move {
            let fetched = match modules {
                true => judged(&shared, &subscription, &by, source, pipeline).await,
                false => {
                    let store = shared.store.clone();
                    let fetch = move || fetch::plain(&store, &source, FETCH_BYTES);
                    blocking(fetch).await.flatten()
                }
            };
            (lane, number, revision, fetched)
        });
        self.tasks.insert((lane, number), task);
    }
}

fn index_of(lane: usize) -> u32 {
    u32::try_from(lane).expect("a broker has fewer partitions than 4 billion")
}

async fn judged(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    revision: &Arc<Revision>,
    source: Source,
    pipeline: Option<Pipeline>,
) -> Result<Fetched, Error> {
    let pipeline = match pipeline {
        Some(pipeline) => pipeline,
        None => match bind(shared, subscription, revision).await {
            Ok(pipeline) => pipeline,
            // Another fetch may have a pipeline to spare by then.
            Err(Error::InstancesBusy) => {
                tokio::time::sleep(BUSY_WAIT).await;
                return Ok(Fetched { next: source.from, ..Fetched::default() });
            }
            Err(error) => return Err(error),
        },
    };
    judging::judged(shared, subscription, revision, source, pipeline).await
}

/// A pipeline of `revision` for `subscription`. Cancel-safe: what was bound is dropped.
pub(crate) async fn bind(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    revision: &Arc<Revision>,
) -> Result<Pipeline, Error> {
    let (shared, subscription, revision) =
        (Arc::clone(shared), Arc::clone(subscription), Arc::clone(revision));
    let bind = move || {
        let bound = shared.registry.bind(&subscription, &revision.pipeline);
        if let Err(
            error @ (Error::ModuleUntrusted { .. }
            | Error::ModuleRefused(_)
            | Error::ConfigRefused { .. }
            | Error::UnknownModule(_)),
        ) = &bound
        {
            // It was none of that when it was bound first; what the broker grants is other now, say. For the operator to see.
            subscription.set_fault(error.to_string());
        }
        bound
    };
    let bound = blocking(bind).await??;
    Ok(Pipeline::new(bound))
}

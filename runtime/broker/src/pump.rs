//! What the consumers of a subscription share: the scan of what it reads, from which one of them at a time hands out
//! records to all. Whoever waits for records and finds nobody doing that does it, so no task is needed, and an
//! exclusive consumer gets its records without a detour.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millstream_types::{Counters, Offset, RecordBatch};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    Error, Granted, Subscription,
    broker::{Shared, blocking},
    command::Command,
    dead_letter,
    fetch::{self, Source},
    group::{Grant, MemberId, Moment, News},
    judging,
    limits::{AGAIN_RECORDS_MAX, AGAIN_SPAN, BUSY_WAIT, FETCH_BYTES, PROGRESS_EVERY, SPAN_BYTES},
    reading::Step,
    scan::{self, Scan},
};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Pump {
    machine: tokio::sync::Mutex<Option<Machine>>,
    /// Whoever pumps looks again.
    woken: Notify,
    outboxes: Mutex<BTreeMap<MemberId, Arc<Outbox>>>,
}

/// What was handed out to a consumer and not yet taken by it: bounded by its window.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    granted: Mutex<VecDeque<Granted>>,
    ended: Mutex<Option<Error>>,
    filled: Notify,
}

#[derive(Debug)]
struct Machine {
    scan: Scan,
    /// A batch of which not everything is handed out.
    pending: Option<Pending>,
    again: JoinSet<Again>,
    /// When progress over records that modules drop is to be stored.
    save: Option<tokio::time::Instant>,
}

#[derive(Debug)]
struct Pending {
    partition: u32,
    next: Offset,
    batch: RecordBatch,
    index: usize,
}

/// Records that were read again.
#[derive(Debug)]
struct Again {
    partition: u32,
    offsets: Vec<Offset>,
    /// With the offset below which each brings everything.
    result: Result<Vec<(Offset, RecordBatch)>, Error>,
}

impl Pump {
    /// Has whoever pumps look again: something was settled, or somebody came or went.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    pub(crate) fn add(&self, member: MemberId) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::default());
        self.outboxes().insert(member, Arc::clone(&outbox));
        self.wake();
        outbox
    }

    /// The consumer is gone, and what was not taken is given up.
    pub(crate) fn remove(&self, member: MemberId) {
        self.outboxes().remove(&member);
        self.wake();
    }

    /// Ends the scan when there is nobody to scan for. To be called by who will pump no more.
    pub(crate) fn rest(&self) {
        // Locked by those only who are still there.
        if self.outboxes().is_empty()
            && let Ok(mut machine) = self.machine.try_lock()
        {
            *machine = None;
        }
    }

    /// Hands out records until there are some for `me`. Cancel-safe.
    ///
    /// # Errors
    /// Why the subscription cannot go on; all its consumers are told.
    pub(crate) async fn run(
        &self,
        shared: &Arc<Shared>,
        subscription: &Arc<Subscription>,
        me: &Outbox,
    ) -> Result<(), Error> {
        let mut machine = self.machine.lock().await;
        loop {
            if me.is_filled() {
                // The next one goes on.
                return Ok(());
            }
            let outcome = match &mut *machine {
                Some(machine) => self.step(machine, shared, subscription).await,
                None => Machine::start(shared, subscription).await.map(|started| *machine = Some(started)),
            };
            if let Err(error) = outcome {
                *machine = None;
                if let Error::ModuleFault(fault) = &error {
                    subscription.set_fault(fault.clone());
                }
                self.end(&error);
                return Err(error);
            }
        }
    }

    /// Tells all consumers that nothing more comes.
    fn end(&self, error: &Error) {
        for outbox in self.outboxes().values() {
            *lock(&outbox.ended) = Some(error.clone());
            outbox.filled.notify_one();
        }
    }

    /// One step of the work. Cancel-safe.
    async fn step(
        &self,
        machine: &mut Machine,
        shared: &Arc<Shared>,
        subscription: &Arc<Subscription>,
    ) -> Result<(), Error> {
        machine.scan.check_alive()?;
        let moment = shared.moment();
        let (news, deadline, wants_more, ready) = {
            let mut group = subscription.group();
            group.tick(moment);
            let news =
                if machine.may_save(group.has_unsaved()) { group.take_all_news() } else { group.take_news() };
            machine.scan.let_go(|partition| group.is_eligible(partition));
            let ready =
                if machine.again.is_empty() { group.take_ready(AGAIN_RECORDS_MAX, AGAIN_SPAN) } else { None };
            (news, group.next_deadline(), group.wants_more(), ready)
        };
        tell(shared, subscription, news);
        if let Some((partition, offsets)) = ready {
            machine.read_again(shared, subscription, partition, offsets);
        }
        if let Some(pending) = machine.pending.take() {
            machine.pending = self.hand_out(subscription, pending, moment);
            let Some(pending) = &machine.pending else { return Ok(()) };
            let partition = pending.partition;
            let hold_at = {
                let group = subscription.group();
                // Where nobody has room, it waits here. What waits for others of its partition would be in the way of the
                // other partitions.
                let held =
                    group.is_blocked(partition) || (group.wants_more() && !group.is_eligible(partition));
                held.then(|| group.scan_position(partition))
            };
            if let Some(from) = hold_at {
                machine.scan.hold(partition, from);
                machine.pending = None;
            }
        }
        let until =
            deadline.map(|deadline| shared.instant_at(deadline)).into_iter().chain(machine.save).min();
        let wants_step = wants_more && machine.pending.is_none();
        tokio::select! {
            biased;
            () = self.woken.notified() => {}
            Some(again) = machine.again.join_next(), if !machine.again.is_empty() => {
                let again = again.map_err(|error| Error::Internal(error.to_string()))?;
                self.hand_out_again(subscription, again, shared)?;
            }
            step = machine.scan.next(), if wants_step => match step? {
                Step::Batch { partition, next, batch } => {
                    machine.pending = Some(Pending { partition, next, batch, index: 0 });
                }
                Step::Progress { partition, next } => subscription.group().scan_to(partition, next),
                // The group knows.
                Step::Gone { .. } => {}
            },
            () = sleep_until(until), if until.is_some() => {}
        }
        Ok(())
    }

    /// Hands out what finds somebody with room; what is left.
    fn hand_out(&self, subscription: &Subscription, pending: Pending, moment: Moment) -> Option<Pending> {
        let Pending { partition, next, batch, index } = pending;
        let view = batch.view();
        let placed = subscription.group().place(partition, &view, index, next, false, moment);
        let (upto, len) = (placed.upto, view.len());
        self.give(subscription, partition, next, &batch, placed.grants);
        (upto < len).then_some(Pending { partition, next, batch, index: upto })
    }

    fn hand_out_again(
        &self,
        subscription: &Subscription,
        again: Again,
        shared: &Shared,
    ) -> Result<(), Error> {
        let Again { partition, offsets, result } = again;
        let result = match result {
            Err(Error::InstancesBusy) => {
                // Again, soon.
                subscription.group().fetched(partition, &offsets, &offsets);
                return Ok(());
            }
            // Its topic is gone, one of several.
            Err(_) if subscription.sources().place(partition).is_none() => Vec::new(),
            result => result?,
        };
        let mut brought = Vec::new();
        for (next, batch) in result {
            let view = batch.view();
            let placed = subscription.group().place(partition, &view, 0, next, true, shared.moment());
            brought.extend(view.records().map(|record| record.offset));
            self.give(subscription, partition, next, &batch, placed.grants);
        }
        let gone = subscription.group().fetched(partition, &offsets, &brought);
        if subscription.revision().pipeline.is_empty() {
            // Deleted by retention while they waited; what compaction deletes is replaced by what is newer.
            let row = subscription.sources().id(partition).and_then(|id| shared.store.partition(id));
            let missed =
                row.map_or(0, |row| gone.iter().filter(|offset| **offset < row.low_watermark).count());
            subscription.count(Counters { missed: missed as u64, ..Counters::default() });
        }
        Ok(())
    }

    fn give(
        &self,
        subscription: &Subscription,
        partition: u32,
        next: Offset,
        batch: &RecordBatch,
        grants: Vec<Grant>,
    ) {
        // Its topic may have been deleted just now: the group knows.
        let Some(place) = subscription.sources().place(partition) else { return };
        let plain = match grants.iter().any(|grant| !is_all(&grant.records, batch)) {
            true => batch.decompressed(),
            false => Ok(batch.clone()),
        };
        let outboxes = self.outboxes();
        for grant in grants {
            // Who has left in between has given back what it held.
            let Some(outbox) = outboxes.get(&grant.member) else { continue };
            let part = match is_all(&grant.records, batch) {
                true => Ok(batch.clone()),
                false => plain.clone().and_then(|plain| plain.view().subset(&grant.records)),
            };
            let part = match part {
                Ok(part) => part,
                Err(error) => {
                    let offset = batch.view().base_offset();
                    // It decompressed when it was appended: the store is damaged in a way that its checksums do not show.
                    tracing::error!(partition, offset, %error, "a stored batch cannot be decompressed");
                    continue;
                }
            };
            let last = part.view().len().checked_sub(1).and_then(|last| part.view().record(last));
            let granted = Granted {
                place: place.clone(),
                lease: grant.lease,
                heard: grant.heard,
                more_follows: last.is_some_and(|last| last.offset >= next),
                tried: grant.tried,
                batch: part,
            };
            lock(&outbox.granted).push_back(granted);
            outbox.filled.notify_one();
        }
    }

    fn outboxes(&self) -> MutexGuard<'_, BTreeMap<MemberId, Arc<Outbox>>> {
        lock(&self.outboxes)
    }
}

impl Outbox {
    /// What is next; `None` when there is nothing.
    pub(crate) fn take(&self) -> Option<Result<Granted, Error>> {
        let granted = lock(&self.granted).pop_front().map(Ok);
        granted.or_else(|| lock(&self.ended).clone().map(Err))
    }

    /// Resolves when something may have come. Cancel-safe.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn is_filled(&self) -> bool {
        !lock(&self.granted).is_empty() || lock(&self.ended).is_some()
    }
}

impl Machine {
    async fn start(shared: &Arc<Shared>, subscription: &Arc<Subscription>) -> Result<Self, Error> {
        // Of a machine that was given up.
        subscription.group().restart_fetches();
        subscription.try_again();
        let from = |subscription: &Subscription, partition| subscription.group().scan_position(partition);
        let scan = Scan::start(Arc::clone(shared), Arc::clone(subscription), from).await?;
        Ok(Self { scan, pending: None, again: JoinSet::new(), save: None })
    }

    /// Whether it is time to store progress over records that modules drop.
    fn may_save(&mut self, unsaved: bool) -> bool {
        match self.save {
            Some(due) if due <= tokio::time::Instant::now() => {
                self.save = None;
                true
            }
            Some(_) => false,
            None => {
                self.save = unsaved.then(|| tokio::time::Instant::now() + PROGRESS_EVERY);
                false
            }
        }
    }

    fn read_again(
        &mut self,
        shared: &Arc<Shared>,
        subscription: &Arc<Subscription>,
        partition: u32,
        offsets: Vec<Offset>,
    ) {
        let place = subscription.sources().place(partition);
        let (shared, subscription) = (Arc::clone(shared), Arc::clone(subscription));
        self.again.spawn(async move {
            let (from, end) =
                (offsets.first().copied().unwrap_or(0), offsets.last().map_or(0, |last| last + 1));
            let source = place.map(|place| Source { place, from, end, judged_bytes: SPAN_BYTES });
            let result = match source {
                // Its topic was deleted.
                None => Ok(Vec::new()),
                Some(source) if subscription.revision().pipeline.is_empty() => {
                    read_plain(&shared, source, &offsets).await
                }
                Some(source) => read_judged(&shared, &subscription, source, &offsets).await,
            };
            Again { partition, offsets, result }
        });
    }
}

async fn read_plain(
    shared: &Arc<Shared>,
    mut source: Source,
    offsets: &[Offset],
) -> Result<Vec<(Offset, RecordBatch)>, Error> {
    let (store, offsets) = (shared.store.clone(), offsets.to_vec());
    blocking(move || {
        let mut batches = Vec::new();
        while source.from < source.end {
            let fetched = fetch::plain(&store, &source, FETCH_BYTES)?;
            source.from = fetched.next;
            for step in fetched.steps {
                let Step::Batch { next, batch, .. } = step else { continue };
                let batch = batch.decompressed()?;
                let view = batch.view();
                let wanted = offsets.iter().map(|offset| view.index_of(*offset)..view.index_of(offset + 1));
                let wanted: Vec<_> = wanted.filter(|range| !range.is_empty()).collect();
                if !wanted.is_empty() {
                    batches.push((next, view.subset(&wanted)?));
                }
            }
        }
        Ok(batches)
    })
    .await?
}

/// Each run of offsets by itself: what lies between them is not judged again.
async fn read_judged(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    source: Source,
    offsets: &[Offset],
) -> Result<Vec<(Offset, RecordBatch)>, Error> {
    let revision = subscription.revision();
    let bound = scan::bind(shared, subscription, &revision).await;
    if matches!(bound, Err(Error::InstancesBusy)) {
        tokio::time::sleep(BUSY_WAIT).await;
    }
    let mut pipeline = Some(bound?);
    let mut batches = Vec::new();
    for run in offsets.chunk_by(|a, b| a + 1 == *b) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let mut from = *first;
        while from <= *last {
            let Some(bound) = pipeline.take() else { break };
            let source = Source { from, end: last + 1, ..source.clone() };
            let fetched = judging::judged(shared, subscription, &revision, source, bound).await?;
            // Those that were bound meanwhile are to judge all of them.
            if fetched.given_up || subscription.revision().number != revision.number {
                return Err(Error::InstancesBusy);
            }
            if let Some(failure) = fetched.failure {
                return Err(failure);
            }
            // Where it does not come on, its modules are let alone, and the next fetch waits for that.
            from = fetched.next;
            pipeline = fetched.pipeline;
            batches.extend(fetched.steps.into_iter().filter_map(|step| match step {
                Step::Batch { next, batch, .. } => Some((next, batch)),
                Step::Progress { .. } | Step::Gone { .. } => None,
            }));
        }
    }
    Ok(batches)
}

/// Has `news` stored, and dead letters written. What is settled need not be waited for: if it is lost, that is a
/// redelivery.
pub(crate) fn tell(shared: &Arc<Shared>, subscription: &Arc<Subscription>, news: News) {
    drop(store(shared, subscription, news));
}

/// The same; the answer comes once the settlements are stored.
pub(crate) fn store(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    news: News,
) -> Option<tokio::task::JoinHandle<Result<(), Error>>> {
    let News { settlements, dead } = news;
    if !dead.is_empty() {
        tokio::spawn(dead_letter::bury(Arc::clone(shared), Arc::clone(subscription), dead));
    }
    let id = subscription.id().filter(|_| !settlements.is_empty())?;
    let sources = subscription.sources();
    let settlements = settlements
        .into_iter()
        .filter_map(|(partition, settlement)| Some((sources.id(partition)?, settlement)));
    let command = Command::Settle { subscription: id, settlements: settlements.collect() };
    let shared = Arc::clone(shared);
    // A task of its own: what the group has settled must reach the shard even if nobody waits for it.
    Some(tokio::spawn(async move { shared.submitter.execute(command).await.map(drop) }))
}

fn is_all(records: &[Range<usize>], batch: &RecordBatch) -> bool {
    matches!(records, [all] if all.len() == batch.view().len())
}

async fn sleep_until(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

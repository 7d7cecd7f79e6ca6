//! Processors: subscriptions that the broker itself reads, from the oldest record on, one step after the other. What a step
//! makes, what its module remembers and how far it came are one command, so each record counts once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use millstream_engine::{Pipeline, State, StateSize, StateStore};
use millstream_store::{StateEntriesOf, StateEntry, Store};
use millstream_types::{
    Check, Offset, PartitionId, ProcessorChange, ProcessorConfig, ProcessorInfo, RecordBatch, Timestamp,
    TopicName,
};
use tokio::sync::{Notify, watch};

use crate::{
    Error, Place, Subscription,
    bindings::Revision,
    broker::{Shared, blocking, now},
    command::{Command, Processed},
    dead_letter,
    fetch::Source,
    judging::{self, Made},
    limits::{BUSY_WAIT, FIRST_JUDGED_BYTES, PROCESSOR_MERGE_BYTES, PROCESSOR_WAIT, REST_AFTER},
    reading::Step,
    routing::{self, Outputs},
    rows::{ProcessorRow, SubscriptionRow},
    scan,
};

/// A sink may be deleted while its records are on their way; it is then made again, but not for ever.
const TRIES: usize = 3;

/// What a processor has beside other subscriptions.
#[derive(Debug)]
pub(crate) struct Processing {
    sink: Option<TopicName>,
    state_bytes_max: Arc<AtomicU64>,
    paused: watch::Sender<bool>,
    size: Mutex<StateSize>,
    /// Something changed that is no new record.
    woken: Notify,
}

impl Processing {
    pub(crate) fn new(row: &ProcessorRow, size: StateSize) -> Self {
        Self {
            sink: row.sink.clone(),
            state_bytes_max: Arc::new(row.state_bytes_max.into()),
            paused: watch::Sender::new(row.paused),
            size: Mutex::new(size),
            woken: Notify::new(),
        }
    }

    pub(crate) fn info(&self, row: &SubscriptionRow) -> ProcessorInfo {
        let StateSize { entries, bytes } = self.size();
        let sources = row.patterns().cloned().collect();
        let (sink, state_bytes_max) = (self.sink.clone(), self.state_bytes_max());
        let config = ProcessorConfig { sources, sink, state_bytes_max };
        ProcessorInfo { config, paused: self.is_paused(), state_entries: entries, state_bytes: bytes }
    }

    /// The state as it is committed, for modules that are bound now.
    pub(crate) fn state(&self, store: &Store, processor: Option<u32>) -> State {
        match processor {
            Some(processor) => {
                let stored = Stored { store: store.clone(), processor };
                State::new(Arc::new(stored), self.size(), Arc::clone(&self.state_bytes_max))
            }
            None => State::in_memory(self.state_bytes_max()),
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    pub(crate) fn state_bytes_max(&self) -> u64 {
        self.state_bytes_max.load(Ordering::Relaxed)
    }

    pub(crate) fn change(&self, change: ProcessorChange) {
        match change {
            ProcessorChange::Paused(paused) => drop(self.paused.send_replace(paused)),
            ProcessorChange::StateBytesMax(max) => self.state_bytes_max.store(max, Ordering::Relaxed),
        }
        self.wake();
    }

    pub(crate) fn wake(&self) {
        // Kept for the one task that waits, if it does not wait yet.
        self.woken.notify_one();
    }

    pub(crate) fn set_size(&self, size: StateSize) {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = size;
    }

    fn size(&self) -> StateSize {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the store has of a processor's state.
struct Stored {
    store: Store,
    processor: u32,
}

impl StateStore for Stored {
    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, String> {
        let entry = StateEntry { processor: self.processor, key: bytes::Bytes::copy_from_slice(key) };
        self.store.get(&entry).map_err(|error| error.to_string())
    }

    fn scan<'a>(
        &'a self,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Box<dyn Iterator<Item = Result<millstream_engine::StateEntry, String>> + 'a> {
        let processor = self.processor;
        let prefix = StateEntriesOf { processor, prefix: bytes::Bytes::copy_from_slice(prefix) };
        let rows = match after {
            Some(after) => {
                let after = StateEntry { processor, key: bytes::Bytes::copy_from_slice(after) };
                self.store.scan_after(&prefix, &after)
            }
            None => self.store.scan_prefix(&prefix),
        };
        Box::new(
            rows.map(|row| row.map(|(entry, value)| (entry.key, value)).map_err(|error| error.to_string())),
        )
    }
}

/// Resolves once a processor is to pause. Cancel-safe.
pub(crate) async fn paused(processing: Option<&Processing>) {
    let Some(processing) = processing else { return };
    // Sent by the subscription itself, which is there.
    let _ = processing.paused.subscribe().wait_for(|paused| *paused).await;
}

/// Runs a processor until it is deleted, or the broker stops. Cancel-safe: a step that is handed in is done or not.
pub(crate) async fn run(shared: Arc<Shared>, subscription: Arc<Subscription>) {
    let mut driver = Driver { shared, subscription, pipeline: None, heads: HashMap::new(), resting: false };
    let mut wait = PROCESSOR_WAIT.0;
    loop {
        match driver.go_on().await {
            Ok(()) => wait = PROCESSOR_WAIT.0,
            Err(Error::Stopping) => return,
            Err(_) if driver.has_ended() => return,
            // What it was at does not count any more.
            Err(_) if driver.processing().is_paused() => {}
            Err(Error::InstancesBusy) => tokio::time::sleep(BUSY_WAIT).await,
            Err(error) => {
                driver.failed(&error, wait).await;
                wait = PROCESSOR_WAIT.1.min(wait * 2);
            }
        }
        if driver.has_ended() {
            return;
        }
    }
}

struct Driver {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    /// With the number of its revision.
    pipeline: Option<(u64, Pipeline)>,
    /// Of each partition the first record that is not processed, and its time.
    heads: HashMap<PartitionId, (Offset, Timestamp)>,
    resting: bool,
}

impl Driver {
    fn has_ended(&self) -> bool {
        self.subscription.is_deleted() || self.subscription.sources().gone().is_some()
    }

    fn processing(&self) -> &Processing {
        self.subscription.processing().expect("a processor's subscription")
    }

    /// It cannot go on: that is to be seen, and it is tried again after a while, or once somebody does something about it.
    async fn failed(&mut self, error: &Error, wait: Duration) {
        self.pipeline = None;
        self.heads.clear();
        let name = self.subscription.name();
        tracing::warn!(processor = %name, %error, "a processor cannot go on; its backlog is kept");
        self.subscription.set_fault(error.to_string());
        let halted = matches!(error, Error::ModuleFault(_));
        tokio::select! {
            () = tokio::time::sleep(wait), if !halted => {}
            () = self.processing().woken.notified() => {}
        }
    }

    /// Takes one step, or waits until there may be one.
    async fn go_on(&mut self) -> Result<(), Error> {
        let subscription = Arc::clone(&self.subscription);
        let mut changed = subscription.sources().changes();
        if self.processing().is_paused() {
            self.pipeline = None;
            self.processing().woken.notified().await;
            return Ok(());
        }
        let revision = subscription.revision();
        let (number, pipeline) = match self.pipeline.take() {
            Some((number, pipeline)) if number == revision.number => (number, pipeline),
            _ => (revision.number, scan::bind(&self.shared, &subscription, &revision).await?),
        };
        changed.mark_unchanged();
        let Some(source) = self.next().await? else {
            self.pipeline = Some((number, pipeline));
            return self.wait(&mut changed).await;
        };
        self.resting = false;
        if self.processing().is_paused() {
            return Ok(());
        }
        if let Some(state) = pipeline.state() {
            state.set_source(source.place.topic.name().as_str(), source.place.partition);
        }
        let fetched = judging::judged(&self.shared, &subscription, &revision, source, pipeline).await?;
        subscription.count(fetched.counted);
        self.pipeline = fetched.pipeline.map(|pipeline| (number, pipeline));
        match fetched.failure {
            Some(failure) => Err(failure),
            None => {
                subscription.clear_fault();
                Ok(())
            }
        }
    }

    /// Waits for records, or for somebody to change something.
    async fn wait(&mut self, changed: &mut watch::Receiver<u64>) -> Result<(), Error> {
        tokio::select! {
            changed = changed.changed() => changed.map_err(|_| Error::Gone)?,
            () = self.processing().woken.notified() => {}
            () = tokio::time::sleep(REST_AFTER), if !self.resting => {
                self.resting = true;
                if let Some((_, pipeline)) = &mut self.pipeline {
                    pipeline.rest();
                }
            }
        }
        Ok(())
    }

    /// What to process next: of all partitions with something, that whose next record is oldest.
    async fn next(&mut self) -> Result<Option<Source>, Error> {
        let mut behind = Vec::new();
        for (place, settled) in self.subscription.places() {
            let open = self.subscription.unsettled(place.index, settled..place.end().max(settled));
            if let Some(open) = open.into_iter().find(|open| !open.is_empty()) {
                behind.push(Source {
                    place,
                    from: open.start,
                    end: open.end,
                    judged_bytes: FIRST_JUDGED_BYTES,
                });
            }
        }
        if behind.len() < 2 {
            return Ok(behind.pop());
        }
        let (store, mut heads) = (self.shared.store.clone(), std::mem::take(&mut self.heads));
        let (heads, source) = blocking(move || {
            let source = oldest(&store, behind, &mut heads);
            (heads, source)
        })
        .await?;
        self.heads = heads;
        source
    }
}

/// Of several sources that whose next record is oldest, up to where another one's is older.
fn oldest(
    store: &Store,
    behind: Vec<Source>,
    heads: &mut HashMap<PartitionId, (Offset, Timestamp)>,
) -> Result<Option<Source>, Error> {
    let mut times = Vec::with_capacity(behind.len());
    for source in behind {
        let id = source.place.id;
        let head = heads.get(&id).filter(|(offset, _)| *offset == source.from).map(|(_, time)| *time);
        let time = match head {
            Some(time) => time,
            // Where nothing is left of it, that is passed over at once.
            None => batches(store, &source, 0)?.first().map_or(0, |batch| time_of(batch, source.from)),
        };
        heads.insert(id, (source.from, time));
        times.push((time, source.place.index, source));
    }
    times.sort_by_key(|(time, index, _)| (*time, *index));
    let mut times = times.into_iter();
    let (Some((_, _, mut source)), Some((other, ..))) = (times.next(), times.next()) else { return Ok(None) };
    let batches = batches(store, &source, PROCESSOR_MERGE_BYTES)?;
    let first_after = batches.iter().skip(1).find(|batch| batch.view().timestamp() > other);
    let read = batches.last().map_or(source.end, |batch| batch.view().next_offset());
    source.end =
        first_after.map_or(read, |batch| batch.view().base_offset()).clamp(source.from + 1, source.end);
    Ok(Some(source))
}

fn batches(store: &Store, source: &Source, bytes_max: usize) -> Result<Vec<RecordBatch>, Error> {
    let stored = store.read(source.place.id, source.from, source.end, bytes_max)?;
    let batches = stored.into_iter().map(|stored| {
        RecordBatch::new(stored.bytes, Check::Header).map_err(|cause| Error::CorruptBatch {
            topic: source.place.topic.name().clone(),
            partition: source.place.partition,
            offset: stored.base_offset,
            cause,
        })
    });
    batches.collect()
}

fn time_of(batch: &RecordBatch, offset: Offset) -> Timestamp {
    let view = batch.view();
    view.record(view.index_of(offset)).map_or(view.timestamp(), |record| record.timestamp)
}

/// Commits what was made of the records at `place` from `from` on: one step.
///
/// # Errors
/// [`Error::Overtaken`] where `from` is not what comes next, or it was told to pause; [`Error::Gone`].
pub(crate) async fn commit(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    revision: &Revision,
    place: &Place,
    from: Offset,
    made: &Made,
    state: Option<&State>,
) -> Result<(), Error> {
    if made.next <= from {
        return Ok(());
    }
    let processor = subscription.id().ok_or(Error::Gone)?;
    let (changes, size) = match state {
        Some(state) => state.changes(),
        None => Default::default(),
    };
    let mut tries = TRIES;
    loop {
        let outputs = outputs(shared, subscription, revision, place, made).await?;
        let command = Command::Process(Box::new(Processed {
            processor,
            partition: place.id,
            from,
            to: made.next,
            outputs,
            changes: changes.clone(),
            size,
            now: now(),
        }));
        tries -= 1;
        match shared.submitter.execute(command).await {
            Ok(_) => break,
            Err(Error::Gone) if tries > 0 && !subscription.is_deleted() => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(state) = state {
        state.committed();
    }
    Ok(())
}

/// What goes to topics, those made where they are not there.
async fn outputs(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    revision: &Revision,
    place: &Place,
    made: &Made,
) -> Result<Vec<(PartitionId, RecordBatch)>, Error> {
    let mut outputs = Outputs::default();
    let sink = subscription.processing().and_then(|processing| processing.sink.clone());
    let delivered = made.steps.iter().filter_map(|step| match step {
        Step::Batch { batch, .. } => Some(batch),
        Step::Progress { .. } | Step::Gone { .. } => None,
    });
    if let Some(sink) = sink {
        for batch in delivered {
            let topic = open(shared, place, &sink).await?;
            let batch = batch.decompressed()?;
            batch.view().records().try_for_each(|record| outputs.push(&topic, record.offset, &record))?;
        }
    }
    for outcome in &made.routes {
        for routed in outcome.routed() {
            let topic = open(shared, place, routed.topic).await?;
            outputs.push(&topic, routed.source, &routed.record)?;
        }
    }
    let mut outputs = outputs.finish()?;
    for (batch, refused) in &made.refused {
        outputs.extend(dead_letter::for_step(shared, subscription, revision, place, batch, refused).await?);
    }
    Ok(outputs)
}

async fn open(shared: &Arc<Shared>, source: &Place, name: &TopicName) -> Result<Arc<crate::Topic>, Error> {
    match shared.catalog.topic(name) {
        Ok(topic) => Ok(topic),
        Err(_) => routing::create(shared, &source.topic, name).await,
    }
}

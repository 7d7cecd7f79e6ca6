//! The thread that keeps the log in bounds: it lets go what retention lets go (`retention.rs`), compacts (`compaction.rs`), deletes
//! what deleted topics held, and has the store take back the disk space.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use millstream_store::{Cleanup, RemovedPartition, RemovedState, Store};
use millstream_types::{Offset, PartitionId, Retention, Timestamp};
use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    Error, Topic,
    broker::now,
    catalog::Catalog,
    command::{Command, Reply},
    committer::{Submitter, answer},
    compaction::Compactor,
    limits::{CUTS_MAX, UPKEEP_STOP},
    retention::{Cut, Oldest, cut},
};

/// The thread, as long as this lives.
#[derive(Debug)]
pub(crate) struct Thread {
    stop: Mutex<Option<Stop>>,
}

#[derive(Debug)]
struct Stop {
    /// Dropping it ends the thread.
    running: Sender<()>,
    /// Closed by the thread when it has ended.
    ended: Receiver<()>,
}

impl Thread {
    pub(crate) fn start(
        store: &Store,
        catalog: &Arc<Catalog>,
        submitter: &Submitter,
        interval: Duration,
    ) -> Result<Self, Error> {
        let failed = |error| Error::Internal(format!("no thread for upkeep: {error}"));
        let (running, stopped) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        let upkeep = Upkeep {
            store: store.clone(),
            catalog: Arc::clone(catalog),
            submitter: submitter.clone(),
            // For the committer's answers alone: it drives neither sockets nor timers.
            runtime: tokio::runtime::Builder::new_current_thread().build().map_err(failed)?,
            oldest: Oldest::new(),
            compactor: Compactor::new(store.clone()),
            removed: VecDeque::new(),
            removed_states: VecDeque::new(),
            turn: false,
        };
        let work = move || {
            upkeep.run(&stopped, interval);
            drop(ending);
        };
        std::thread::Builder::new().name("upkeep".into()).spawn(work).map_err(failed)?;
        Ok(Self { stop: Mutex::new(Some(Stop { running, ended })) })
    }

    /// Ends the thread, and waits for that, though not for a long compaction: the process may end in its middle.
    pub(crate) fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Stop { running, ended }) = stop else { return };
        drop(running);
        if ended.recv_timeout(UPKEEP_STOP) == Err(RecvTimeoutError::Timeout) {
            tracing::info!("disk space is still being taken back; that goes on after the next start");
        }
    }
}

/// A shorter interval would keep a core busy.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// The thread's state.
struct Upkeep {
    store: Store,
    catalog: Arc<Catalog>,
    submitter: Submitter,
    runtime: Runtime,
    oldest: Oldest,
    compactor: Compactor,
    /// Partitions of deleted topics, and from which offset on they still hold something.
    removed: VecDeque<(PartitionId, Offset)>,
    /// Deleted processors of which entries of the state are still there.
    removed_states: VecDeque<u32>,
    /// Whether it is their turn.
    turn: bool,
}

impl Upkeep {
    fn run(mut self, stopped: &Receiver<()>, interval: Duration) {
        let interval = interval.max(INTERVAL_MIN);
        let mut look = Instant::now() + interval;
        let (mut wait, mut more) = (interval, false);
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let due = Instant::now() >= look;
            if due || more {
                more = match self.sweep(now()) {
                    Ok(more) => more,
                    Err(Error::Stopping) => return,
                    Err(error) => {
                        tracing::warn!(%error, "retention failed; it is tried again");
                        false
                    }
                };
            }
            if due {
                self.reclaim();
                self.compactor.look(&self.catalog, now());
                self.look_for_removed();
                look = Instant::now() + interval;
            }
            let began = Instant::now();
            let busy = match self.step() {
                Ok(busy) => busy,
                Err(Error::Stopping) => return,
                Err(error) => {
                    tracing::warn!(%error, "compaction passed over a partition; it is tried again");
                    true
                }
            };
            wait = match busy || more {
                // It takes half of a core at most.
                true => began.elapsed(),
                false => look.saturating_duration_since(began),
            };
        }
    }

    fn reclaim(&self) {
        match self.store.reclaim() {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "the disk space of deleted records was taken back"),
            Err(error) => tracing::warn!(%error, "disk space was not taken back; it is tried again"),
        }
    }

    /// Some of what takes long, if there is anything.
    fn step(&mut self) -> Result<bool, Error> {
        let removes = !self.removed.is_empty() && (self.turn || !self.compactor.is_busy());
        self.turn = !removes;
        if removes && let Some((partition, from)) = self.removed.pop_front() {
            match self.store.remove_partition(partition, from) {
                Ok(Cleanup::More { from }) => self.removed.push_front((partition, from)),
                Ok(Cleanup::Done) => {}
                Err(error) => {
                    tracing::warn!(%partition, %error, "what a deleted topic held is still there; it is tried again")
                }
            }
            return Ok(true);
        }
        if let Some(processor) = self.removed_states.pop_front() {
            match self.store.remove_state(processor) {
                Ok(true) => {}
                Ok(false) => self.removed_states.push_back(processor),
                Err(error) => {
                    tracing::warn!(processor, %error, "the state of a deleted processor is still there; it is tried again")
                }
            }
            return Ok(true);
        }
        let (runtime, submitter) = (&self.runtime, &self.submitter);
        let busy = self.compactor.is_busy();
        self.compactor.step(now(), |command| runtime.block_on(submitter.execute(command)))?;
        Ok(busy)
    }

    /// Looks which partitions and processors are deleted and still hold something.
    fn look_for_removed(&mut self) {
        if self.removed_states.is_empty() {
            for row in self.store.keys::<RemovedState>() {
                match row {
                    Ok(RemovedState(processor)) => self.removed_states.push_back(processor),
                    Err(error) => tracing::warn!(%error, "it is not known which states are to be removed"),
                }
            }
        }
        if !self.removed.is_empty() {
            return;
        }
        for row in self.store.scan::<RemovedPartition>() {
            match row {
                Ok((removed, _)) => self.removed.push_back((removed.0, 0)),
                Err(error) => tracing::warn!(%error, "it is not known what deleted topics held"),
            }
        }
    }

    /// Lets go what may go; `true` when there may be more.
    fn sweep(&mut self, now: Timestamp) -> Result<bool, Error> {
        let mut before = std::mem::take(&mut self.oldest);
        let (mut waiting, mut more) = (Vec::new(), false);
        for topic in self.catalog.topics() {
            let retention = topic.retention();
            if retention.keeps_all() {
                continue;
            }
            for partition in topic.partitions() {
                let cut = cut(&self.store, *partition, retention, now, &mut before);
                // Only what is still there is remembered.
                self.oldest.extend(before.remove_entry(partition));
                match cut {
                    Ok(Some(cut)) => {
                        more |= cut.more;
                        waiting.push(self.submit(&topic, *partition, retention, cut)?);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(topic = %topic.name(), %error, "retention passed over a partition")
                    }
                }
                if waiting.len() >= CUTS_MAX {
                    self.wait_for(&mut waiting)?;
                }
            }
        }
        self.wait_for(&mut waiting)?;
        Ok(more)
    }

    fn submit(
        &self,
        topic: &Topic,
        partition: PartitionId,
        retention: Retention,
        cut: Cut,
    ) -> Result<oneshot::Receiver<Reply>, Error> {
        let Cut { from, to, freed_bytes, freed_holes, .. } = cut;
        tracing::debug!(topic = %topic.name(), %partition, from, to, freed_bytes, "retention deletes records");
        let command = Command::RaiseLowWatermark { partition, retention, from, to, freed_bytes, freed_holes };
        self.runtime.block_on(self.submitter.submit(command))
    }

    fn wait_for(&self, waiting: &mut Vec<oneshot::Receiver<Reply>>) -> Result<(), Error> {
        for reply in waiting.drain(..) {
            self.runtime.block_on(answer(reply))?;
        }
        Ok(())
    }
}

//! The skeleton's committer: one thread, one atomic batch for all that waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fjall::PersistMode;
use millstream_client::Durability;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::error::Elapsed,
};

use super::fjall_log::{Entry, FjallLog};
use crate::Error;

/// A frame on its way into the log.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) entry: Entry,
    pub(super) durability: Durability,
    /// Counts the frames of its stream that are committed.
    pub(super) committed: Arc<watch::Sender<u64>>,
}

/// Largest group, in bytes of values.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// Commits until all senders are gone.
pub(super) fn run(
    log: &FjallLog,
    frames: &mut mpsc::Receiver<Frame>,
    sync_interval: Duration,
    runtime: &Handle,
) -> Result<(), Error> {
    // When frames were first left unsynced.
    let mut unsynced: Option<Instant> = None;
    let mut group = Vec::new();
    loop {
        let due = unsynced.map(|since| since + sync_interval);
        let first = match due {
            None => frames.blocking_recv(),
            Some(due) => match runtime.block_on(receive_until(due, frames)) {
                Ok(frame) => frame,
                Err(_) => {
                    log.sync()?;
                    unsynced = None;
                    continue;
                }
            },
        };
        let Some(first) = first else { return Ok(()) };
        gather(first, frames, &mut group);
        let sync = group.iter().any(|frame| frame.durability == Durability::Sync)
            || due.is_some_and(|due| due <= Instant::now());
        let persist = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut answers = Vec::with_capacity(group.len());
        let entries = group.drain(..).map(|frame| {
            answers.push(frame.committed);
            frame.entry
        });
        log.commit(entries, persist)?;
        unsynced = if sync { None } else { unsynced.or_else(|| Some(Instant::now())) };
        answer(answers);
    }
}

async fn receive_until(due: Instant, frames: &mut mpsc::Receiver<Frame>) -> Result<Option<Frame>, Elapsed> {
    tokio::time::timeout_at(due.into(), frames.recv()).await
}

fn gather(first: Frame, frames: &mut mpsc::Receiver<Frame>, group: &mut Vec<Frame>) {
    let mut bytes = first.entry.value.len();
    group.push(first);
    while bytes < GROUP_BYTES_MAX
        && let Ok(frame) = frames.try_recv()
    {
        bytes += frame.entry.value.len();
        group.push(frame);
    }
}

/// Wakes each stream once for its run of frames in the group.
fn answer(answers: Vec<Arc<watch::Sender<u64>>>) {
    for run in answers.chunk_by(Arc::ptr_eq) {
        if let Some(committed) = run.first() {
            committed.send_modify(|count| *count += run.len() as u64);
        }
    }
}

//! The batches of one partition on their way through the modules of its topic's ingest: judged and handed in one after the
//! other, in the order in which they came.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millstream_types::RecordBatch;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    Held, Ingest, Judged,
    judge::{Found, Memory, judge},
};
use crate::{
    Error, Room,
    broker::now,
    command::{Command, Reply},
    limits::REST_AFTER,
};

/// See the module's head. What waits in it has its room.
#[derive(Debug, Default)]
pub(super) struct Lane {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// Whether somebody sees to it.
    running: bool,
    /// Whether a batch that was taken out is not handed in yet.
    busy: bool,
    /// Of the batch that was given back last, while nobody sees to it.
    found: Option<Found>,
}

/// A batch that waits.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its offsets run from 0.
    pub(super) batch: RecordBatch,
    pub(super) wanted: Wanted,
}

/// What is to be done with it.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Append what modules make of it.
    Append { room: Room, reply: oneshot::Sender<Reply> },
    /// Tell what they make of it.
    Verdicts { _room: Arc<Room>, reply: oneshot::Sender<Result<Judged, Error>> },
}

impl Lane {
    /// Adds `entry`, if it `must` wait or others do; else gives it back. Whether somebody is to begin seeing to the lane.
    pub(super) fn enter(&self, entry: Entry, must: bool) -> Result<bool, Entry> {
        let mut state = self.state();
        if !must && state.waiting.is_empty() && !state.busy {
            return Err(entry);
        }
        state.waiting.push_back(entry);
        let begins = !std::mem::replace(&mut state.running, true);
        drop(state);
        self.wake.notify_one();
        Ok(begins)
    }

    fn next(&self) -> Option<Entry> {
        let mut state = self.state();
        let next = state.waiting.pop_front();
        state.busy = next.is_some();
        next
    }

    /// Whether nothing waits, so that nobody sees to it any more; what was `found` is kept for who comes next.
    fn ends(&self, found: &mut Option<Found>) -> bool {
        let mut state = self.state();
        state.running = !state.waiting.is_empty();
        if !state.running {
            state.found = found.take();
        }
        !state.running
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to lane `index` until nothing has come for a while.
pub(super) async fn run(shared: Held, ingest: Arc<Ingest>, index: usize) {
    let Some(lane) = ingest.lanes.get(index) else { return };
    let mut memory = Memory { found: lane.state().found.take(), ..Memory::default() };
    loop {
        match lane.next() {
            Some(entry) => pass(&shared, &ingest, index, entry, &mut memory).await,
            None if timeout(REST_AFTER, lane.wake.notified()).await.is_ok() => {}
            None if lane.ends(&mut memory.found) => return,
            None => {}
        }
    }
}

/// Judges a batch and hands in what became of it.
async fn pass(shared: &Held, ingest: &Arc<Ingest>, index: usize, entry: Entry, memory: &mut Memory) {
    let Entry { batch, wanted } = entry;
    // Held until it is handed in: so many partitions hold what modules made of their batches.
    let _turn = ingest.at_once.acquire().await;
    let judged = match shared.upgrade() {
        Some(shared) => judge(&shared, ingest, index, batch, memory).await,
        None => Err(Error::Stopping),
    };
    match (wanted, judged) {
        (Wanted::Append { room, reply }, Ok(judged)) => {
            append(shared, ingest, index, judged, room, reply).await
        }
        // Nobody may wait any more.
        (Wanted::Append { reply, .. }, Err(error)) => drop(reply.send(Err(error))),
        (Wanted::Verdicts { reply, .. }, judged) => drop(reply.send(judged)),
    }
}

async fn append(
    shared: &Held,
    ingest: &Ingest,
    index: usize,
    judged: Judged,
    room: Room,
    reply: oneshot::Sender<Reply>,
) {
    // Not the whole of it: when the batch is answered, nothing of the store may be held here.
    let submitter = shared.upgrade().map(|shared| shared.submitter.clone());
    let (Some(submitter), Some(&partition)) = (submitter, ingest.partitions.get(index)) else {
        return drop(reply.send(Err(Error::Stopping)));
    };
    let now = now();
    let command = match &judged.sources {
        // Where it stands can be found in the log, too.
        None => judged.batches.into_iter().next().map(|batch| Command::Append { partition, batch, now }),
        Some(_) => Some(Command::AppendJudged { partition, judged, now }),
    };
    let Some(command) = command else { return };
    let room = match room.widened(submitter.backlog(), command.size_bytes()).await {
        Ok(room) => room,
        Err(error) => return drop(reply.send(Err(error))),
    };
    submitter.hand_in_for(command, room, reply);
}

//! The committer: one thread that applies what waits from everybody as one atomic store batch, syncs once, and answers
//! all. While it syncs, the next ones gather.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use millstream_store::{Persist, Store, WriteError};
use millstream_types::Timestamp;
use tokio::sync::{oneshot, watch};

use crate::{
    Error, Room,
    admission::Quota,
    broker::now,
    catalog::Catalog,
    command::{Command, Reply},
    limits::{GROUP_BYTES_MAX, GROUP_COMMANDS_MAX, PRODUCER_EXPIRY_EVERY, PRODUCER_IDLE_MAX},
    shard::{Effect, Shard},
};

/// What goes through the queue.
pub(crate) enum Message {
    Command(Submitted),
    /// End once everything before this is committed.
    Stop,
}

/// A command on its way, with the room it takes and whom to answer.
pub(crate) struct Submitted {
    command: Command,
    reply: oneshot::Sender<Reply>,
    _room: Room,
}

/// Where commands are handed in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Submitter {
    // Unbounded in itself: nothing is sent without a share of `backlog`, which is what bounds it.
    queue: Sender<Message>,
    backlog: Quota,
}

impl Submitter {
    pub(crate) fn new(queue: Sender<Message>, backlog_bytes: usize) -> Self {
        Self { queue, backlog: Quota::new(backlog_bytes) }
    }

    /// Hands in `command`, waiting while the backlog is full; the answer comes once it is durable as it must be.
    /// Cancel-safe: a command is handed in wholly or not at all.
    pub(crate) async fn submit(&self, command: Command) -> Result<oneshot::Receiver<Reply>, Error> {
        // A module may be larger than a small backlog: it then has it for itself.
        let share = self.backlog.take(command.size_bytes() as u64).await.map_err(|_| Error::Stopping)?;
        self.hand_in(command, share.into())
    }

    /// Hands in `command`, which has `room` already.
    pub(crate) fn hand_in(&self, command: Command, room: Room) -> Result<oneshot::Receiver<Reply>, Error> {
        let (reply, answer) = oneshot::channel();
        let submitted = Submitted { command, reply, _room: room };
        self.queue.send(Message::Command(submitted)).map_err(|_| Error::Stopping)?;
        Ok(answer)
    }

    /// The same for whoever waits for `reply`.
    pub(crate) fn hand_in_for(&self, command: Command, room: Room, reply: oneshot::Sender<Reply>) {
        // Fails only when the committer has ended: who waits is told so by the loss of `reply`.
        let _ = self.queue.send(Message::Command(Submitted { command, reply, _room: room }));
    }

    /// Hands in `command` and waits for its answer. Cancelling gives up the answer, not the command.
    pub(crate) async fn execute(&self, command: Command) -> Reply {
        answer(self.submit(command).await?).await
    }

    /// Bytes on their way, of everybody.
    pub(crate) fn backlog(&self) -> &Quota {
        &self.backlog
    }

    /// Refuses further commands, and ends the committer once those handed in are committed.
    pub(crate) fn close(&self) {
        self.backlog.close();
        // Fails only when the committer has ended already.
        let _ = self.queue.send(Message::Stop);
    }
}

/// The answer, or what a committer that is gone means.
pub(crate) async fn answer(receiver: oneshot::Receiver<Reply>) -> Reply {
    receiver.await.unwrap_or(Err(Error::Stopping))
}

/// The thread's state.
pub(crate) struct Committer {
    pub(crate) shard: Shard,
    pub(crate) store: Store,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) queue: Receiver<Message>,
    pub(crate) sync_interval: Duration,
    /// Told when the store is in doubt: the process must stop.
    pub(crate) fatal: watch::Sender<Option<String>>,
}

/// Commands answered at the same time.
#[derive(Default)]
struct Answers {
    replies: Vec<(oneshot::Sender<Reply>, Reply)>,
    effects: Vec<Effect>,
}

impl Committer {
    /// Runs until it is told to stop, or the store is in doubt.
    pub(crate) fn run(mut self) {
        // When the oldest unsynced append must be synced at the latest.
        let mut sync_due: Option<Instant> = None;
        let mut expiry_due = Instant::now() + PRODUCER_EXPIRY_EVERY;
        loop {
            let first = match sync_due {
                None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => self.queue.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            let mut stop = false;
            let done = match first {
                Ok(Message::Command(first)) => self.commit_group(first, &mut sync_due, &mut stop),
                Err(RecvTimeoutError::Timeout) => self.store.sync().map(|()| sync_due = None),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            };
            let done = done.and_then(|()| {
                // Under load the timeout above never comes.
                if sync_due.is_some_and(|due| due <= Instant::now()) {
                    self.store.sync()?;
                    sync_due = None;
                }
                if expiry_due <= Instant::now() {
                    expiry_due = Instant::now() + PRODUCER_EXPIRY_EVERY;
                    self.expire_producers()?;
                }
                self.store.maintain()
            });
            if let Err(error) = done {
                self.give_up(&error);
                return;
            }
            if stop {
                break;
            }
        }
        if let Err(error) = self.store.sync() {
            self.give_up(&error);
        }
    }

    /// Commits `first` and what waits behind it. Sets `stop` when the queue said so.
    fn commit_group(
        &mut self,
        first: Submitted,
        sync_due: &mut Option<Instant>,
        stop: &mut bool,
    ) -> Result<(), WriteError> {
        let mut batch = self.store.batch();
        let (mut early, mut late) = (Answers::default(), Answers::default());
        let (mut bytes, mut commands, mut next) = (0, 0, Some(first));
        // Given back with the group, not before: what is being committed is still in memory.
        let mut rooms = Vec::new();
        let mut effects = Vec::new();
        while let Some(submitted) = next.take() {
            bytes += submitted.command.size_bytes();
            commands += 1;
            let Submitted { command, reply, _room: room } = submitted;
            rooms.push(room);
            let applied = self.shard.apply(command, &mut batch, &mut effects);
            let answers = if applied.sync { &mut late } else { &mut early };
            answers.replies.push((reply, applied.result));
            answers.add(&mut effects);
            if bytes < GROUP_BYTES_MAX && commands < GROUP_COMMANDS_MAX {
                match self.queue.try_recv() {
                    Ok(Message::Command(submitted)) => next = Some(submitted),
                    Ok(Message::Stop) => *stop = true,
                    Err(_) => {}
                }
            }
        }
        self.shard.seal(&mut batch);
        let wrote = !batch.is_empty();
        if let Err(error) = self.store.commit(batch, Persist::Buffer) {
            early.fail(&error);
            late.fail(&error);
            return Err(error);
        }
        early.give(&self.catalog);
        if !late.replies.is_empty() {
            if let Err(error) = self.store.sync() {
                late.fail(&error);
                return Err(error);
            }
            *sync_due = None;
            late.give(&self.catalog);
        } else if wrote && sync_due.is_none() {
            *sync_due = Some(Instant::now() + self.sync_interval);
        }
        Ok(())
    }

    /// Forgets producers that are long gone. That of one that comes back all the same begins anew.
    fn expire_producers(&mut self) -> Result<(), WriteError> {
        let idle_ms = Timestamp::try_from(PRODUCER_IDLE_MAX.as_millis()).unwrap_or(Timestamp::MAX);
        let command = Command::ExpireProducers { before: now().saturating_sub(idle_ms) };
        let mut batch = self.store.batch();
        self.shard.apply(command, &mut batch, &mut Vec::new());
        self.store.commit(batch, Persist::Buffer)
    }

    fn give_up(&self, error: &WriteError) {
        tracing::error!(%error, "the store is in doubt: the broker stops; start it again to recover");
        self.fatal.send_replace(Some(error.to_string()));
    }
}

impl Answers {
    fn add(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match (self.effects.last_mut(), effect) {
                // One of many that were appended to a partition: readers are told once.
                (Some(Effect::End { partition: last, end }), Effect::End { partition, end: further })
                    if *last == partition =>
                {
                    *end = further.max(*end);
                }
                (_, effect) => self.effects.push(effect),
            }
        }
    }

    /// Makes the effects visible, then answers: who was answered finds what it asked for.
    fn give(self, catalog: &Catalog) {
        catalog.carry_out(self.effects);
        for (reply, result) in self.replies {
            // Whoever asked may be gone; the command holds all the same.
            let _ = reply.send(result);
        }
    }

    fn fail(self, error: &WriteError) {
        for (reply, result) in self.replies {
            let _ = reply.send(result.and(Err(Error::OutcomeUnknown(error.to_string()))));
        }
    }
}

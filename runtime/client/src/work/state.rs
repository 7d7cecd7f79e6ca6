//! What a worker holds and what it said. Free of I/O and clocks.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    ops::Range,
    task::{Context, Poll, Waker},
};

use millstream_types::{DeliveryMode, Offset, RecordBatch, RecordView};
use millstream_wire::{SettleAs, Settlement, WorkControl};
use tokio::sync::oneshot;

use super::leased::Leased;
use crate::{ConsumeError, Message, Place};

/// Most settlements in one message.
const SETTLEMENTS_MAX: usize = 1_000;

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is done and stored.
    Done,
    /// The lease had ended before: the record is, or will be, delivered again.
    Stale,
    /// The connection was lost before the answer came. The record may be delivered again.
    Unknown,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct State {
    mode: DeliveryMode,
    /// Number of the stream.
    epoch: u64,
    inbox: VecDeque<Arrived>,
    said: Vec<Said>,
    extensions: Vec<(u64, u32, Option<oneshot::Sender<Settled>>)>,
    /// How much may be held, and whether the broker is still to be told.
    window: (u32, u64),
    tell_window: bool,
    /// Number of the newest message of this stream.
    number: u64,
    on_the_way: HashMap<u64, Vec<Waiting>>,
    /// Whether one of those settles.
    settling: Option<u64>,
    barriers: Vec<Barrier>,
    /// How much was said, and how much of that was sent, on this stream.
    said_ever: u64,
    sent_ever: u64,
    end: Option<ConsumeError>,
    reader: Option<Waker>,
    /// Whether a message was taken since the leases were looked at.
    moving: bool,
    /// How often in a row none was.
    idle: u32,
    /// Settlements that came too late.
    stale: u64,
}

/// A batch under a lease, and the next of its records to be taken.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) place: Place,
    pub(super) lease: u64,
    pub(super) more_follows: bool,
    pub(super) tried: Vec<(Offset, u32, u32)>,
    pub(super) batch: RecordBatch,
    pub(super) index: usize,
    /// Indexes of records that are void.
    pub(super) left_out: BTreeSet<usize>,
}

/// Who waits for an answer, and whether it is of no interest how late it was.
type Waiting = (Option<oneshot::Sender<Settled>>, bool);

#[derive(Debug)]
struct Said {
    settlement: Settlement,
    /// Indexes in its batch, so that neighbours can be told together.
    records: Range<usize>,
    answer: Option<oneshot::Sender<Settled>>,
    /// Said for records that were never handed out: whether it came in time is nobody's business.
    silent: bool,
}

/// A record was given back, and what is kept in order behind it with it: what of that is here, or was
/// leased before the broker knew, is void.
#[derive(Debug)]
struct Barrier {
    /// The message that tells the broker, once it is sent.
    number: Option<u64>,
    /// How much was said until then.
    said: u64,
    /// The broker's number.
    partition: u32,
    /// `None` where the whole partition is kept in order.
    key: Option<Vec<u8>>,
    offset: Offset,
}

impl Barrier {
    fn stops(&self, partition: u32, record: &RecordView<'_>) -> bool {
        self.partition == partition
            && record.offset > self.offset
            && self.key.as_ref().is_none_or(|key| record.key == Some(key.as_slice()))
    }
}

impl State {
    pub(super) fn new(mode: DeliveryMode, window: (u32, u64)) -> Self {
        Self {
            mode,
            epoch: 0,
            inbox: VecDeque::new(),
            said: Vec::new(),
            extensions: Vec::new(),
            window,
            tell_window: false,
            number: 0,
            on_the_way: HashMap::new(),
            settling: None,
            barriers: Vec::new(),
            said_ever: 0,
            sent_ever: 0,
            end: None,
            reader: None,
            moving: false,
            idle: 0,
            stale: 0,
        }
    }

    /// A new stream takes over: the leases of the one before are gone.
    pub(super) fn reconnected(&mut self) {
        self.epoch += 1;
        self.inbox.clear();
        self.barriers.clear();
        (self.number, self.said_ever, self.sent_ever) = (0, 0, 0);
        let settling = self.settling.take();
        let said = self.said.drain(..).map(|said| (said.answer, said.silent));
        let sent = settling.and_then(|number| self.on_the_way.remove(&number)).unwrap_or_default();
        let lost: Vec<_> = said.chain(sent).collect();
        // Nobody knows whether they came in time: the records come again if they did not.
        self.stale += lost.iter().filter(|(_, silent)| !silent).count() as u64;
        let extended = self.extensions.drain(..).map(|(.., answer)| (answer, true));
        let waiting = self.on_the_way.drain().flat_map(|(_, answers)| answers);
        for (answer, _) in lost.into_iter().chain(extended).chain(waiting) {
            // Whoever asked may be gone.
            let _ = answer.map(|answer| answer.send(Settled::Unknown));
        }
    }

    /// Records came, which were leased after the broker had `heard` so many messages.
    pub(super) fn arrived(&mut self, arrived: Arrived, heard: u64) {
        // They come in the order in which they were leased.
        self.barriers.retain(|barrier| barrier.number.is_none_or(|told| told > heard));
        let mut arrived = arrived;
        let void: Vec<_> = self.barriers.iter().flat_map(|barrier| arrived.leave_out(barrier)).collect();
        self.inbox.push_back(arrived);
        self.release_void(void);
        self.wake();
    }

    /// The next message.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Leased, ConsumeError>> {
        while let Some(arrived) = self.inbox.front_mut() {
            let leased = arrived.take(self.epoch);
            if arrived.index >= arrived.batch.view().len() {
                self.inbox.pop_front();
            }
            if let Some(leased) = leased {
                self.moving = true;
                return Poll::Ready(Ok(leased));
            }
        }
        if let Some(error) = &self.end {
            return Poll::Ready(Err(error.clone()));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says what became of a message; true if there is something to send now.
    pub(super) fn say(
        &mut self,
        leased: &Leased,
        verdict: SettleAs,
        answer: Option<oneshot::Sender<Settled>>,
    ) -> bool {
        if leased.epoch != self.epoch || self.end.is_some() {
            self.stale += 1;
            // Whoever asked may be gone.
            let _ = answer.map(|answer| answer.send(Settled::Stale));
            return false;
        }
        if verdict == SettleAs::Ack && !leased.complete {
            // The record is done with the last message that was made of it.
            let _ = answer.map(|answer| answer.send(Settled::Done));
            return false;
        }
        let (partition, offset) = (leased.message.place().number(), leased.message.offset());
        let void = match verdict {
            SettleAs::Ack => Vec::new(),
            _ => self.give_back(partition, offset, leased.message.key()),
        };
        let settlement =
            Settlement { partition, lease: Some(leased.lease), from: offset, to: offset + 1, verdict };
        let records = leased.first..leased.index + 1;
        match self.said.last_mut() {
            Some(last) if answer.is_none() && last.precedes(&settlement, &records) => {
                last.join(&settlement, &records)
            }
            _ => {
                self.said.push(Said { settlement, records, answer, silent: false });
                self.said_ever += 1;
            }
        }
        self.release_void(void);
        true
    }

    /// Asks for a lease to end `ms` from now.
    pub(super) fn extend(&mut self, leased: &Leased, ms: u32, answer: oneshot::Sender<Settled>) {
        if leased.epoch == self.epoch {
            // Whoever extends is at work.
            self.moving = true;
            self.extensions.push((leased.lease, ms, Some(answer)));
        } else {
            // Whoever asked may be gone.
            let _ = answer.send(Settled::Stale);
        }
    }

    /// Keeps the leases of what waits here from ending, as long as the application takes messages or extends leases;
    /// else gives back what it has not taken, which did not fail. Tells the broker in any case that we are there.
    pub(super) fn keep_leases(&mut self, ms: u32) {
        self.tell_window = true;
        if std::mem::take(&mut self.moving) {
            let leases = self.inbox.iter().map(|arrived| (arrived.lease, ms, None));
            self.extensions.extend(leases);
            self.idle = 0;
            return;
        }
        self.idle += 1;
        if self.idle >= 2 {
            let void = self.inbox.drain(..).flat_map(Arrived::give_back).collect();
            self.release_void(void);
        }
    }

    pub(super) fn set_window(&mut self, records: u32, bytes: u64) {
        (self.window, self.tell_window) = ((records, bytes), true);
    }

    /// The next message to send. One that settles waits for the one before.
    pub(super) fn next_message(&mut self) -> Option<WorkControl> {
        if std::mem::take(&mut self.tell_window) {
            let (records, bytes) = self.window;
            return Some(WorkControl::Window { records, bytes });
        }
        if let Some((lease, ms, answer)) = self.extensions.pop() {
            self.number += 1;
            self.on_the_way.insert(self.number, vec![(answer, true)]);
            return Some(WorkControl::Extend { number: self.number, lease, ms });
        }
        if self.said.is_empty() || self.settling.is_some() {
            return None;
        }
        self.number += 1;
        let number = self.number;
        let many = self.said.len().min(SETTLEMENTS_MAX);
        self.sent_ever += many as u64;
        let said = merged(self.said.drain(..many).collect());
        let parts = said.into_iter().map(|said| (said.settlement, (said.answer, said.silent)));
        let (settlements, answers) = parts.unzip();
        self.on_the_way.insert(number, answers);
        self.settling = Some(number);
        let sent = self.sent_ever;
        for barrier in
            self.barriers.iter_mut().filter(|barrier| barrier.number.is_none() && barrier.said <= sent)
        {
            barrier.number = Some(number);
        }
        Some(WorkControl::Settle { number, settlements })
    }

    /// The broker has done what was said with this number.
    pub(super) fn settled(&mut self, number: u64, stale: &[u32]) {
        if self.settling == Some(number) {
            self.settling = None;
        }
        for (index, (answer, silent)) in (0u32..).zip(self.on_the_way.remove(&number).unwrap_or_default()) {
            let settled = if stale.contains(&index) { Settled::Stale } else { Settled::Done };
            self.stale += u64::from(settled == Settled::Stale && !silent);
            // Whoever asked may be gone.
            let _ = answer.map(|answer| answer.send(settled));
        }
    }

    /// Whether the broker has stored all that was said.
    pub(super) fn is_settled(&self) -> bool {
        self.said.is_empty() && self.settling.is_none()
    }

    /// How much may be held.
    pub(super) fn window(&self) -> (u32, u64) {
        self.window
    }

    /// Settlements that came too late so far.
    pub(super) fn stale(&self) -> u64 {
        self.stale
    }

    pub(super) fn end(&mut self, error: ConsumeError) {
        self.end.get_or_insert(error);
        self.reconnected();
        self.wake();
    }

    pub(super) fn ended(&self) -> Option<&ConsumeError> {
        self.end.as_ref()
    }

    /// The record goes back, and what is kept in order with it; what of that is here.
    fn give_back(&mut self, partition: u32, offset: Offset, key: Option<&[u8]>) -> Vec<Settlement> {
        let key = match self.mode {
            DeliveryMode::Shared => return Vec::new(),
            DeliveryMode::KeyShared => match key {
                Some(key) => Some(key.to_vec()),
                None => return Vec::new(),
            },
            DeliveryMode::Exclusive | DeliveryMode::Failover => None,
        };
        // It is said next.
        let barrier = Barrier { number: None, said: self.said_ever + 1, partition, key, offset };
        let void = self.inbox.iter_mut().flat_map(|arrived| arrived.leave_out(&barrier)).collect();
        self.barriers.push(barrier);
        void
    }

    /// Gives back what is void here. The broker has taken it back already, unless it has it in no order: then it would
    /// wait for its lease to end.
    fn release_void(&mut self, void: Vec<Settlement>) {
        self.said_ever += void.len() as u64;
        let said =
            void.into_iter().map(|settlement| Said { settlement, records: 0..0, answer: None, silent: true });
        self.said.extend(said);
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Arrived {
    /// Leaves out what `barrier` stops; how to give it back.
    fn leave_out(&mut self, barrier: &Barrier) -> Vec<Settlement> {
        let view = self.batch.view();
        let rest = self.index.max(view.index_of(barrier.offset))..view.len();
        let void = rest.filter(|index| {
            view.record(*index).is_some_and(|record| barrier.stops(self.place.number(), &record))
        });
        let mut given_back: Vec<Settlement> = Vec::new();
        for index in void.collect::<Vec<_>>() {
            let Some(offset) = view.record(index).map(|record| record.offset) else { continue };
            let again = given_back.last().is_some_and(|last| last.from == offset);
            if self.left_out.insert(index) && !again {
                given_back.push(Settlement {
                    partition: self.place.number(),
                    lease: Some(self.lease),
                    from: offset,
                    to: offset + 1,
                    verdict: SettleAs::Release,
                });
            }
        }
        given_back
    }

    /// How to give back what was not taken. A record of which some was taken stays.
    fn give_back(self) -> Vec<Settlement> {
        let view = self.batch.view();
        let taken =
            self.index.checked_sub(1).and_then(|index| view.record(index)).map(|record| record.offset);
        let rest = (self.index..view.len()).filter(|index| !self.left_out.contains(index));
        let mut offsets: Vec<_> =
            rest.filter_map(|index| view.record(index)).map(|record| record.offset).collect();
        offsets.dedup();
        offsets.retain(|offset| Some(*offset) != taken);
        let (partition, lease) = (self.place.number(), Some(self.lease));
        let given_back = offsets.into_iter().map(|offset| Settlement {
            partition,
            lease,
            from: offset,
            to: offset + 1,
            verdict: SettleAs::Release,
        });
        given_back.collect()
    }

    fn take(&mut self, epoch: u64) -> Option<Leased> {
        let index = self.index;
        self.index += 1;
        if self.left_out.remove(&index) {
            return None;
        }
        let view = self.batch.view();
        let offset = view.record(index)?.offset;
        let first = view.index_of(offset);
        let complete = match view.record(index + 1) {
            Some(next) => next.offset != offset,
            None => !self.more_follows,
        };
        let tried = self.tried.iter().find(|(of, ..)| *of == offset);
        let (deliveries, failures) =
            tried.map_or((0, 0), |(_, deliveries, failures)| (*deliveries, *failures));
        Some(Leased {
            message: Message::new(self.place.clone(), self.batch.clone(), index, offset + 1),
            lease: self.lease,
            epoch,
            first,
            index,
            complete,
            deliveries: deliveries.saturating_add(1),
            failures,
        })
    }
}

impl Said {
    /// Whether `next` goes on where this ends.
    fn precedes(&self, next: &Settlement, records: &Range<usize>) -> bool {
        let this = &self.settlement;
        self.answer.is_none()
            && this.verdict == SettleAs::Ack
            && next.verdict == SettleAs::Ack
            && (this.partition, this.lease) == (next.partition, next.lease)
            && self.records.end == records.start
    }

    fn join(&mut self, next: &Settlement, records: &Range<usize>) {
        self.settlement.to = next.to;
        self.records.end = records.end;
    }
}

/// Acks of neighbours told together, whatever their order. What is not an ack keeps its place behind all acks, which is
/// no difference: each record is spoken of once.
fn merged(said: Vec<Said>) -> Vec<Said> {
    let (mut acks, others): (Vec<_>, Vec<_>) =
        said.into_iter().partition(|said| said.answer.is_none() && said.settlement.verdict == SettleAs::Ack);
    acks.sort_by_key(|said| (said.settlement.lease, said.records.start));
    let mut merged: Vec<Said> = Vec::with_capacity(acks.len() + others.len());
    for said in acks {
        match merged.last_mut() {
            Some(last) if last.precedes(&said.settlement, &said.records) => {
                last.join(&said.settlement, &said.records)
            }
            _ => merged.push(said),
        }
    }
    merged.extend(others);
    merged
}

#[cfg(test)]
mod tests;

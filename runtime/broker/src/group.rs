//! A subscription's records on their way: which consumer holds which, until when, what waits to be tried again, and
//! what is done. A state machine without clock, randomness or I/O: a [`Moment`] comes in, [`News`] goes out.
//!
//! A partition here is one of those that the subscription reads, by its index among them (`sources.rs`).
//!
//! A record below `scanned` that is neither settled nor open was dropped by a module: it is settled with its neighbours.

mod ending;
mod members;
mod part;
mod place;
mod records;
mod units;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millstream_types::{DeliveryConfig, DeliveryMode, Offset, Timestamp};

use crate::{command::Settlement, rows::TriedRow, shard::PartitionCursor};

pub(crate) use members::JoinError;
use members::Member;
pub use members::Window;
use part::{Open, Part, State};
pub(crate) use place::Grant;
use units::Unit;

/// When something happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Ms on a clock that never jumps: what leases and waits are measured by.
    pub(crate) ms: u64,
    /// Ms since the Unix epoch: what is stored, and what records say.
    pub(crate) wall: Timestamp,
    /// 0 to 1, for jitter.
    pub(crate) chance: f64,
}

/// Identity of a consumer within its group.
pub(crate) type MemberId = u32;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Group {
    config: DeliveryConfig,
    /// `None` for one that is gone.
    parts: Vec<Option<Part>>,
    members: BTreeMap<MemberId, Member>,
    /// Whether one reads everything as a stream, with cumulative acks, and there are no members.
    streaming: bool,
    leases: HashMap<u64, Lease>,
    deadlines: BTreeSet<(u64, u64)>,
    /// Records that wait for their time.
    due: BTreeSet<(u64, u32, Offset)>,
    /// Records to be read again for a consumer that has room for them.
    ready: BTreeSet<(u32, Offset)>,
    units: HashMap<u64, Unit>,
    /// Partitions with progress that is not told yet.
    unsaved: BTreeSet<u32>,
    /// Units with nothing leased, for which nobody had room.
    parked: Vec<u64>,
    /// Rises when consumers come or go.
    generation: u32,
    /// Who gets which keys, or which partitions.
    slots: Vec<Slot>,
    /// Whose turn it is in a work queue.
    turn: MemberId,
    open: usize,
    next_member: MemberId,
    next_lease: u64,
    news: News,
}

/// A share of the keys, or a partition.
#[derive(Debug, Clone, Copy)]
struct Slot {
    score: u64,
    member: MemberId,
}

/// Records of one partition that were handed to a consumer together.
#[derive(Debug)]
struct Lease {
    member: MemberId,
    partition: u32,
    first: Offset,
    end: Offset,
    /// How many of its records are still under it.
    left: u32,
    deadline: u64,
    granted: Timestamp,
}

/// What is to be done outside.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// For the shard, by partition.
    pub(crate) settlements: BTreeMap<u32, Settlement>,
    /// Records that failed too often, to be written as dead letters.
    pub(crate) dead: Vec<Dead>,
}

/// A record that failed too often, or came too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) partition: u32,
    pub(crate) offset: Offset,
    /// Its time was over before it was settled; else it failed.
    pub(crate) expired: bool,
    pub(crate) row: TriedRow,
}

/// What a consumer says of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Ack,
    /// Failed: again after this time, or as the policy says.
    Nack {
        /// Until the next try, ms.
        delay_ms: Option<u64>,
        /// What went wrong, for whoever finds it among the dead letters.
        error: Option<String>,
    },
    /// Not tried: for anybody else at once.
    Release,
}

/// Records that are spoken of together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The partition, as consumers know it.
    pub partition: u32,
    /// The lease they came under; `None` for all that the consumer holds.
    pub lease: Option<u64>,
    /// Those of them that the consumer does not hold are passed over.
    pub offsets: std::ops::Range<Offset>,
    /// What became of them.
    pub verdict: Verdict,
}

impl Group {
    /// `cursors` is how far each partition is.
    pub(crate) fn new(config: DeliveryConfig, cursors: Vec<PartitionCursor>) -> Self {
        Self {
            slots: Vec::new(),
            parts: cursors.into_iter().map(|cursor| Some(Part::from(cursor))).collect(),
            members: BTreeMap::new(),
            streaming: false,
            leases: HashMap::new(),
            deadlines: BTreeSet::new(),
            due: BTreeSet::new(),
            ready: BTreeSet::new(),
            units: HashMap::new(),
            unsaved: BTreeSet::new(),
            parked: Vec::new(),
            generation: 0,
            turn: 0,
            open: 0,
            next_member: 1,
            next_lease: 1,
            news: News::default(),
            config,
        }
    }

    /// So many more partitions are read, from their first record on.
    pub(crate) fn attach(&mut self, partitions: usize) {
        self.parts.extend((0..partitions).map(|_| Some(Part::from(PartitionCursor::default()))));
        if self.by_partition() {
            self.regroup_all();
        }
    }

    /// Partitions are gone, and all that was of them.
    pub(crate) fn detach(&mut self, partitions: &[u32]) {
        for &partition in partitions {
            let open = self.part(partition).into_iter().flat_map(|part| part.open.iter());
            for offset in open.map(|(offset, _)| offset).collect::<Vec<_>>() {
                self.close(partition, offset);
            }
            if let Some(part) = self.parts.get_mut(partition as usize) {
                *part = None;
            }
        }
        if self.by_partition() {
            self.regroup_all();
        }
    }

    /// What is to be done since the last time.
    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// The same, with progress over records that modules dropped.
    pub(crate) fn take_all_news(&mut self) -> News {
        for partition in std::mem::take(&mut self.unsaved) {
            let Some(Some(part)) = self.parts.get_mut(partition as usize) else { continue };
            let settlement = self.news.settlements.entry(partition).or_default();
            settlement.done.append(&mut part.unsaved);
        }
        self.take_news()
    }

    /// Whether there is progress that only [`take_all_news`](Self::take_all_news) tells.
    pub(crate) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Ends leases and waits that are over.
    pub(crate) fn tick(&mut self, moment: Moment) {
        let mut expired = false;
        while let Some(&(deadline, lease)) = self.deadlines.first()
            && deadline <= moment.ms
        {
            self.deadlines.pop_first();
            self.expire(lease, moment);
            expired = true;
        }
        if expired {
            for member in self.members.keys().copied().collect::<Vec<_>>() {
                self.unpark(member);
            }
        }
        while let Some(&(due, partition, offset)) = self.due.first()
            && due <= moment.ms
        {
            self.due.pop_first();
            self.wake_record(partition, offset);
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let lease = self.deadlines.first().map(|(deadline, _)| *deadline);
        let due = self.due.first().map(|(due, ..)| *due);
        [lease, due].into_iter().flatten().min()
    }

    /// Moves the end of a lease to `ms` from now, unless it is later. False if the consumer does not hold it.
    pub(crate) fn extend(&mut self, member: MemberId, lease: u64, ms: u64, moment: Moment) -> bool {
        if let Some(found) = self.members.get_mut(&member) {
            found.silent = false;
        }
        self.unpark(member);
        let Some(found) = self.leases.get_mut(&lease).filter(|found| found.member == member) else {
            return false;
        };
        self.deadlines.remove(&(found.deadline, lease));
        found.deadline = found.deadline.max(moment.ms.saturating_add(ms));
        self.deadlines.insert((found.deadline, lease));
        true
    }

    /// Takes what a consumer says, `number` of its messages. For each, whether anything of it was the consumer's to say.
    pub(crate) fn settle(
        &mut self,
        member: MemberId,
        number: u64,
        said: &[Said],
        moment: Moment,
    ) -> Vec<bool> {
        if let Some(found) = self.members.get_mut(&member) {
            (found.heard, found.silent) = (number, false);
        }
        let held = said.iter().map(|said| {
            let offsets = self.held_by(member, said);
            for &offset in &offsets {
                // The one before may have taken it away: an order that is kept.
                if self.is_leased(said.partition, offset) {
                    match &said.verdict {
                        Verdict::Ack => self.close(said.partition, offset),
                        Verdict::Release => self.release(said.partition, offset, moment),
                        Verdict::Nack { delay_ms, error } => {
                            self.fail(said.partition, offset, *delay_ms, error.as_deref(), moment);
                        }
                    }
                }
            }
            if said.verdict == Verdict::Ack {
                self.done(said.partition, &offsets);
            }
            !offsets.is_empty()
        });
        let held = held.collect();
        self.unpark(member);
        held
    }

    /// No dead letter could be written: the record is tried again.
    pub(crate) fn not_buried(&mut self, partition: u32, offset: Offset, moment: Moment) {
        let wait = self.config.backoff(u32::MAX, moment.chance);
        self.wait(partition, offset, moment.ms.saturating_add(wait));
    }

    /// Records were settled by others: as dead letters, say. The shard knows.
    pub(crate) fn settled_elsewhere(&mut self, partition: u32, offset: Offset) {
        self.close(partition, offset);
        if let Some(part) = self.part_mut(partition) {
            part.settled.insert(offset..offset + 1, &mut |_| {});
            part.tried.remove(&offset);
        }
    }

    /// A record that was settled is to be delivered again, out of order.
    pub(crate) fn reopen(&mut self, partition: u32, offset: Offset) {
        let Some(part) = self.part_mut(partition) else { return };
        part.reopen(offset);
        if offset < part.scanned && !part.open.contains(offset) {
            part.open.insert(offset, Open::new(0, 0, State::Ready));
            self.open += 1;
            self.ready.insert((partition, offset));
        }
    }

    /// Records leased, and waiting for something, in a partition.
    pub(crate) fn counts(&self, partition: u32) -> (u64, u64) {
        self.part(partition).map_or((0, 0), |part| (part.leased, part.open.len() as u64 - part.leased))
    }

    pub(crate) fn is_read(&self) -> bool {
        self.streaming || !self.members.is_empty()
    }

    pub(crate) fn consumers(&self) -> usize {
        self.members.len() + usize::from(self.streaming)
    }

    /// Whether order is kept partition by partition.
    fn by_partition(&self) -> bool {
        matches!(self.config.mode, DeliveryMode::Exclusive | DeliveryMode::Failover)
    }
}

#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod tests;

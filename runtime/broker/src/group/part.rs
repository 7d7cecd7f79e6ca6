//! One partition of a group, and how a single record changes its state there.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::Offset;

use super::{Group, MemberId, Said, records::Records};
use crate::{Error, rows::TriedRow, settled::Settled, shard::PartitionCursor};

/// One partition.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) settled: Settled,
    /// Everything below was looked at: it is settled, open, or was dropped.
    pub(super) scanned: Offset,
    /// How far a stream has come.
    reached: Offset,
    routed: Offset,
    pub(super) open: Records,
    /// How many of those consumers have.
    pub(super) leased: u64,
    /// Records that were delivered in vain.
    pub(super) tried: BTreeMap<Offset, TriedRow>,
    /// Records that were dropped, and of which the shard does not know yet.
    pub(super) unsaved: Vec<std::ops::Range<Offset>>,
    /// Records that a stream has passed and that are to be delivered again, when it starts anew.
    reopened: BTreeSet<Offset>,
}

/// A record that is neither settled nor still to be scanned.
///
/// There may be very many: packed, one takes 20 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
pub(super) struct Open {
    /// The lease it is under, or the time for which it waits.
    pub(super) tag: u64,
    /// What it is kept in order with; 0 for nothing.
    pub(super) unit: u64,
    /// Bytes in the lower bits, the state above.
    word: u32,
}

const STATE_AT: u32 = 29;
const BYTES_MAX: u32 = (1 << STATE_AT) - 1;

impl Open {
    pub(super) fn new(unit: u64, bytes: u32, state: State) -> Self {
        Self { tag: 0, unit, word: bytes.min(BYTES_MAX) | (state as u32) << STATE_AT }
    }

    /// What it takes of a window.
    pub(super) fn bytes(self) -> u32 {
        self.word & BYTES_MAX
    }

    pub(super) fn state(self) -> State {
        match self.word >> STATE_AT {
            0 => State::Leased,
            1 => State::Waiting,
            2 => State::Ready,
            3 => State::Fetching,
            4 => State::Held,
            _ => State::Dead,
        }
    }

    fn set(&mut self, state: State, tag: u64) {
        self.tag = tag;
        self.word = self.bytes() | (state as u32) << STATE_AT;
    }

    pub(super) fn set_bytes(&mut self, bytes: u32) {
        self.word = bytes.min(BYTES_MAX) | (self.state() as u32) << STATE_AT;
    }

    pub(super) fn set_leased(&mut self, lease: u64, bytes: u32) {
        self.set_bytes(bytes);
        self.set(State::Leased, lease);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A consumer has it.
    Leased,
    /// For its time.
    Waiting,
    /// To be read again for a consumer.
    Ready,
    /// Being read again.
    Fetching,
    /// Behind others of its unit.
    Held,
    /// Being written as a dead letter.
    Dead,
}

impl From<PartitionCursor> for Part {
    fn from(cursor: PartitionCursor) -> Self {
        let below = cursor.settled.below();
        Self {
            settled: cursor.settled,
            scanned: below,
            reached: below,
            routed: cursor.routed,
            open: Records::default(),
            leased: 0,
            tried: cursor.tried,
            unsaved: Vec::new(),
            reopened: BTreeSet::new(),
        }
    }
}

impl Part {
    pub(super) fn restart_stream(&mut self) {
        self.reached = self.settled.below();
        self.reopened.clear();
    }

    /// A record that was settled is not any more.
    pub(super) fn reopen(&mut self, offset: Offset) {
        self.settled.reopen(offset, &mut |_| {});
        if offset < self.reached {
            self.reopened.insert(offset);
        }
    }

    /// Settles the run of offsets around `offset` that nothing open interrupts; its end, and what of it was not settled.
    fn done_around(&mut self, offset: Offset) -> (Offset, Vec<std::ops::Range<Offset>>) {
        let start = self.open.before(offset).map_or(0, |before| before + 1);
        let end = self.open.from(offset).unwrap_or(self.scanned);
        let run = start..end.max(offset + 1);
        let fresh = self.settled.gaps(run.clone());
        self.settled.insert(run.clone(), &mut |_| {});
        (run.end, fresh)
    }
}

impl Group {
    pub(crate) fn settled(&self, partition: u32) -> Offset {
        self.part(partition).map_or(0, |part| part.settled.below())
    }

    pub(crate) fn scanned(&self, partition: u32) -> Offset {
        self.part(partition).map_or(0, |part| part.scanned.max(part.reached))
    }

    /// Records that are settled beyond what was scanned.
    pub(crate) fn settled_ahead(&self, partition: u32) -> u64 {
        let Some(part) = self.part(partition) else { return 0 };
        let scanned = self.scanned(partition).max(part.settled.below());
        part.settled.runs().map(|run| run.end.saturating_sub(run.start.max(scanned))).sum()
    }

    /// Where scanning goes on.
    pub(crate) fn scan_position(&self, partition: u32) -> Offset {
        self.part(partition).map_or(0, |part| part.scanned)
    }

    pub(crate) fn is_settled(&self, partition: u32, offset: Offset) -> bool {
        self.part(partition).is_some_and(|part| part.settled.contains(offset))
    }

    pub(crate) fn routed(&self, partition: u32) -> Offset {
        self.part(partition).map_or(0, |part| part.routed)
    }

    pub(crate) fn set_routed(&mut self, partition: u32, next: Offset) {
        if let Some(part) = self.part_mut(partition) {
            part.routed = part.routed.max(next);
        }
    }

    /// The parts of `range` that are not settled.
    pub(crate) fn unsettled(
        &self,
        partition: u32,
        range: std::ops::Range<Offset>,
    ) -> Vec<std::ops::Range<Offset>> {
        match self.part(partition) {
            Some(part) if part.settled.has_runs() || range.start < part.settled.below() => {
                part.settled.gaps(range)
            }
            _ => vec![range],
        }
    }

    /// A stream has come to `next`.
    pub(crate) fn reach(&mut self, partition: u32, next: Offset) {
        if let Some(part) = self.part_mut(partition) {
            part.reached = next;
        }
    }

    /// A processor is done with `range`.
    pub(crate) fn processed(&mut self, partition: u32, range: std::ops::Range<Offset>) {
        while let Some(offset) = self.part(partition).and_then(|part| part.open.from(range.start))
            && offset < range.end
        {
            self.close(partition, offset);
        }
        if let Some(part) = self.part_mut(partition) {
            part.reached = part.reached.max(range.end);
            part.reopened.retain(|offset| !range.contains(offset));
            while let Some((&offset, _)) = part.tried.range(range.clone()).next() {
                part.tried.remove(&offset);
            }
            part.settled.insert(range, &mut |_| {});
        }
    }

    /// A stream is done with everything below `next` that it had; what that is.
    pub(crate) fn settle_through(
        &mut self,
        partition: u32,
        next: Offset,
    ) -> Result<Vec<std::ops::Range<Offset>>, Error> {
        let Some(part) = self.part_mut(partition) else { return Ok(Vec::new()) };
        if next > part.reached {
            return Err(Error::AckBeyond { partition, next, scanned: part.reached });
        }
        let mut done = part.settled.gaps(0..next);
        if !part.reopened.is_empty() {
            let mut without = Vec::new();
            for gap in done {
                let mut start = gap.start;
                for &offset in part.reopened.range(gap.clone()) {
                    without.push(start..offset);
                    start = offset + 1;
                }
                without.push(start..gap.end);
            }
            without.retain(|range| !range.is_empty());
            done = without;
        }
        for range in &done {
            part.settled.insert(range.clone(), &mut |_| {});
        }
        part.scanned = part.scanned.max(next);
        let open = part.open.range(0..next).map(|(offset, _)| offset);
        let open: Vec<_> = open.filter(|offset| part.settled.contains(*offset)).collect();
        part.tried.retain(|offset, _| !part.settled.contains(*offset));
        for offset in open {
            self.close(partition, offset);
        }
        Ok(done)
    }

    pub(super) fn part(&self, partition: u32) -> Option<&Part> {
        self.parts.get(partition as usize)?.as_ref()
    }

    pub(super) fn part_mut(&mut self, partition: u32) -> Option<&mut Part> {
        self.parts.get_mut(partition as usize)?.as_mut()
    }

    pub(super) fn is_leased(&self, partition: u32, offset: Offset) -> bool {
        let open = self.part(partition).and_then(|part| part.open.get(offset));
        open.is_some_and(|open| open.state() == State::Leased)
    }

    /// The offsets that `member` holds of those `said`.
    pub(super) fn held_by(&self, member: MemberId, said: &Said) -> Vec<Offset> {
        let Some(part) = self.part(said.partition) else { return Vec::new() };
        if said.offsets.is_empty() {
            return Vec::new();
        }
        let mine = |open: &Open| {
            open.state() == State::Leased
                && said.lease.is_none_or(|lease| lease == open.tag)
                && self.leases.get(&{ open.tag }).is_some_and(|lease| lease.member == member)
        };
        // Of a lease only what it can hold is looked at.
        let span = said.lease.and_then(|lease| self.leases.get(&lease)).map(|lease| lease.first..lease.end);
        let span = match (said.lease, span) {
            (Some(_), None) => return Vec::new(),
            (_, Some(span)) => said.offsets.start.max(span.start)..said.offsets.end.min(span.end),
            (None, None) => said.offsets.clone(),
        };
        if span.is_empty() {
            return Vec::new();
        }
        let open = part.open.range(span);
        open.filter(|(_, open)| mine(open)).map(|(offset, _)| offset).collect()
    }

    /// Settles `offsets`, which are no longer open, and tells the shard.
    pub(super) fn done(&mut self, partition: u32, offsets: &[Offset]) {
        let Some(Some(part)) = self.parts.get_mut(partition as usize) else { return };
        let mut covered = 0;
        for &offset in offsets {
            if offset < covered {
                continue;
            }
            let (end, fresh) = part.done_around(offset);
            covered = end;
            // What was settled before may be open again in the shard by now.
            self.news.settlements.entry(partition).or_default().done.extend(fresh);
        }
        for offset in offsets {
            part.tried.remove(offset);
        }
    }

    /// Takes a record out of what is open, from wherever it is.
    pub(super) fn close(&mut self, partition: u32, offset: Offset) {
        let part = self.part_mut(partition);
        let Some(open) = part.and_then(|part| part.open.remove(offset)) else { return };
        self.open -= 1;
        match open.state() {
            State::Leased => self.unlease(&open),
            State::Waiting => drop(self.due.remove(&(open.tag, partition, offset))),
            State::Ready => drop(self.ready.remove(&(partition, offset))),
            State::Fetching | State::Held | State::Dead => {}
        }
        if open.unit != 0 {
            self.leave_unit(open.unit, offset);
        }
    }

    /// Gives back what a leased record takes of its consumer's window.
    pub(super) fn unlease(&mut self, open: &Open) {
        let Some(lease) = self.leases.get_mut(&{ open.tag }) else { return };
        if let Some(member) = self.members.get_mut(&lease.member) {
            member.records -= 1;
            member.bytes -= u64::from(open.bytes());
        }
        lease.left -= 1;
        let (partition, left) = (lease.partition, lease.left);
        if let Some(part) = self.part_mut(partition) {
            part.leased -= 1;
        }
        if left == 0
            && let Some(lease) = self.leases.remove(&{ open.tag })
        {
            self.deadlines.remove(&(lease.deadline, open.tag));
        }
    }

    /// Puts a record into another state than leased; the one it was in is over.
    pub(super) fn put(&mut self, partition: u32, offset: Offset, state: State, tag: u64) {
        let Some(part) = self.part_mut(partition) else { return };
        let Some(open) = part.open.get_mut(offset) else { return };
        open.set(state, tag);
        match state {
            State::Waiting => drop(self.due.insert((tag, partition, offset))),
            State::Ready => drop(self.ready.insert((partition, offset))),
            _ => {}
        }
    }
}

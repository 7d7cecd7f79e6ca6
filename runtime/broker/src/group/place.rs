//! Handing records out: which consumer gets which of a batch.

use std::ops::Range;

use millstream_types::{BatchView, DeliveryMode, Offset, RecordView, Timestamp};

use super::{Group, Lease, MemberId, Moment, Open, State};
use crate::limits::{AGAIN_BYTES_MAX, GRANT_RECORDS_MAX, GROUP_OPEN_MAX};

/// What a record takes of a consumer's window beside its key and payload, bytes.
const RECORD_BYTES: usize = 64;

/// Records of a batch for one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) member: MemberId,
    pub(crate) lease: u64,
    /// Number of the consumer's newest message that was taken before.
    pub(crate) heard: u64,
    /// Indexes into the batch.
    pub(crate) records: Vec<Range<usize>>,
    /// Offset, deliveries before this one and failures, of those that were tried before.
    pub(crate) tried: Vec<(Offset, u32, u32)>,
}

/// What was done with a batch.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) grants: Vec<Grant>,
    /// Index of the first record that found nobody.
    pub(crate) upto: usize,
}

/// What is to be done with the records of one offset.
enum Place {
    /// Not for anybody now.
    Pass,
    /// For this consumer, under a lease of this batch.
    To(MemberId),
    /// For whoever has the rest of it.
    Under(u64),
    /// Nobody has room.
    Stop,
}

impl Group {
    /// Hands out records of a batch of `partition`, from index `from` on, until nobody has room; those that come for the
    /// first time move the frontier, at last to `next`. Records that are read again are handed out with `again`.
    pub(crate) fn place(
        &mut self,
        partition: u32,
        batch: &BatchView<'_>,
        from: usize,
        next: Offset,
        again: bool,
        moment: Moment,
    ) -> Placed {
        let (mut placed, len) = (Placed { upto: from, ..Placed::default() }, batch.len());
        let mut turn = Turn::new(self, len - from.min(len));
        while let Some(record) = batch.record(placed.upto) {
            let end = source_end(batch, placed.upto, &record);
            let bytes = (placed.upto..end)
                .filter_map(|index| batch.record(index))
                .map(|record| bytes_of(&record))
                .sum();
            let place = match again {
                true => self.place_again(partition, &record, bytes, &mut turn, moment),
                false => self.place_first(partition, &record, bytes, &mut turn, moment),
            };
            match place {
                Place::Stop => break,
                Place::Pass => {}
                Place::To(member) => {
                    let range = placed.upto..end;
                    let grant = self.grant(&mut placed.grants, member, partition, record.offset, moment);
                    self.lease(partition, record.offset, grant.lease, bytes);
                    let tried = self.part(partition).and_then(|part| part.tried.get(&record.offset));
                    grant.tried.extend(tried.map(|row| (record.offset, row.deliveries, row.failures)));
                    add(&mut grant.records, range);
                }
                Place::Under(lease) => {
                    let Some(found) = self.leases.get(&lease) else { break };
                    let (member, records) = (found.member, placed.upto..end);
                    placed.grants.push(Grant {
                        member,
                        lease,
                        heard: self.heard(member),
                        records: vec![records],
                        tried: Vec::new(),
                    });
                }
            }
            placed.upto = end;
            if !again {
                self.scan_to(partition, record.offset + 1);
            }
        }
        if !again && placed.upto >= len {
            self.scan_to(partition, next);
        }
        placed
    }

    /// Nothing was left of what was scanned up to `next`.
    pub(crate) fn scan_to(&mut self, partition: u32, next: Offset) {
        let Some(part) = self.part_mut(partition) else { return };
        part.scanned = part.scanned.max(next);
        if part.open.is_empty() && part.settled.below() < part.scanned {
            let scanned = part.scanned;
            for gap in part.settled.gaps(0..scanned) {
                match part.unsaved.last_mut() {
                    Some(last) if last.end == gap.start => last.end = gap.end,
                    _ => part.unsaved.push(gap),
                }
            }
            part.settled.insert(0..scanned, &mut |_| {});
            self.unsaved.insert(partition);
        }
    }

    /// Records of one partition to be read again, ascending, at most `max` of them and none beyond `span` offsets.
    pub(crate) fn take_ready(&mut self, max: usize, span: Offset) -> Option<(u32, Vec<Offset>)> {
        if !self.members.values().any(super::Member::has_room) {
            return None;
        }
        let &(partition, first) = self.ready.first()?;
        let end = (partition, first.saturating_add(span));
        let mut bytes = 0;
        let part = self.part(partition)?;
        let ready = self.ready.range((partition, first)..end).take(max).map(|(_, offset)| *offset);
        // What is read is in memory until it is handed out.
        let few = ready.take_while(|offset| {
            let before = bytes;
            bytes += part.open.get(*offset).map_or(0, |open| u64::from(open.bytes()));
            before < AGAIN_BYTES_MAX
        });
        let taken: Vec<_> = few.collect();
        for &offset in &taken {
            self.ready.remove(&(partition, offset));
            self.put(partition, offset, State::Fetching, 0);
        }
        Some((partition, taken))
    }

    /// Nothing is being read again: what was, is to be. For when the one who read is gone.
    pub(crate) fn restart_fetches(&mut self) {
        let fetching = (0..).zip(&self.parts).flat_map(|(partition, part)| {
            let open = part.iter().flat_map(|part| part.open.iter());
            let open = open.filter(|(_, open)| open.state() == State::Fetching);
            open.map(move |(offset, _)| (partition, offset))
        });
        for (partition, offset) in fetching.collect::<Vec<_>>() {
            self.fetched(partition, &[offset], &[offset]);
        }
    }

    /// Reading `offsets` again came to an end. Those that brought nothing, since a module drops them now or they are gone
    /// from the log, are done: they are returned. Those that found nobody are to be read again.
    pub(crate) fn fetched(&mut self, partition: u32, offsets: &[Offset], brought: &[Offset]) -> Vec<Offset> {
        let fetching = |group: &Self, offset: &Offset| {
            let open = group.part(partition).and_then(|part| part.open.get(*offset));
            open.filter(|open| open.state() == State::Fetching).copied()
        };
        let mut gone = Vec::new();
        for offset in offsets {
            let Some(open) = fetching(self, offset) else { continue };
            if brought.contains(offset) {
                let state = if open.unit == 0 { State::Ready } else { State::Held };
                self.put(partition, *offset, state, 0);
                if open.unit != 0 {
                    self.advance(open.unit);
                }
            } else {
                self.close(partition, *offset);
                gone.push(*offset);
            }
        }
        self.done(partition, &gone);
        gone
    }

    fn place_first(
        &mut self,
        partition: u32,
        record: &RecordView<'_>,
        bytes: u32,
        turn: &mut Turn,
        moment: Moment,
    ) -> Place {
        let Some(part) = self.part(partition) else { return Place::Pass };
        let offset = record.offset;
        if part.settled.contains(offset) {
            return Place::Pass;
        }
        match part.open.get(offset) {
            // A module made more of it than one batch holds.
            Some(open) if open.state() == State::Leased => return Place::Under(open.tag),
            Some(_) => return Place::Pass,
            None => {}
        }
        if self.open >= GROUP_OPEN_MAX {
            return Place::Stop;
        }
        if record.expires_at.is_some_and(|at| at <= moment.wall) {
            self.open(partition, offset, 0, bytes);
            self.expired(partition, offset);
            return Place::Pass;
        }
        let retried = part.tried.get(&offset).map(|row| {
            let left = row.due_ms.saturating_sub(moment.wall);
            left.min(Timestamp::try_from(row.wait_ms).unwrap_or(Timestamp::MAX))
        });
        // Where order is the promise nothing is delayed.
        let delayed = record.deliver_at.filter(|_| !self.by_partition());
        let delayed = delayed.map(|at| at.saturating_sub(moment.wall));
        if let Some(wait) = delayed.max(retried).filter(|wait| *wait > 0) {
            // What is delayed has no place in the order.
            let unit = if delayed.is_some() { 0 } else { self.unit_of(partition, record) };
            self.open(partition, offset, unit, bytes);
            self.wait(partition, offset, moment.ms.saturating_add_signed(wait));
            return Place::Pass;
        }
        let unit = self.unit_of(partition, record);
        if unit == 0 {
            let Some(member) = turn.next(self) else { return Place::Stop };
            self.open(partition, offset, 0, bytes);
            return Place::To(member);
        }
        // What finds no room waits in the log, unless others behind it would have room.
        let known = self.units.get(&unit).map(super::Unit::is_leased);
        let stops = match self.by_partition() {
            true => !self.is_eligible(partition),
            false => !self.members.values().any(super::Member::has_room),
        };
        if stops {
            return Place::Stop;
        }
        self.open(partition, offset, unit, bytes);
        if known == Some(false) {
            return Place::Pass;
        }
        match self.member_for(unit) {
            Some(member) => Place::To(member),
            None => Place::Pass,
        }
    }

    fn place_again(
        &mut self,
        partition: u32,
        record: &RecordView<'_>,
        bytes: u32,
        turn: &mut Turn,
        moment: Moment,
    ) -> Place {
        let offset = record.offset;
        let part = self.part_mut(partition);
        let Some(open) = part.and_then(|part| part.open.get_mut(offset)) else { return Place::Pass };
        match open.state() {
            State::Fetching => open.set_bytes(bytes),
            State::Leased => return Place::Under(open.tag),
            _ => return Place::Pass,
        }
        let unit = open.unit;
        if record.expires_at.is_some_and(|at| at <= moment.wall) {
            self.expired(partition, offset);
            return Place::Pass;
        }
        if unit == 0 {
            return turn.next(self).map_or(Place::Stop, Place::To);
        }
        if !self.units.get(&unit).is_some_and(|unit| unit.is_next(offset)) {
            return Place::Pass;
        }
        self.member_for(unit).map_or(Place::Pass, Place::To)
    }

    fn open(&mut self, partition: u32, offset: Offset, unit: u64, bytes: u32) {
        let Some(part) = self.part_mut(partition) else { return };
        part.open.insert(offset, Open::new(unit, bytes, State::Held));
        self.open += 1;
        if unit != 0 {
            self.enter_unit(unit, partition, offset);
        }
    }

    fn grant<'a>(
        &mut self,
        grants: &'a mut Vec<Grant>,
        member: MemberId,
        partition: u32,
        offset: Offset,
        moment: Moment,
    ) -> &'a mut Grant {
        let found = grants.iter().rposition(|grant| {
            grant.member == member
                && self.leases.get(&grant.lease).is_some_and(|lease| lease.left < GRANT_RECORDS_MAX)
        });
        let index = found.unwrap_or_else(|| {
            let (lease, deadline) = (self.next_lease, self.deadline(moment));
            self.next_lease += 1;
            let granted = moment.wall;
            self.leases.insert(
                lease,
                Lease { member, partition, first: offset, end: offset + 1, left: 0, deadline, granted },
            );
            self.deadlines.insert((deadline, lease));
            let heard = self.heard(member);
            grants.push(Grant { member, lease, heard, records: Vec::new(), tried: Vec::new() });
            grants.len() - 1
        });
        grants.get_mut(index).expect("it was found or pushed")
    }

    fn heard(&self, member: MemberId) -> u64 {
        self.members.get(&member).map_or(0, |member| member.heard)
    }

    fn lease(&mut self, partition: u32, offset: Offset, lease: u64, bytes: u32) {
        let Some(part) = self.part_mut(partition) else { return };
        let Some(open) = part.open.get_mut(offset) else { return };
        open.set_leased(lease, bytes);
        let (unit, bytes) = (open.unit, open.bytes());
        part.leased += 1;
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.left += 1;
            lease.first = lease.first.min(offset);
            lease.end = lease.end.max(offset + 1);
            if let Some(member) = self.members.get_mut(&lease.member) {
                member.records += 1;
                member.bytes += u64::from(bytes);
            }
        }
        if unit != 0 {
            self.unit_leased(unit);
        }
    }
}

/// Spreads the records of a batch over the consumers of a work queue, in runs.
struct Turn {
    share: usize,
    left: usize,
    member: Option<MemberId>,
}

impl Turn {
    fn new(group: &Group, records: usize) -> Self {
        let share = match group.config.mode {
            DeliveryMode::Shared => records.div_ceil(group.members_with_room().max(1)),
            _ => 1,
        };
        Self { share: share.max(1), left: 0, member: None }
    }

    fn next(&mut self, group: &mut Group) -> Option<MemberId> {
        let same = self.member.filter(|member| self.left > 0 && group.has_room(*member));
        let member = match same {
            Some(member) => member,
            None => {
                self.left = self.share;
                group.next_in_turn()?
            }
        };
        self.left -= 1;
        self.member = Some(member);
        Some(member)
    }
}

fn source_end(batch: &BatchView<'_>, index: usize, record: &RecordView<'_>) -> usize {
    let behind =
        (index + 1..).find(|index| batch.record(*index).is_none_or(|next| next.offset != record.offset));
    behind.unwrap_or(index + 1)
}

fn bytes_of(record: &RecordView<'_>) -> u32 {
    let bytes = record.payload_len + record.key.map_or(0, <[u8]>::len) + RECORD_BYTES;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn add(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

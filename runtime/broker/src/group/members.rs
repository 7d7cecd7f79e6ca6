//! The consumers of a group: how much each may hold, and which keys or partitions are whose.

use millstream_types::DeliveryMode;

use super::{Group, MemberId, Moment, Slot, Unit};
use crate::limits::{GROUP_MEMBERS_MAX, GROUP_OPEN_MAX};

/// Slots that keys are spread over.
const KEY_SLOTS: u64 = 4_096;

/// How much a consumer may hold unsettled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Records.
    pub records: u32,
    /// Bytes of keys, headers and payloads; the last record may exceed them.
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct Member {
    window: Window,
    /// Held now.
    pub(super) records: u32,
    pub(super) bytes: u64,
    /// A lease of it ended, and it has said nothing since: it gets no more until it does.
    pub(super) silent: bool,
    /// Number of its newest message that was taken.
    pub(super) heard: u64,
    /// Units of this consumer that wait for it to have room.
    pub(super) parked: Vec<u64>,
}

impl Member {
    pub(super) fn has_room(&self) -> bool {
        !self.silent && self.records < self.window.records && self.bytes < self.window.bytes
    }

    pub(super) fn room(&self) -> usize {
        if self.has_room() { (self.window.records - self.records) as usize } else { 0 }
    }
}

/// Why a consumer may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinError {
    /// There is one already, and there may be only one.
    Busy,
    /// There are as many as may be.
    Full { consumers: usize },
}

impl Group {
    /// One more consumer.
    pub(crate) fn join(&mut self, window: Window) -> Result<MemberId, JoinError> {
        if self.streaming || (self.config.mode == DeliveryMode::Exclusive && !self.members.is_empty()) {
            return Err(JoinError::Busy);
        }
        if self.members.len() >= GROUP_MEMBERS_MAX {
            return Err(JoinError::Full { consumers: self.members.len() });
        }
        let id = self.next_member;
        self.next_member += 1;
        self.members
            .insert(id, Member { window, records: 0, bytes: 0, silent: false, heard: 0, parked: Vec::new() });
        self.regroup_all();
        Ok(id)
    }

    /// One who reads everything as a stream. False if there is anybody already.
    pub(crate) fn start_stream(&mut self) -> bool {
        if self.is_read() {
            return false;
        }
        self.streaming = true;
        for part in self.parts.iter_mut().flatten() {
            part.restart_stream();
        }
        true
    }

    pub(crate) fn end_stream(&mut self) {
        self.streaming = false;
    }

    /// From now on the consumer may hold so much.
    pub(crate) fn set_window(&mut self, member: MemberId, window: Window) {
        if let Some(found) = self.members.get_mut(&member) {
            (found.window, found.silent) = (window, false);
        }
        self.unpark(member);
    }

    /// Whether more may be scanned.
    pub(crate) fn wants_more(&self) -> bool {
        self.open < GROUP_OPEN_MAX && self.members.values().any(Member::has_room)
    }

    /// Whether what is scanned of `partition` next could be handed out.
    pub(crate) fn is_eligible(&self, partition: u32) -> bool {
        if !self.by_partition() {
            return true;
        }
        let Some(owner) = self.slots.get(partition as usize).map(|slot| slot.member) else { return false };
        let unit = self.units.get(&super::units::of_partition(partition));
        let drained = unit.is_none_or(|unit| self.holder(unit) == owner && unit.is_leased());
        drained && self.has_room(owner)
    }

    /// Whether what is scanned of `partition` next has to wait for what came before.
    pub(crate) fn is_blocked(&self, partition: u32) -> bool {
        let unit = self.units.get(&super::units::of_partition(partition)).filter(|_| self.by_partition());
        unit.is_some_and(|unit| !unit.is_leased())
    }

    pub(super) fn has_room(&self, member: MemberId) -> bool {
        self.members.get(&member).is_some_and(Member::has_room)
    }

    /// The one whose turn it is among those with room.
    pub(super) fn next_in_turn(&mut self) -> Option<MemberId> {
        let behind = self.members.range(self.turn + 1..).find(|(_, member)| member.has_room());
        let found = behind.or_else(|| self.members.iter().find(|(_, member)| member.has_room()));
        let found = found.map(|(id, _)| *id);
        self.turn = found.unwrap_or(self.turn);
        found
    }

    pub(super) fn members_with_room(&self) -> usize {
        self.members.values().filter(|member| member.has_room()).count()
    }

    /// Who is to have the keys of `unit`.
    pub(super) fn owner(&self, unit: u64, partition: u32) -> Option<MemberId> {
        let slot = if self.by_partition() { partition as usize } else { slot_of(unit) };
        self.slots.get(slot).map(|slot| slot.member)
    }

    /// The same, or where that one has no room, the next that has.
    pub(super) fn owner_with_room(&self, unit: u64, partition: u32) -> Option<MemberId> {
        if self.by_partition() {
            return self.owner(unit, partition).filter(|owner| self.has_room(*owner));
        }
        let start = slot_of(unit);
        let slots = self.slots.iter().cycle().skip(start).take(self.slots.len());
        slots.map(|slot| slot.member).find(|member| self.has_room(*member))
    }

    /// Hands parked units on, now that `member` may have room.
    pub(super) fn unpark(&mut self, member: MemberId) {
        let Some(found) = self.members.get_mut(&member).filter(|member| member.has_room()) else { return };
        let mut parked = std::mem::take(&mut found.parked);
        parked.append(&mut self.parked);
        self.advance_parked(parked, &[member, 0]);
    }

    /// Hands on what is in lists of these; what has been parked elsewhere since is not meant.
    pub(super) fn advance_parked(&mut self, mut parked: Vec<u64>, lists: &[MemberId]) {
        parked.retain(|unit| {
            let parked = self.units.get_mut(unit).and_then(Unit::parked);
            parked.is_some_and(|parked| parked.take_if(|list| lists.contains(list)).is_some())
        });
        for unit in parked {
            self.advance(unit);
        }
    }

    /// Spreads keys or partitions over the consumers anew, moving as few as possible.
    pub(super) fn regroup(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        match self.config.mode {
            DeliveryMode::Shared => {}
            DeliveryMode::KeyShared => self.spread_keys(),
            DeliveryMode::Exclusive | DeliveryMode::Failover => self.spread_partitions(),
        }
    }

    /// The same, and hands on what waits, which may be another's now.
    pub(super) fn regroup_all(&mut self) {
        self.regroup();
        self.parked.clear();
        self.members.values_mut().for_each(|member| member.parked.clear());
        for parked in self.units.values_mut().filter_map(Unit::parked) {
            *parked = None;
        }
        for unit in self.units.keys().copied().collect::<Vec<_>>() {
            self.advance(unit);
        }
    }

    /// Each slot is the consumer's with the highest hash of both (rendezvous hashing).
    fn spread_keys(&mut self) {
        if self.members.is_empty() {
            return self.slots.clear();
        }
        let fresh = self.slots.is_empty();
        if fresh {
            self.slots = vec![Slot { score: 0, member: 0 }; usize::try_from(KEY_SLOTS).unwrap_or_default()];
        }
        let newest = self.members.last_key_value().map(|(id, _)| *id).unwrap_or_default();
        for (index, slot) in (0u64..).zip(&mut self.slots) {
            let candidates = match self.members.contains_key(&slot.member) {
                // Only one that has just come can score higher.
                true => newest..=newest,
                false => 0..=newest,
            };
            if !self.members.contains_key(&slot.member) {
                slot.score = 0;
            }
            for (member, _) in self.members.range(candidates) {
                let score = mix(index << 32 | u64::from(*member));
                if score >= slot.score {
                    *slot = Slot { score, member: *member };
                }
            }
        }
    }

    fn spread_partitions(&mut self) {
        let (partitions, members) = (self.parts.iter().flatten().count(), self.members.len());
        let before = std::mem::take(&mut self.slots);
        if members == 0 {
            return;
        }
        let (base, mut extra) = (partitions / members, partitions % members);
        let mut counts: std::collections::BTreeMap<MemberId, usize> =
            self.members.keys().map(|id| (*id, 0)).collect();
        let mut owners = vec![None; self.parts.len()];
        for ((owner, slot), _) in
            owners.iter_mut().zip(&before).zip(&self.parts).filter(|(_, part)| part.is_some())
        {
            let Some(count) = counts.get_mut(&slot.member) else { continue };
            if *count < base || (*count == base && extra > 0) {
                extra -= usize::from(*count == base);
                *count += 1;
                *owner = Some(slot.member);
            }
        }
        self.slots = owners
            .into_iter()
            .zip(&self.parts)
            .map(|(owner, part)| {
                if part.is_none() {
                    return Slot { score: 0, member: 0 };
                }
                let least = || counts.iter().min_by_key(|(_, count)| **count).map(|(id, _)| *id);
                let member = owner.or_else(least).unwrap_or_default();
                if owner.is_none()
                    && let Some(count) = counts.get_mut(&member)
                {
                    *count += 1;
                }
                Slot { score: 0, member }
            })
            .collect();
    }

    /// What a consumer holds, records and bytes.
    pub(crate) fn holds(&self, member: MemberId) -> (u32, u64) {
        self.members.get(&member).map_or((0, 0), |member| (member.records, member.bytes))
    }

    /// The end of a lease that is granted now.
    pub(super) fn deadline(&self, moment: Moment) -> u64 {
        moment.ms.saturating_add(u64::from(self.config.lease_ms))
    }
}

fn slot_of(unit: u64) -> usize {
    usize::try_from(unit % KEY_SLOTS).unwrap_or_default()
}

/// Finalizer of MurmurHash3 (Austin Appleby, public domain): all bits of the result depend on all of the input.
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

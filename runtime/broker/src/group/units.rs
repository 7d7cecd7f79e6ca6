//! What is kept in order: the records of one key, or of one partition. One consumer at a time has records of a unit,
//! and has them in order.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use millstream_types::{DeliveryMode, Offset, RecordView};

use super::{Group, MemberId, State};

#[derive(Debug)]
pub(super) struct Unit {
    partition: u32,
    /// Who has, or had last, its records.
    pub(super) member: MemberId,
    /// Of the group, when that was decided.
    generation: u32,
    /// Its open records, ascending; the first `leased` of them are its consumer's.
    offsets: VecDeque<Offset>,
    leased: usize,
    /// In whose list of those that wait for room it is; 0: in that of all.
    pub(super) parked: Option<MemberId>,
}

impl Unit {
    /// Whether its consumer has all of it, so that more can follow.
    pub(super) fn is_leased(&self) -> bool {
        self.leased == self.offsets.len()
    }

    /// Whether `offset` is what comes next.
    pub(super) fn is_next(&self, offset: Offset) -> bool {
        self.offsets.get(self.leased) == Some(&offset)
    }
}

/// The unit of a partition whose order is kept as a whole.
pub(super) fn of_partition(partition: u32) -> u64 {
    u64::from(partition) + 1
}

impl Group {
    /// What `record` is kept in order with; 0 for nothing.
    pub(super) fn unit_of(&self, partition: u32, record: &RecordView<'_>) -> u64 {
        // Keys come from outside: nobody shall make them collide.
        static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        match (self.config.mode, record.key) {
            (DeliveryMode::Exclusive | DeliveryMode::Failover, _) => of_partition(partition),
            (DeliveryMode::KeyShared, Some(key)) => HASH.hash_one((partition, key)).max(1),
            (DeliveryMode::KeyShared, None) | (DeliveryMode::Shared, _) => 0,
        }
    }

    /// Adds a record that is not leased yet behind the others of its unit.
    pub(super) fn enter_unit(&mut self, key: u64, partition: u32, offset: Offset) {
        let unit = self.units.entry(key).or_insert_with(|| Unit {
            partition,
            member: 0,
            generation: self.generation.wrapping_sub(1),
            offsets: VecDeque::new(),
            leased: 0,
            parked: None,
        });
        unit.offsets.push_back(offset);
    }

    /// The next record of the unit is leased.
    pub(super) fn unit_leased(&mut self, key: u64) {
        if let Some(unit) = self.units.get_mut(&key) {
            unit.leased += 1;
        }
    }

    pub(super) fn leave_unit(&mut self, key: u64, offset: Offset) {
        let Some(unit) = self.units.get_mut(&key) else { return };
        if let Ok(index) = unit.offsets.binary_search(&offset) {
            unit.offsets.remove(index);
            unit.leased -= usize::from(index < unit.leased);
        }
        if unit.offsets.is_empty() {
            self.units.remove(&key);
        } else {
            self.advance(key);
        }
    }

    /// The leased records of the unit behind `offset`, which is itself no longer leased; from now on they are not either.
    pub(super) fn leased_behind(&mut self, key: u64, offset: Offset) -> Vec<Offset> {
        let Some(unit) = self.units.get_mut(&key) else { return Vec::new() };
        let Ok(index) = unit.offsets.binary_search(&offset) else { return Vec::new() };
        let leased = unit.leased;
        unit.leased = leased.min(index);
        unit.offsets.iter().take(leased).skip(index + 1).copied().collect()
    }

    /// Has what comes next of a unit read again, where a consumer may have it.
    pub(super) fn advance(&mut self, key: u64) {
        let Some(unit) = self.units.get(&key) else { return };
        let (partition, next) = (unit.partition, unit.offsets.get(unit.leased).copied());
        if next.is_none_or(|next| !self.is_held(partition, next)) {
            return;
        }
        let Some(member) = self.member_for(key) else { return };
        let room = self.members.get(&member).map_or(0, super::Member::room);
        let Some(unit) = self.units.get(&key) else { return };
        let behind: Vec<_> = unit.offsets.iter().skip(unit.leased).take(room).copied().collect();
        for offset in behind {
            if !self.is_held(partition, offset) {
                break;
            }
            self.put(partition, offset, State::Ready, 0);
        }
    }

    /// Who may have the next record of the unit now; where nobody may, it is looked at again later.
    pub(super) fn member_for(&mut self, key: u64) -> Option<MemberId> {
        let unit = self.units.get(&key)?;
        let (partition, leased, member) = (unit.partition, unit.leased, unit.member);
        let current = unit.generation == self.generation;
        if leased > 0 {
            // It moves to another consumer once this one is done with what it has.
            if !current && self.owner(key, partition) != Some(member) {
                return None;
            }
            if !self.has_room(member) {
                self.park(key, Some(member));
                return None;
            }
            self.units.get_mut(&key)?.generation = self.generation;
            return Some(member);
        }
        match self.owner_with_room(key, partition) {
            Some(member) => {
                let generation = self.generation;
                let unit = self.units.get_mut(&key)?;
                (unit.member, unit.generation) = (member, generation);
                Some(member)
            }
            None => {
                let owner = if self.by_partition() { self.owner(key, partition) } else { None };
                self.park(key, owner);
                None
            }
        }
    }

    fn park(&mut self, key: u64, member: Option<MemberId>) {
        let Some(unit) = self.units.get_mut(&key) else { return };
        let place = member.unwrap_or(0);
        if unit.parked.replace(place) == Some(place) {
            return;
        }
        match member.and_then(|member| self.members.get_mut(&member)) {
            Some(member) => member.parked.push(key),
            None => self.parked.push(key),
        }
    }

    fn is_held(&self, partition: u32, offset: Offset) -> bool {
        let open = self.part(partition).and_then(|part| part.open.get(offset));
        open.is_some_and(|open| open.state() == State::Held)
    }
}

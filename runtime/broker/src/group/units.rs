//! What is kept in order: the records of one key, or of one partition. One consumer at a time has records of a unit,
//! and has them in order.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use millstream_types::{DeliveryMode, Offset, RecordView};

use super::{Group, MemberId, State};

/// Most have one record: where each has a key of its own, there are as many as records.
#[derive(Debug)]
pub(super) enum Unit {
    One(One),
    Many(Box<Many>),
}

const _: () = assert!(size_of::<Unit>() == 16);

#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
pub(super) struct One {
    offset: Offset,
    partition: u32,
    leased: bool,
}

#[derive(Debug)]
pub(super) struct Many {
    partition: u32,
    /// Who has, or had last, its records.
    member: MemberId,
    /// Of the group, when that was decided.
    generation: u32,
    /// Its open records, ascending; the first `leased` of them are its consumer's.
    offsets: VecDeque<Offset>,
    leased: usize,
    /// In whose list of those that wait for room it is; 0: in that of all.
    parked: Option<MemberId>,
}

impl One {
    fn is(self, offset: Offset) -> bool {
        let own = self.offset;
        own == offset
    }
}

impl Unit {
    /// Whether its consumer has all of it, so that more can follow.
    pub(super) fn is_leased(&self) -> bool {
        match self {
            Self::One(one) => one.leased,
            Self::Many(many) => many.leased == many.offsets.len(),
        }
    }

    /// Whether `offset` is what comes next.
    pub(super) fn is_next(&self, offset: Offset) -> bool {
        self.next() == Some(offset)
    }

    /// In whose list of those that wait for room it is, to be taken from there.
    pub(super) fn parked(&mut self) -> Option<&mut Option<MemberId>> {
        match self {
            Self::One(_) => None,
            Self::Many(many) => Some(&mut many.parked),
        }
    }

    fn partition(&self) -> u32 {
        match self {
            Self::One(one) => one.partition,
            Self::Many(many) => many.partition,
        }
    }

    fn next(&self) -> Option<Offset> {
        match self {
            Self::One(one) => (!one.leased).then_some(one.offset),
            Self::Many(many) => many.offsets.get(many.leased).copied(),
        }
    }

    /// What comes next, at most `max` of it.
    fn rest(&self, max: usize) -> Vec<Offset> {
        match self {
            Self::One(_) => self.next().into_iter().take(max).collect(),
            Self::Many(many) => many.offsets.iter().skip(many.leased).take(max).copied().collect(),
        }
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
        match self.widen(key) {
            Some(many) => many.offsets.push_back(offset),
            None => drop(self.units.insert(key, Unit::One(One { offset, partition, leased: false }))),
        }
    }

    /// The next record of the unit is leased.
    pub(super) fn unit_leased(&mut self, key: u64) {
        match self.units.get_mut(&key) {
            Some(Unit::One(one)) => one.leased = true,
            Some(Unit::Many(many)) => many.leased += 1,
            None => {}
        }
    }

    pub(super) fn leave_unit(&mut self, key: u64, offset: Offset) {
        let is_empty = match self.units.get_mut(&key) {
            None => return,
            Some(Unit::One(one)) => one.is(offset),
            Some(Unit::Many(many)) => {
                if let Ok(index) = many.offsets.binary_search(&offset) {
                    many.offsets.remove(index);
                    many.leased -= usize::from(index < many.leased);
                }
                many.offsets.is_empty()
            }
        };
        if is_empty {
            self.units.remove(&key);
        } else {
            self.advance(key);
        }
    }

    /// The leased records of the unit behind `offset`, which is itself no longer leased; from now on they are not either.
    pub(super) fn leased_behind(&mut self, key: u64, offset: Offset) -> Vec<Offset> {
        match self.units.get_mut(&key) {
            None => Vec::new(),
            Some(Unit::One(one)) => {
                one.leased = false;
                Vec::new()
            }
            Some(Unit::Many(many)) => {
                let Ok(index) = many.offsets.binary_search(&offset) else { return Vec::new() };
                let leased = many.leased;
                many.leased = leased.min(index);
                many.offsets.iter().take(leased).skip(index + 1).copied().collect()
            }
        }
    }

    /// Who has records of a unit, or had them last; 0 where that is not known.
    pub(super) fn holder(&self, unit: &Unit) -> MemberId {
        let one = match unit {
            Unit::Many(many) => return many.member,
            Unit::One(one) => one,
        };
        let open = self.part(one.partition).and_then(|part| part.open.get(one.offset));
        let lease = open.filter(|_| one.leased).and_then(|open| self.leases.get(&{ open.tag }));
        lease.map_or(0, |lease| lease.member)
    }

    /// The unit, as one that may have several records.
    fn widen(&mut self, key: u64) -> Option<&mut Many> {
        if let Some(unit @ Unit::One(one)) = self.units.get(&key) {
            let many = Many {
                partition: one.partition,
                member: self.holder(unit),
                // When its consumer was decided on is not known: more goes there if it would now.
                generation: self.generation.wrapping_sub(1),
                offsets: VecDeque::from([one.offset]),
                leased: usize::from(one.leased),
                parked: None,
            };
            self.units.insert(key, Unit::Many(Box::new(many)));
        }
        match self.units.get_mut(&key) {
            Some(Unit::Many(many)) => Some(many),
            _ => None,
        }
    }

    /// Has what comes next of a unit read again, where a consumer may have it.
    pub(super) fn advance(&mut self, key: u64) {
        let Some(unit) = self.units.get(&key) else { return };
        let (partition, next) = (unit.partition(), unit.next());
        if next.is_none_or(|next| !self.is_held(partition, next)) {
            return;
        }
        let Some(member) = self.member_for(key) else { return };
        let room = self.members.get(&member).map_or(0, super::Member::room);
        let Some(unit) = self.units.get(&key) else { return };
        for offset in unit.rest(room) {
            if !self.is_held(partition, offset) {
                break;
            }
            self.put(partition, offset, State::Ready, 0);
        }
    }

    /// Who may have the next record of the unit now; where nobody may, it is looked at again later.
    pub(super) fn member_for(&mut self, key: u64) -> Option<MemberId> {
        let (partition, leased, member, generation) = match self.units.get(&key)? {
            Unit::One(one) => (one.partition, usize::from(one.leased), 0, 0),
            Unit::Many(many) => (many.partition, many.leased, many.member, many.generation),
        };
        if leased > 0 {
            let current = generation == self.generation;
            // It moves to another consumer once this one is done with what it has.
            if !current && self.owner(key, partition) != Some(member) {
                return None;
            }
            if !self.has_room(member) {
                self.park(key, Some(member));
                return None;
            }
            let generation = self.generation;
            if let Some(Unit::Many(many)) = self.units.get_mut(&key) {
                many.generation = generation;
            }
            return Some(member);
        }
        match self.owner_with_room(key, partition) {
            Some(member) => {
                let generation = self.generation;
                if let Some(Unit::Many(many)) = self.units.get_mut(&key) {
                    (many.member, many.generation) = (member, generation);
                }
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
        let Some(unit) = self.widen(key) else { return };
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

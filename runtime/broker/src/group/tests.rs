//! The group against a plain model: whatever consumers do and whenever they come and go, each record is exactly one of
//! settled, with one consumer, or waiting; only its holder settles it; order holds where it is promised; and in the end
//! everything is done.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::{
    BatchBuilder, DeadLetters, DeliveryConfig, DeliveryMode, Offset, Record, RecordBatch,
};
use proptest::prelude::*;

use super::*;
use crate::Error;

const PARTITIONS: u32 = 3;
const RECORDS: Offset = 40;
const LEASE_MS: u32 = 1_000;
const TRIES: u32 = 3;

#[derive(Debug, Clone)]
enum Act {
    Join {
        records: u32,
    },
    Leave {
        who: usize,
        broke_off: bool,
    },
    Scan {
        which: usize,
        records: Offset,
    },
    Again,
    /// Whoever read records again is gone before they were there.
    GivenUp,
    Say {
        which: usize,
        many: Offset,
        verdict: u8,
        any_lease: bool,
    },
    /// What was said before, or by somebody else.
    Stale {
        which: usize,
    },
    Extend {
        which: usize,
    },
    Window {
        who: usize,
        records: u32,
    },
    Pass {
        ms: u64,
    },
    /// The clock on the wall jumps; leases and waits are none of its business.
    Jump {
        hours: i64,
    },
    Bury {
        written: bool,
    },
    Redrive {
        which: usize,
    },
    /// A topic is deleted, and another one made.
    Replace {
        which: usize,
    },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1..12u32).prop_map(|records| Act::Join { records }),
        2 => (0..8usize, any::<bool>()).prop_map(|(who, broke_off)| Act::Leave { who, broke_off }),
        8 => (0..PARTITIONS as usize, 1..9u64).prop_map(|(which, records)| Act::Scan { which, records }),
        6 => Just(Act::Again),
        1 => Just(Act::GivenUp),
        12 => (0..64usize, 1..6u64, 0..4u8, any::<bool>())
            .prop_map(|(which, many, verdict, any_lease)| Act::Say { which, many, verdict, any_lease }),
        2 => (0..64usize).prop_map(|which| Act::Stale { which }),
        1 => (0..64usize).prop_map(|which| Act::Extend { which }),
        1 => (0..8usize, 0..9u32).prop_map(|(who, records)| Act::Window { who, records }),
        4 => prop_oneof![1..600u64, 600..6_000u64].prop_map(|ms| Act::Pass { ms }),
        1 => (-2..=2i64).prop_map(|hours| Act::Jump { hours }),
        3 => any::<bool>().prop_map(|written| Act::Bury { written }),
        1 => (0..64usize).prop_map(|which| Act::Redrive { which }),
        1 => (0..PARTITIONS as usize).prop_map(|which| Act::Replace { which }),
        1 => Just(Act::Restart),
    ]
}

type Place = (u32, Offset);

struct World {
    mode: DeliveryMode,
    group: Group,
    /// What a restart would find.
    shard: Vec<PartitionCursor>,
    /// The partitions that are there.
    live: Vec<u32>,
    ms: u64,
    /// What the clock on the wall is ahead by, ms.
    ahead: i64,
    members: Vec<MemberId>,
    windows: BTreeMap<MemberId, u32>,
    /// Who holds what, under which lease.
    holders: BTreeMap<Place, (MemberId, u64)>,
    deadlines: BTreeMap<u64, u64>,
    /// All that was ever handed out.
    history: Vec<(Place, MemberId, u64)>,
    done: BTreeSet<Place>,
    failures: BTreeMap<Place, u32>,
    dead: Vec<Place>,
    /// Sent back after they were dead letters: these have no place in the order.
    redriven: BTreeSet<Place>,
}

fn key_of(offset: Offset) -> Option<u64> {
    Some(offset % 5).filter(|key| *key < 4)
}

fn is_dropped(offset: Offset) -> bool {
    offset % 7 == 3
}

fn record(offset: Offset) -> Record {
    let record = Record::new("x");
    match key_of(offset) {
        Some(key) => record.with_key(key.to_string()),
        None => record,
    }
}

fn batch(offsets: &[Offset]) -> Option<RecordBatch> {
    let first = *offsets.first()?;
    let mut builder = BatchBuilder::new().with_stamp(first, 0);
    for offset in offsets {
        builder.push_at(u32::try_from(offset - first).unwrap(), &record(*offset)).unwrap();
    }
    Some(builder.build().unwrap())
}

fn config(mode: DeliveryMode) -> DeliveryConfig {
    DeliveryConfig {
        lease_ms: LEASE_MS,
        tries: TRIES,
        backoff_ms: vec![100, 2_000],
        dead_letters: DeadLetters::Auto,
        ..DeliveryConfig::of(mode)
    }
}

impl World {
    fn new(mode: DeliveryMode) -> Self {
        let shard = vec![PartitionCursor::default(); PARTITIONS as usize];
        Self {
            mode,
            group: Group::new(config(mode), shard.clone()),
            shard,
            live: (0..PARTITIONS).collect(),
            ms: 1,
            ahead: 0,
            members: Vec::new(),
            windows: BTreeMap::new(),
            holders: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            history: Vec::new(),
            done: BTreeSet::new(),
            failures: BTreeMap::new(),
            dead: Vec::new(),
            redriven: BTreeSet::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment { ms: self.ms, wall: i64::try_from(self.ms).unwrap() + self.ahead, chance: 0.5 }
    }

    fn unit(&self, (partition, offset): Place) -> Option<(u32, u64)> {
        if self.redriven.contains(&(partition, offset)) {
            return None;
        }
        match self.mode {
            DeliveryMode::Shared => None,
            DeliveryMode::KeyShared => key_of(offset).map(|key| (partition, key)),
            DeliveryMode::Exclusive | DeliveryMode::Failover => Some((partition, 0)),
        }
    }

    /// The record is taken from its holder, and with it what comes behind it in its unit.
    fn take_back(&mut self, place: Place) {
        self.holders.remove(&place);
        if let Some(unit) = self.unit(place) {
            let behind: Vec<_> = self.holders.range(place..).map(|(place, _)| *place).collect();
            for other in behind {
                if self.unit(other) == Some(unit) {
                    self.holders.remove(&other);
                }
            }
        }
    }

    fn fail(&mut self, place: Place) {
        self.take_back(place);
        let failures = self.failures.entry(place).or_default();
        *failures += 1;
        if *failures >= TRIES {
            self.dead.push(place);
        }
    }

    fn granted(&mut self, partition: u32, batch: &RecordBatch, grants: Vec<Grant>) {
        let view = batch.view();
        for grant in grants {
            self.deadlines.entry(grant.lease).or_insert(self.ms + u64::from(LEASE_MS));
            for index in grant.records.into_iter().flatten() {
                let place = (partition, view.record(index).unwrap().offset);
                assert!(self.members.contains(&grant.member), "a consumer that left gets nothing");
                assert!(!self.done.contains(&place), "{place:?} was done");
                if let Some(unit) = self.unit(place) {
                    for before in 0..place.1 {
                        let other = (partition, before);
                        let in_order = is_dropped(before)
                            || self.done.contains(&other)
                            || self.unit(other) != Some(unit)
                            || self.holders.get(&other).is_some_and(|(member, _)| *member == grant.member);
                        assert!(in_order, "{place:?} came to {} before {other:?} was done", grant.member);
                    }
                }
                let before = self.holders.insert(place, (grant.member, grant.lease));
                assert_eq!(before, None, "{place:?} has two holders");
                self.history.push((place, grant.member, grant.lease));
            }
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Join { records } => {
                let joined = self.group.join(Window { records, bytes: 1 << 20 });
                let refused = self.mode == DeliveryMode::Exclusive && !self.members.is_empty();
                assert_eq!(joined.is_err(), refused);
                if let Ok(member) = joined {
                    self.members.push(member);
                    self.windows.insert(member, records);
                }
            }
            Act::Leave { who, broke_off } => {
                if self.members.is_empty() {
                    return;
                }
                let member = self.members.remove(who % self.members.len());
                let moment = self.moment();
                self.group.leave(member, broke_off, moment);
                let mut leases: Vec<_> =
                    self.holders.iter().map(|(place, holder)| (holder.1, *place, holder.0)).collect();
                leases.sort_unstable();
                for (lease, place, of) in leases {
                    if of == member && self.holders.get(&place) == Some(&(member, lease)) {
                        if broke_off { self.fail(place) } else { self.take_back(place) }
                    }
                }
            }
            Act::Scan { which, records } => {
                let partition = self.live[which];
                if !self.group.wants_more() || !self.group.is_eligible(partition) {
                    return;
                }
                let from = self.group.scan_position(partition);
                let next = (from + records).min(RECORDS);
                let offsets: Vec<_> = (from..next).filter(|offset| !is_dropped(*offset)).collect();
                match batch(&offsets) {
                    Some(batch) => {
                        let moment = self.moment();
                        let placed = self.group.place(partition, &batch.view(), 0, next, false, moment);
                        self.granted(partition, &batch, placed.grants);
                    }
                    None => self.group.scan_to(partition, next),
                }
            }
            Act::Again => self.again(false),
            Act::GivenUp => self.again(true),
            Act::Say { which, many, verdict, any_lease } => self.say(which, many, verdict, any_lease),
            Act::Stale { which } => {
                let Some(&(place, member, lease)) = self.history.get(which % self.history.len().max(1))
                else {
                    return;
                };
                if self.holders.get(&place) == Some(&(member, lease)) {
                    return;
                }
                let said = Said {
                    partition: place.0,
                    lease: Some(lease),
                    offsets: place.1..place.1 + 1,
                    verdict: Verdict::Ack,
                };
                let moment = self.moment();
                assert_eq!(self.group.settle(member, 0, &[said], moment), [false]);
            }
            Act::Extend { which } => {
                let Some(&(place, member, lease)) = self.history.get(which % self.history.len().max(1))
                else {
                    return;
                };
                let moment = self.moment();
                let live = self.holders.values().any(|holder| *holder == (member, lease));
                assert_eq!(self.group.extend(member, lease, 5_000, moment), live, "{place:?}");
                if live {
                    self.deadlines.insert(lease, self.ms + 5_000);
                }
            }
            Act::Window { who, records } => {
                if let Some(&member) = self.members.get(who) {
                    self.group.set_window(member, Window { records, bytes: 1 << 20 });
                    let most = self.windows.entry(member).or_default();
                    *most = records.max(*most);
                }
            }
            Act::Pass { ms } => self.pass(ms),
            Act::Jump { hours } => self.ahead += hours * 3_600_000,
            Act::Bury { written } => {
                let Some(place) = self.dead.pop() else { return };
                if written {
                    self.done.insert(place);
                    let shard = self.shard.get_mut(place.0 as usize).unwrap();
                    shard.settled.insert(place.1..place.1 + 1, &mut |_| {});
                    shard.tried.remove(&place.1);
                    self.failures.remove(&place);
                    self.group.settled_elsewhere(place.0, place.1);
                } else {
                    let moment = self.moment();
                    self.group.not_buried(place.0, place.1, moment);
                }
            }
            Act::Redrive { which } => {
                let Some(&place) = self.done.iter().nth(which % self.done.len().max(1)) else { return };
                self.done.remove(&place);
                // What is still to be scanned has its place in the order.
                if place.1 < self.group.scan_position(place.0) {
                    self.redriven.insert(place);
                }
                let shard = self.shard.get_mut(place.0 as usize).unwrap();
                assert!(shard.settled.reopen(place.1, &mut |_| {}));
                self.group.reopen(place.0, place.1);
            }
            Act::Replace { which } => {
                let gone = self.live.remove(which);
                self.group.detach(&[gone]);
                self.holders.retain(|place, _| place.0 != gone);
                self.done.retain(|place| place.0 != gone);
                self.failures.retain(|place, _| place.0 != gone);
                self.dead.retain(|place| place.0 != gone);
                self.redriven.retain(|place| place.0 != gone);
                self.live.push(u32::try_from(self.shard.len()).unwrap());
                self.shard.push(PartitionCursor::default());
                self.group.attach(1);
            }
            Act::Restart => {
                self.take_news();
                // What is gone is no longer counted.
                let live = std::mem::replace(&mut self.live, (0..PARTITIONS).collect());
                self.shard = live.iter().map(|partition| self.shard[*partition as usize].clone()).collect();
                let renamed = |place: Place| {
                    let index = live.iter().position(|partition| *partition == place.0).unwrap();
                    (u32::try_from(index).unwrap(), place.1)
                };
                self.done = std::mem::take(&mut self.done).into_iter().map(renamed).collect();
                let failures = std::mem::take(&mut self.failures).into_iter();
                self.failures = failures.map(|(place, count)| (renamed(place), count)).collect();
                self.group = Group::new(config(self.mode), self.shard.clone());
                self.members.clear();
                self.windows.clear();
                self.deadlines.clear();
                self.holders.clear();
                self.history.clear();
                self.dead.clear();
                // What is scanned again is in order again.
                self.redriven.clear();
            }
        }
    }

    fn again(&mut self, given_up: bool) {
        let Some((partition, offsets)) = self.group.take_ready(6, 20) else { return };
        if given_up {
            return self.group.restart_fetches();
        }
        assert!(offsets.is_sorted() && !offsets.is_empty());
        let batch = batch(&offsets).unwrap();
        let moment = self.moment();
        let placed = self.group.place(partition, &batch.view(), 0, RECORDS, true, moment);
        self.granted(partition, &batch, placed.grants);
        self.group.fetched(partition, &offsets, &offsets);
    }

    fn say(&mut self, which: usize, many: Offset, verdict: u8, any_lease: bool) {
        let Some((&(partition, first), &(member, lease))) =
            self.holders.iter().nth(which % self.holders.len().max(1))
        else {
            return;
        };
        let offsets = first..first + many;
        let (verdict, lease) = (
            match verdict {
                0 | 1 => Verdict::Ack,
                2 => {
                    Verdict::Nack { delay_ms: many.is_multiple_of(2).then_some(0), error: Some("no".into()) }
                }
                _ => Verdict::Release,
            },
            if any_lease { None } else { Some(lease) },
        );
        for offset in offsets.clone() {
            let place = (partition, offset);
            let holds = self
                .holders
                .get(&place)
                .is_some_and(|holder| holder.0 == member && lease.is_none_or(|lease| lease == holder.1));
            if holds {
                match &verdict {
                    Verdict::Ack => {
                        self.holders.remove(&place);
                        self.failures.remove(&place);
                        self.done.insert(place);
                    }
                    Verdict::Nack { .. } => self.fail(place),
                    Verdict::Release => self.take_back(place),
                }
            }
        }
        let said = Said { partition, lease, offsets, verdict };
        let moment = self.moment();
        assert_eq!(self.group.settle(member, 0, &[said], moment), [true]);
    }

    fn pass(&mut self, ms: u64) {
        self.ms += ms;
        let over: BTreeSet<_> = self
            .deadlines
            .iter()
            .filter(|(_, at)| **at <= self.ms)
            .map(|(lease, at)| (*at, *lease))
            .collect();
        for (_, lease) in over {
            self.deadlines.remove(&lease);
            let under: Vec<_> = self
                .holders
                .iter()
                .filter(|(_, holder)| holder.1 == lease)
                .map(|(place, _)| *place)
                .collect();
            for place in under {
                if self.holders.get(&place).is_some_and(|holder| holder.1 == lease) {
                    self.fail(place);
                }
            }
        }
        let moment = self.moment();
        self.group.tick(moment);
    }

    fn take_news(&mut self) {
        let news = self.group.take_all_news();
        for (partition, Settlement { done, tried, .. }) in news.settlements {
            let cursor = self.shard.get_mut(partition as usize).unwrap();
            for (offset, row) in tried {
                if !cursor.settled.contains(offset) {
                    cursor.tried.insert(offset, row);
                }
            }
            for range in done {
                cursor.tried.retain(|offset, _| !range.contains(offset));
                cursor.settled.insert(range, &mut |_| {});
            }
        }
        for dead in news.dead.into_iter().filter(|dead| self.live.contains(&dead.partition)) {
            assert!(self.dead.contains(&(dead.partition, dead.offset)));
            assert_eq!(Some(&dead.row.failures), self.failures.get(&(dead.partition, dead.offset)));
        }
    }

    fn check(&mut self) {
        self.take_news();
        let mut held: BTreeMap<MemberId, u32> = BTreeMap::new();
        for (member, _) in self.holders.values() {
            *held.entry(*member).or_default() += 1;
        }
        for member in &self.members {
            let records = held.get(member).copied().unwrap_or_default();
            assert_eq!(self.group.holds(*member).0, records);
            assert!(records <= self.windows[member]);
        }
        for &partition in &self.live {
            let part = self.group.part(partition).unwrap();
            for offset in 0..RECORDS {
                let place = (partition, offset);
                let settled = part.settled.contains(offset);
                let dropped = is_dropped(offset) && !self.redriven.contains(&place);
                assert!(
                    !settled || self.done.contains(&place) || dropped,
                    "{place:?} is settled and was not done"
                );
                assert!(settled || !self.done.contains(&place), "{place:?} was done and is not settled");
                let open = part.open.get(offset);
                assert!(open.is_none() || !settled, "{place:?} is settled and open");
                let known = settled || open.is_some() || offset >= part.scanned || is_dropped(offset);
                assert!(known, "{place:?} is forgotten");
                let leased = open.filter(|open| open.state() == State::Leased).map(|open| open.tag);
                assert_eq!(leased, self.holders.get(&place).map(|holder| holder.1), "{place:?}");
                if self.dead.contains(&place) {
                    assert!(open.is_some_and(|open| open.state() == State::Dead));
                }
            }
            assert!(self.shard[partition as usize].settled.below() <= part.settled.below());
        }
        for &partition in &self.live {
            let part = self.group.part(partition).unwrap();
            let held = self.holders.keys().filter(|place| place.0 == partition).count() as u64;
            assert_eq!(self.group.counts(partition), (held, part.open.len() as u64 - held));
        }
        assert_eq!(
            self.group.open,
            self.group.parts.iter().flatten().map(|part| part.open.len()).sum::<usize>()
        );
    }

    /// One consumer that acknowledges everything gets everything.
    fn drain(&mut self) {
        // Nobody comes any more: one who is there has to get everything, if there is one.
        while self.members.len() > 1 {
            self.act(Act::Leave { who: 0, broke_off: false });
        }
        match self.members.first() {
            Some(_) => self.act(Act::Window { who: 0, records: 9 }),
            None => self.act(Act::Join { records: 7 }),
        }
        for _ in 0..2_000 {
            while !self.dead.is_empty() {
                self.act(Act::Bury { written: true });
            }
            self.act(Act::Again);
            for which in 0..PARTITIONS as usize {
                self.act(Act::Scan { which, records: 5 });
            }
            while !self.holders.is_empty() {
                self.act(Act::Say { which: 0, many: 1, verdict: 0, any_lease: true });
            }
            self.act(Act::Pass { ms: 900 });
            self.check();
            if self.live.iter().all(|partition| self.group.settled(*partition) == RECORDS) {
                assert_eq!(self.group.open, 0);
                assert!(
                    self.group.units.is_empty() && self.group.leases.is_empty() && self.group.due.is_empty()
                );
                assert!(self.group.parts.iter().flatten().all(|part| part.tried.is_empty()));
                for partition in &self.live {
                    let cursor = &self.shard[*partition as usize];
                    assert!(cursor.settled.below() == RECORDS && cursor.tried.is_empty());
                }
                return;
            }
        }
        panic!("it never ends: {:#?}", self.group);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_time: 60_000, ..ProptestConfig::default() })]

    #[test]
    fn each_record_is_in_one_place_and_in_the_end_done(
        mode in prop::sample::select(vec![
            DeliveryMode::Exclusive, DeliveryMode::Failover, DeliveryMode::Shared, DeliveryMode::KeyShared,
        ]),
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut world = World::new(mode);
        for act in acts {
            world.act(act);
            world.check();
        }
        world.drain();
    }
}

/// Many more with `make soak`.
fn cases() -> u32 {
    if std::env::var_os("MILLSTREAM_SOAK").is_some() { 60_000 } else { 600 }
}

#[test]
fn what_is_sent_back_to_a_stream_waits_for_its_next_start() {
    let mut group = Group::new(config(DeliveryMode::Exclusive), vec![PartitionCursor::default()]);
    assert!(group.start_stream());
    group.reach(0, 10);
    let whole = 0..5;
    assert_eq!(group.settle_through(0, 5).unwrap(), [whole]);
    group.reopen(0, 2);
    assert_eq!(group.settled(0), 2);
    let (before, behind) = (5..10, 2..3);
    assert_eq!(group.settle_through(0, 10).unwrap(), [before]);
    assert_eq!(group.unsettled(0, 0..10), [behind]);
    assert!(matches!(group.settle_through(0, 11), Err(Error::AckBeyond { .. })));
    group.end_stream();
    assert!(group.start_stream());
    group.reach(0, 10);
    let sent_back = 2..3;
    assert_eq!(group.settle_through(0, 10).unwrap(), [sent_back]);
    assert_eq!(group.settled(0), 10);
}

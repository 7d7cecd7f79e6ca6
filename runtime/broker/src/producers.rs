//! Idempotent producers: what a partition knows of each, so that a batch that comes again is not appended again.
//!
//! A producer numbers its records in each partition from 0; a batch names the number of its first record. Numbers wrap
//! at 2^32. What comes next is appended, what was appended before is a duplicate, and anything else is refused: a batch
//! is missing before it. A producer of a newer epoch replaces the older one, which is refused from then on.

use std::collections::{HashMap, VecDeque};

use millstream_types::{ProducerStamp, Timestamp};

use crate::{command::Appended, limits::PRODUCER_RECENT_MAX, rows::ProducerRow};

/// What a partition knows of its producers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    known: HashMap<u64, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    row: ProducerRow,
    /// Its newest appends, oldest first: most duplicates are among them.
    recent: VecDeque<(u32, Appended)>,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    Append,
    /// Appended before: where, as far as it is known here.
    Duplicate(Option<Appended>),
    /// A batch is missing before it: the partition waits for this number.
    Gap {
        expected: u32,
    },
    /// A newer epoch of the producer has appended.
    Fenced {
        epoch: u32,
    },
}

impl Producers {
    /// Takes over what is stored of `producer`.
    pub(crate) fn recover(&mut self, producer: u64, row: ProducerRow) {
        self.known.insert(producer, Known { row, recent: VecDeque::new() });
    }

    /// What is to be done with a batch that `stamp` marks.
    pub(crate) fn judge(&self, stamp: ProducerStamp) -> Judgement {
        let known = self.known.get(&stamp.id);
        let expected = match known {
            Some(known) if known.row.epoch > stamp.epoch => {
                return Judgement::Fenced { epoch: known.row.epoch };
            }
            Some(known) if known.row.epoch == stamp.epoch => known.row.next,
            // One that is unknown, or begins anew, begins with 0.
            _ => 0,
        };
        if stamp.sequence == expected {
            return Judgement::Append;
        }
        // Half of the numbers are behind us, half before us.
        let behind = expected.wrapping_sub(stamp.sequence) < u32::MAX / 2;
        match known.filter(|known| known.row.epoch == stamp.epoch && behind) {
            None => Judgement::Gap { expected },
            Some(known) => {
                let same = known.recent.iter().find(|(sequence, _)| *sequence == stamp.sequence);
                Judgement::Duplicate(same.map(|(_, appended)| appended.clone()))
            }
        }
    }

    /// What is to be stored of `producer`.
    pub(crate) fn row(&self, producer: u64) -> Option<ProducerRow> {
        self.known.get(&producer).map(|known| known.row)
    }

    /// Notes that a batch was appended.
    pub(crate) fn appended(&mut self, stamp: ProducerStamp, appended: Appended) {
        let fresh = || Known { row: ProducerRow::default(), recent: VecDeque::new() };
        let known = self.known.entry(stamp.id).or_insert_with(fresh);
        if known.row.epoch != stamp.epoch {
            known.recent.clear();
        }
        known.row = ProducerRow {
            epoch: stamp.epoch,
            next: stamp.sequence.wrapping_add(appended.records),
            appended_ms: appended.timestamp,
        };
        if known.recent.len() >= PRODUCER_RECENT_MAX {
            known.recent.pop_front();
        }
        known.recent.push_back((stamp.sequence, appended));
    }

    /// Forgets those that have appended nothing since `before`; their ids.
    pub(crate) fn expire(&mut self, before: Timestamp) -> Vec<u64> {
        let old = |known: &Known| known.row.appended_ms < before;
        let expired = self.known.iter().filter(|(_, known)| old(known)).map(|(id, _)| *id).collect();
        self.known.retain(|_, known| !old(known));
        expired
    }

    /// Forgets the half that appended longest ago, where there are `max` and `producer` is one more; their ids.
    pub(crate) fn make_room_for(&mut self, producer: u64, max: usize) -> Vec<u64> {
        if self.known.len() < max || self.known.contains_key(&producer) {
            return Vec::new();
        }
        let mut all: Vec<_> = self.known.iter().map(|(id, known)| (known.row.appended_ms, *id)).collect();
        let (oldest, ..) = all.select_nth_unstable(max / 2);
        let oldest: Vec<_> = oldest.iter().map(|(_, id)| *id).collect();
        for id in &oldest {
            self.known.remove(id);
        }
        oldest
    }

    /// Their ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> {
        self.known.keys().copied()
    }

    #[cfg(test)]
    pub(crate) fn rows(&self) -> std::collections::BTreeMap<u64, ProducerRow> {
        self.known.iter().map(|(id, known)| (*id, known.row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(epoch: u32, sequence: u32) -> ProducerStamp {
        ProducerStamp { id: 7, epoch, sequence }
    }

    fn appended(base_offset: u64, records: u32) -> Appended {
        let unstored = millstream_types::UnstoredRecords::default();
        Appended { base_offset, records, timestamp: 100, offsets: [].into(), unstored }
    }

    #[test]
    fn each_batch_is_appended_once_and_in_order() {
        let mut producers = Producers::default();
        assert_eq!(
            producers.judge(stamp(0, 5)),
            Judgement::Gap { expected: 0 },
            "an unknown one begins with 0"
        );
        assert_eq!(producers.judge(stamp(0, 0)), Judgement::Append);
        producers.appended(stamp(0, 0), appended(40, 5));
        producers.appended(stamp(0, 5), appended(60, 2));
        assert_eq!(producers.judge(stamp(0, 7)), Judgement::Append);
        assert_eq!(producers.judge(stamp(0, 9)), Judgement::Gap { expected: 7 });
        assert_eq!(producers.judge(stamp(0, 5)), Judgement::Duplicate(Some(appended(60, 2))));
        assert_eq!(producers.judge(stamp(0, 0)), Judgement::Duplicate(Some(appended(40, 5))));
    }

    #[test]
    fn numbers_wrap() {
        let mut producers = Producers::default();
        let row = ProducerRow { epoch: 0, next: u32::MAX - 1, appended_ms: 1 };
        producers.recover(7, row);
        producers.appended(stamp(0, u32::MAX - 1), appended(0, 5));
        assert_eq!(producers.row(7).map(|row| row.next), Some(3));
        assert_eq!(producers.judge(stamp(0, 3)), Judgement::Append);
        assert_eq!(producers.judge(stamp(0, u32::MAX - 1)), Judgement::Duplicate(Some(appended(0, 5))));
        assert_eq!(producers.judge(stamp(0, u32::MAX - 9)), Judgement::Duplicate(None));
        assert_eq!(producers.judge(stamp(0, 4)), Judgement::Gap { expected: 3 });
    }

    #[test]
    fn a_newer_epoch_replaces_the_older() {
        let mut producers = Producers::default();
        producers.appended(stamp(1, 0), appended(0, 5));
        assert_eq!(producers.judge(stamp(2, 5)), Judgement::Gap { expected: 0 });
        assert_eq!(producers.judge(stamp(2, 0)), Judgement::Append);
        producers.appended(stamp(2, 0), appended(5, 5));
        assert_eq!(producers.judge(stamp(1, 5)), Judgement::Fenced { epoch: 2 });
        assert_eq!(producers.judge(stamp(2, 0)), Judgement::Duplicate(Some(appended(5, 5))));
    }

    #[test]
    fn memory_is_bounded() {
        let mut producers = Producers::default();
        for batch in 0..1_000 {
            producers.appended(stamp(0, batch), appended(u64::from(batch), 1));
        }
        assert_eq!(producers.judge(stamp(0, 0)), Judgement::Duplicate(None), "known, not where");
        for id in 100..200 {
            let at = Appended {
                base_offset: 0,
                records: 1,
                timestamp: i64::try_from(id).unwrap(),
                offsets: [].into(),
                unstored: millstream_types::UnstoredRecords::default(),
            };
            assert_eq!(producers.make_room_for(id, 1_000), [0; 0]);
            producers.appended(ProducerStamp { id, epoch: 0, sequence: 0 }, at);
        }
        assert_eq!(producers.make_room_for(150, 101), [0; 0], "it is known");
        assert_eq!(producers.make_room_for(1, 101).len(), 50);
        assert_eq!(producers.expire(199).len(), 50);
        assert_eq!(producers.ids().collect::<Vec<_>>(), [199]);
    }
}

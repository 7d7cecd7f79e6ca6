//! Message ids that a partition remembers, so that a record which comes again is not appended again.
//!
//! An id is remembered for the topic's window at least, and up to three of them: ids are kept in generations, each a
//! window long, and the third is dropped when a new one begins. So a clock that jumps forgets nothing early.
//!
//! There may be very many: one takes 25 bytes in a table that is between 7/16 and 7/8 full.

use std::collections::{HashMap, VecDeque};

use millstream_types::{BatchBuilder, BatchError, Offset, RecordBatch, Timestamp};
use twox_hash::XxHash3_128;

use crate::limits::GENERATION_IDS_MAX;

const GENERATIONS: usize = 3;

/// See the module's head.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageIds {
    window_ms: Timestamp,
    /// Oldest first.
    generations: VecDeque<Generation>,
}

#[derive(Debug, Clone, Default)]
struct Generation {
    since: Timestamp,
    offsets: HashMap<Id, Place>,
    batches: Batches,
}

/// The hash of an id: 128 bits, so that two ids share one by no chance that counts. In words, so that nothing is padded.
pub(crate) type Id = [u32; 4];

/// An offset, its lower half first.
type Place = [u32; 2];

pub(crate) fn hash(id: &[u8]) -> Id {
    let hash = XxHash3_128::oneshot(id);
    [hash as u32, (hash >> 32) as u32, (hash >> 64) as u32, (hash >> 96) as u32]
}

/// Base offsets of batches, ascending: how far each is from the one before, in as few bytes as hold it.
#[derive(Debug, Clone, Default)]
struct Batches {
    steps: Vec<u8>,
    last: Offset,
}

impl Batches {
    fn push(&mut self, base_offset: Offset) {
        let mut step = base_offset.saturating_sub(self.last);
        self.last = base_offset;
        // The upper bit says that more follows.
        while step >= 0x80 {
            self.steps.push(step as u8 | 0x80);
            step >>= 7;
        }
        self.steps.push(step as u8);
    }

    fn iter(&self) -> impl Iterator<Item = Offset> + '_ {
        let (mut steps, mut at) = (self.steps.iter(), 0);
        std::iter::from_fn(move || {
            let (mut step, mut bits) = (0, 0);
            loop {
                let byte = steps.next()?;
                step |= u64::from(byte & 0x7F) << bits;
                bits += 7;
                if byte & 0x80 == 0 {
                    at += step;
                    return Some(at);
                }
            }
        })
    }
}

/// What remains of a batch once records are taken out that were appended before.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// `None` where nothing remains.
    pub(crate) batch: Option<RecordBatch>,
    /// Of each record: where it was appended before, or which one of `batch` it is.
    places: Vec<Where>,
}

#[derive(Debug, Clone, Copy)]
enum Where {
    Before(Offset),
    Within(u64),
}

impl Fresh {
    /// Where each record stands, once `batch` is appended at `base`.
    pub(crate) fn offsets(&self, base: Offset) -> Vec<Offset> {
        let places = self.places.iter().map(|place| match place {
            Where::Before(offset) => *offset,
            Where::Within(index) => base + index,
        });
        places.collect()
    }
}

impl MessageIds {
    /// Remembers ids for `window_ms` at least; 0 for none.
    pub(crate) fn new(window_ms: u32) -> Self {
        Self { window_ms: window_ms.into(), generations: VecDeque::new() }
    }

    /// Whether ids of `batch` matter.
    pub(crate) fn concern(&self, batch: &RecordBatch) -> bool {
        self.window_ms > 0 && batch.view().is_identified()
    }

    /// [`fresh_of`](Self::fresh_of) for a batch as it was published.
    #[cfg(test)]
    pub(crate) fn fresh(&self, batch: &RecordBatch) -> Result<Option<Fresh>, BatchError> {
        self.fresh_of(batch, |_, _| false)
    }

    /// What of `batch` was not appended before; `None` for all of it. Some records may be made of one, `siblings` by their
    /// positions: such share its id, and are fresh together.
    ///
    /// # Errors
    /// When its payloads do not decompress.
    pub(crate) fn fresh_of(
        &self,
        batch: &RecordBatch,
        siblings: impl Fn(usize, usize) -> bool,
    ) -> Result<Option<Fresh>, BatchError> {
        let view = batch.view();
        let mut here: HashMap<Id, (u64, usize)> = HashMap::new();
        let (mut places, mut next) = (Vec::with_capacity(view.len()), 0);
        for (at, record) in view.records().enumerate() {
            let id = record.message_id.map(hash);
            let before = id.and_then(|id| self.find(id)).map(Where::Before);
            let first = id.and_then(|id| here.get(&id).copied()).filter(|(_, first)| !siblings(*first, at));
            let within = first.map(|(place, _)| Where::Within(place));
            places.push(before.or(within).unwrap_or_else(|| {
                if let Some(id) = id {
                    here.entry(id).or_insert((next, at));
                }
                next += 1;
                Where::Within(next - 1)
            }));
        }
        if next == view.len() as u64 {
            return Ok(None);
        }
        let plain = batch.decompressed()?;
        let mut builder =
            BatchBuilder::new().with_compression(view.compression()).with_producer(view.producer());
        let mut kept = 0;
        for (record, place) in plain.view().records().zip(&places) {
            if let Where::Within(index) = *place
                && index == kept
            {
                builder.push(&record)?;
                kept += 1;
            }
        }
        let batch = if builder.is_empty() { None } else { Some(builder.build()?) };
        Ok(Some(Fresh { batch, places }))
    }

    /// Notes that `batch` was appended at `base`. Base offsets of batches that are forgotten for it.
    pub(crate) fn appended(&mut self, batch: &RecordBatch, base: Offset, now: Timestamp) -> Vec<Offset> {
        let full = self.generations.back().is_none_or(|newest| {
            now - newest.since >= self.window_ms || newest.offsets.len() >= GENERATION_IDS_MAX
        });
        let mut forgotten = Vec::new();
        if full {
            self.generations.push_back(Generation { since: now, ..Generation::default() });
            while self.generations.len() > GENERATIONS {
                forgotten.extend(self.generations.pop_front().unwrap_or_default().batches.iter());
            }
        }
        if let Some(newest) = self.generations.back_mut() {
            newest.batches.push(base);
            let ids = batch
                .view()
                .records()
                .zip(base..)
                .filter_map(|(record, offset)| Some((record.message_id?, offset)));
            for (id, offset) in ids {
                // Of several that were made of one record, the first.
                newest.offsets.entry(hash(id)).or_insert([offset as u32, (offset >> 32) as u32]);
            }
        }
        forgotten
    }

    /// Base offsets of all batches whose ids are remembered.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Offset> + '_ {
        self.generations.iter().flat_map(|generation| generation.batches.iter())
    }

    /// Where the record with this id was appended, if it is remembered.
    pub(crate) fn find(&self, id: Id) -> Option<Offset> {
        let [low, high] = self.generations.iter().rev().find_map(|generation| generation.offsets.get(&id))?;
        Some(Offset::from(*low) | Offset::from(*high) << 32)
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::Record;

    use super::*;

    fn batch(ids: &[&str]) -> RecordBatch {
        let mut builder = BatchBuilder::new();
        for (n, id) in ids.iter().enumerate() {
            let message_id = (!id.is_empty()).then(|| id.to_string().into());
            builder.push(&Record { message_id, ..Record::new(n.to_string()) }).unwrap();
        }
        builder.build().unwrap()
    }

    fn payloads(batch: &RecordBatch) -> Vec<&[u8]> {
        batch.view().records().map(|record| record.payload.unwrap()).collect()
    }

    #[test]
    fn what_was_appended_before_is_taken_out_and_told_where_it_is() {
        let mut ids = MessageIds::new(1_000);
        let first = batch(&["a", "", "b"]);
        assert!(ids.concern(&first) && !ids.concern(&batch(&[""])));
        assert!(ids.fresh(&first).unwrap().is_none());
        ids.appended(&first, 100, 5);
        let second = batch(&["c", "b", "", "c", "a", "d"]);
        let fresh = ids.fresh(&second).unwrap().unwrap();
        assert_eq!(fresh.offsets(200), [200, 102, 201, 200, 100, 202]);
        let kept = fresh.batch.unwrap();
        assert_eq!(payloads(&kept), [b"0", b"2", b"5"]);
        assert!(kept.view().is_dense());
        let third = ids.fresh(&batch(&["b", "a"])).unwrap().unwrap();
        assert!(third.batch.is_none());
        assert_eq!(third.offsets(7), [102, 100]);
    }

    #[test]
    fn what_was_made_of_one_record_is_fresh_together_and_known_by_the_first() {
        let mut ids = MessageIds::new(1_000);
        let made = batch(&["a", "a", "b", "a"]);
        let sources = [0, 0, 1, 2];
        let fresh = ids.fresh_of(&made, |a, b| sources[a] == sources[b]).unwrap().unwrap();
        assert_eq!(fresh.offsets(100), [100, 101, 102, 100], "the last is another record with the same id");
        let kept = fresh.batch.unwrap();
        assert_eq!(payloads(&kept), [b"0", b"1", b"2"]);
        ids.appended(&kept, 100, 5);
        let again = ids.fresh_of(&batch(&["a", "a"]), |_, _| true).unwrap().unwrap();
        assert!(again.batch.is_none());
        assert_eq!(again.offsets(200), [100, 100]);
    }

    #[test]
    fn base_offsets_come_out_as_they_went_in() {
        let mut batches = Batches::default();
        let all = [0, 1, 128, 129, 1 << 20, (1 << 40) + 7, (1 << 40) + 8, u64::MAX];
        all.into_iter().for_each(|base| batches.push(base));
        assert_eq!(batches.iter().collect::<Vec<_>>(), all);
        let mut ids = MessageIds::new(1_000);
        ids.appended(&batch(&["a"]), (7 << 40) + 3, 5);
        assert_eq!(ids.fresh(&batch(&["a"])).unwrap().unwrap().offsets(0), [(7 << 40) + 3]);
    }

    #[test]
    fn ids_last_for_the_window_whatever_the_clock_does() {
        let known = |ids: &MessageIds, id| ids.fresh(&batch(&[id])).unwrap().is_some();
        let mut ids = MessageIds::new(1_000);
        assert_eq!(ids.appended(&batch(&["a"]), 0, 0), [0u64; 0]);
        assert_eq!(ids.appended(&batch(&["b"]), 1, 1_000), [0u64; 0]);
        // An hour forwards: nothing is forgotten.
        assert_eq!(ids.appended(&batch(&["c"]), 2, 3_600_000), [0u64; 0]);
        assert!(known(&ids, "a") && known(&ids, "b"));
        // And back.
        assert_eq!(ids.appended(&batch(&["d"]), 3, 1_500), [0u64; 0]);
        assert!(known(&ids, "a") && known(&ids, "b") && known(&ids, "d"));
        assert_eq!(ids.appended(&batch(&["e"]), 4, 3_601_000), [0]);
        assert!(!known(&ids, "a") && known(&ids, "b"));
        assert_eq!(ids.batches().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}

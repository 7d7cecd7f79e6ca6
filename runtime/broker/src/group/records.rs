//! The open records of a partition, by offset: an ordered map that is dense. There may be very many, and they come in
//! ascending order, of which a B-tree of the standard library makes nodes that are half empty.

use std::{collections::BTreeMap, ops::Range};

use millstream_types::Offset;

use super::part::Open;

/// Records that are kept together.
const CHUNK_MAX: usize = 64;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// By an offset that is not above the first of them, nor below any of the chunk before.
    chunks: BTreeMap<Offset, Vec<Record>>,
    len: usize,
}

/// 28 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
struct Record {
    offset: Offset,
    open: Open,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, offset: Offset) -> Option<&Open> {
        let (_, chunk) = self.chunks.range(..=offset).next_back()?;
        chunk.get(place(chunk, offset).ok()?).map(|record| &record.open)
    }

    pub(super) fn get_mut(&mut self, offset: Offset) -> Option<&mut Open> {
        let (_, chunk) = self.chunks.range_mut(..=offset).next_back()?;
        let index = place(chunk, offset).ok()?;
        chunk.get_mut(index).map(|record| &mut record.open)
    }

    pub(super) fn contains(&self, offset: Offset) -> bool {
        self.get(offset).is_some()
    }

    /// Puts a record in that is not there.
    pub(super) fn insert(&mut self, offset: Offset, open: Open) {
        let record = Record { offset, open };
        self.len += 1;
        let Some((_, chunk)) = self.chunks.range_mut(..=offset).next_back() else {
            self.chunks.insert(offset, vec![record]);
            return;
        };
        let index = place(chunk, offset).unwrap_or_else(|index| index);
        if chunk.len() < CHUNK_MAX {
            return chunk.insert(index, record);
        }
        // As they come in ascending order, chunks stay full.
        let mut behind = if index < CHUNK_MAX { chunk.split_off(CHUNK_MAX / 2) } else { Vec::new() };
        match index.checked_sub(CHUNK_MAX / 2) {
            Some(index) if index <= behind.len() => behind.insert(index, record),
            Some(_) => behind.push(record),
            None => chunk.insert(index, record),
        }
        if let Some(first) = behind.first() {
            self.chunks.insert(first.offset, behind);
        }
    }

    pub(super) fn remove(&mut self, offset: Offset) -> Option<Open> {
        let (&key, chunk) = self.chunks.range_mut(..=offset).next_back()?;
        let removed = chunk.remove(place(chunk, offset).ok()?);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(&key);
        } else if chunk.len() * 4 <= chunk.capacity() {
            chunk.shrink_to(chunk.len() * 2);
        }
        Some(removed.open)
    }

    /// The last offset below `offset`.
    pub(super) fn before(&self, offset: Offset) -> Option<Offset> {
        let mut chunks = self.chunks.range(..offset);
        // The last chunk may begin below and hold nothing below.
        std::iter::from_fn(|| chunks.next_back()).find_map(|(_, chunk)| {
            let index = place(chunk, offset).unwrap_or_else(|index| index).checked_sub(1)?;
            chunk.get(index).map(|record| record.offset)
        })
    }

    /// The first offset from `offset` on.
    pub(super) fn from(&self, offset: Offset) -> Option<Offset> {
        self.range(offset..Offset::MAX).next().map(|(offset, _)| offset)
    }

    /// Those of `range`, ascending.
    pub(super) fn range(&self, range: Range<Offset>) -> impl Iterator<Item = (Offset, &Open)> + '_ {
        let start = self.chunks.range(..=range.start).next_back().map_or(range.start, |(key, _)| *key);
        let chunks = self.chunks.range(start..range.end.max(start));
        chunks.flat_map(move |(_, chunk)| {
            let bound = |offset| place(chunk, offset).unwrap_or_else(|index| index);
            let records = chunk.get(bound(range.start)..bound(range.end)).unwrap_or_default();
            records.iter().map(|record| (record.offset, &record.open))
        })
    }

    /// All, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Offset, &Open)> + '_ {
        self.chunks.values().flatten().map(|record| (record.offset, &record.open))
    }
}

/// Where a record is in a chunk, or would be.
fn place(chunk: &[Record], offset: Offset) -> Result<usize, usize> {
    chunk.binary_search_by(|record| { record.offset }.cmp(&offset))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::group::part::State;

    #[derive(Debug, Clone)]
    enum Act {
        /// Behind all others.
        Push(Offset),
        Insert(Offset),
        Remove(Offset),
    }

    proptest! {
        /// Whatever is put in and taken out: it holds what a map of the standard library holds.
        #[test]
        fn it_is_an_ordered_map(
            acts in prop::collection::vec(
                prop_oneof![
                    6 => (1..4u64).prop_map(Act::Push),
                    1 => (0..2_000u64).prop_map(Act::Insert),
                    4 => (0..2_000u64).prop_map(Act::Remove),
                ],
                1..1_500,
            ),
            from in 0..2_000u64,
            len in 0..300u64,
        ) {
            let (mut records, mut model) = (Records::default(), BTreeMap::new());
            for act in acts {
                match act {
                    Act::Push(step) => {
                        let offset = model.last_key_value().map_or(0, |(last, _)| last + step);
                        records.insert(offset, Open::new(offset, 1, State::Held));
                        model.insert(offset, offset);
                    }
                    Act::Insert(offset) => {
                        prop_assert_eq!(records.contains(offset), model.contains_key(&offset));
                        if model.insert(offset, offset).is_none() {
                            records.insert(offset, Open::new(offset, 1, State::Held));
                        }
                    }
                    Act::Remove(offset) => {
                        prop_assert_eq!(records.remove(offset).map(|open| open.unit), model.remove(&offset));
                    }
                }
            }
            prop_assert_eq!((records.len(), records.is_empty()), (model.len(), model.is_empty()));
            let all: Vec<_> = records.iter().map(|(offset, open)| (offset, open.unit)).collect();
            prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
            let some: Vec<_> = records.range(from..from + len).map(|(offset, _)| offset).collect();
            prop_assert_eq!(some, model.range(from..from + len).map(|(offset, _)| *offset).collect::<Vec<_>>());
            prop_assert_eq!(records.before(from), model.range(..from).next_back().map(|(offset, _)| *offset));
            prop_assert_eq!(records.from(from), model.range(from..).next().map(|(offset, _)| *offset));
            prop_assert_eq!(records.get(from).map(|open| open.unit), model.get(&from).copied());
            prop_assert!(records.chunks.values().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
        }
    }
}

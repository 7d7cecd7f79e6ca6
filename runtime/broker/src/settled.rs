//! Which records of a partition a subscription is done with: everything below a cursor, and runs above it.

use std::{collections::BTreeMap, ops::Range};

use millstream_types::Offset;

/// See the module's head. The runs neither touch each other nor the cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    below: Offset,
    /// Start and end of each.
    runs: BTreeMap<Offset, Offset>,
}

/// How the runs changed: what the store is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunChange {
    Put { start: Offset, end: Offset },
    Remove { start: Offset },
}

impl Settled {
    /// Everything below `below`.
    pub(crate) fn below_only(below: Offset) -> Self {
        Self { below, runs: BTreeMap::new() }
    }

    /// The cursor: everything below it is settled, and it itself is not.
    pub(crate) fn below(&self) -> Offset {
        self.below
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<Offset>> + '_ {
        self.runs.iter().map(|(start, end)| *start..*end)
    }

    pub(crate) fn has_runs(&self) -> bool {
        !self.runs.is_empty()
    }

    pub(crate) fn contains(&self, offset: Offset) -> bool {
        offset < self.below || self.run_at(offset).is_some()
    }

    /// Settles `range`; tells `changed` what became of the runs.
    pub(crate) fn insert(&mut self, range: Range<Offset>, changed: &mut impl FnMut(RunChange)) {
        let (mut start, mut end) = (range.start.max(self.below), range.end);
        if start >= end {
            return;
        }
        if let Some(run) = self.run_at(start).or_else(|| self.run_ending_at(start)) {
            if run.end >= end {
                return;
            }
            start = run.start;
        }
        // Those that the new run covers or touches.
        while let Some((&run, &run_end)) = self.runs.range(start..=end).next() {
            self.runs.remove(&run);
            end = end.max(run_end);
            if run != start || start == self.below {
                changed(RunChange::Remove { start: run });
            }
        }
        if start == self.below {
            self.below = end;
        } else {
            self.runs.insert(start, end);
            changed(RunChange::Put { start, end });
        }
    }

    /// Makes `offset` unsettled again. False if it was not settled.
    pub(crate) fn reopen(&mut self, offset: Offset, changed: &mut impl FnMut(RunChange)) -> bool {
        let end = if offset < self.below {
            std::mem::replace(&mut self.below, offset)
        } else if let Some(run) = self.run_at(offset) {
            if run.start == offset {
                self.runs.remove(&offset);
                changed(RunChange::Remove { start: offset });
            } else {
                self.runs.insert(run.start, offset);
                changed(RunChange::Put { start: run.start, end: offset });
            }
            run.end
        } else {
            return false;
        };
        if offset + 1 < end {
            self.runs.insert(offset + 1, end);
            changed(RunChange::Put { start: offset + 1, end });
        }
        true
    }

    /// The unsettled parts of `range`, ascending.
    pub(crate) fn gaps(&self, range: Range<Offset>) -> Vec<Range<Offset>> {
        let mut gaps = Vec::new();
        let mut at = range.start.max(self.below);
        if let Some(run) = self.run_at(at) {
            at = run.end;
        }
        while at < range.end {
            let run = self.runs.range(at..range.end).next().map(|(start, end)| *start..*end);
            let end = run.as_ref().map_or(range.end, |run| run.start);
            if at < end {
                gaps.push(at..end);
            }
            at = run.map_or(range.end, |run| run.end);
        }
        gaps
    }

    fn run_at(&self, offset: Offset) -> Option<Range<Offset>> {
        let (start, end) = self.runs.range(..=offset).next_back()?;
        (*end > offset).then_some(*start..*end)
    }

    fn run_ending_at(&self, offset: Offset) -> Option<Range<Offset>> {
        let (start, end) = self.runs.range(..offset).next_back()?;
        (*end == offset).then_some(*start..*end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain set; and rows written as told give the same runs back.
        #[test]
        fn is_a_set_of_offsets(acts in prop::collection::vec((0..60u64, 0..12u64, prop::bool::weighted(0.2)), 1..120)) {
            let mut settled = Settled::default();
            let mut model = BTreeSet::new();
            let mut rows = BTreeMap::new();
            for (at, len, reopen) in acts {
                let mut changed = |change| match change {
                    RunChange::Put { start, end } => { rows.insert(start, end); }
                    RunChange::Remove { start } => { rows.remove(&start); }
                };
                if reopen {
                    prop_assert_eq!(settled.reopen(at, &mut changed), model.remove(&at));
                } else {
                    settled.insert(at..at + len, &mut changed);
                    model.extend(at..at + len);
                }
                let below = (0..).find(|offset| !model.contains(offset)).unwrap();
                prop_assert_eq!(settled.below(), below);
                prop_assert_eq!(&rows, &settled.runs);
                for (start, end) in &rows {
                    prop_assert!(*start > below && start < end);
                    prop_assert!(!model.contains(&(start - 1)) && !model.contains(end));
                }
                for offset in 0..80 {
                    prop_assert_eq!(settled.contains(offset), model.contains(&offset));
                }
                let gaps: BTreeSet<_> = settled.gaps(at..at + 20).into_iter().flatten().collect();
                let expected: BTreeSet<_> = (at..at + 20).filter(|offset| !model.contains(offset)).collect();
                prop_assert_eq!(gaps, expected);
            }
        }
    }
}

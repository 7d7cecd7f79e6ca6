//! Some of the records of a batch.

use std::ops::Range;

use millstream_types::BatchView;

/// Some of the records of a batch: ascending ranges of their indices, that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Picks {
    ranges: Vec<Range<usize>>,
    len: usize,
}

impl Picks {
    pub(crate) fn of(range: Range<usize>) -> Self {
        let mut picks = Self::default();
        picks.push(range);
        picks
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    pub(crate) fn first(&self) -> Option<usize> {
        self.ranges.first().map(|range| range.start)
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.ranges.iter().flat_map(Clone::clone)
    }

    /// Adds a range behind the others.
    #[inline]
    pub(crate) fn push(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.len += range.len();
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }

    /// Adds picks that come behind these.
    pub(crate) fn extend(&mut self, picks: &Self) {
        for range in &picks.ranges {
            self.push(range.clone());
        }
    }

    /// Those that `keep` wants.
    pub(crate) fn filtered(&self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut kept = Self::default();
        for index in self.indices().filter(|&index| keep(index)) {
            kept.push(index..index + 1);
        }
        kept
    }

    /// Those below index `end`.
    pub(crate) fn below(&self, end: usize) -> Self {
        let mut kept = Self::default();
        for range in &self.ranges {
            kept.push(range.start..range.end.min(end).max(range.start));
        }
        kept
    }

    /// Takes the first `count` off.
    pub(crate) fn take_first(&mut self, count: usize) -> Self {
        let mut taken = Self::default();
        let mut rest = Self::default();
        for range in self.ranges.drain(..) {
            let middle = range.start + range.len().min(count - taken.len);
            taken.push(range.start..middle);
            rest.push(middle..range.end);
        }
        *self = rest;
        taken
    }

    /// Takes off as many as fit `records_max` and, written as a batch, `bytes_max`; at least one.
    pub(crate) fn take_portion(
        &mut self,
        view: &BatchView<'_>,
        records_max: usize,
        bytes_max: usize,
        payloads: bool,
    ) -> Self {
        let header = view.slice_bytes(0..0, payloads);
        let (mut count, mut bytes) = (0, header);
        for range in &self.ranges {
            let most = range.len().min(records_max - count);
            let fits = |len: usize| {
                let slice = view.slice_bytes(range.start..range.start + len, payloads);
                bytes + slice.saturating_sub(header) <= bytes_max
            };
            let fitting = if fits(most) { most } else { partition_point(most, fits) };
            count += fitting;
            if fitting < range.len() {
                break;
            }
            bytes += view.slice_bytes(range.clone(), payloads).saturating_sub(header);
        }
        self.take_first(count.max(1))
    }
}

/// The largest length below `most` that fits, where 0 fits and what is longer than one that does not fit does not fit.
fn partition_point(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use millstream_types::{BatchBuilder, Record};

    use super::*;

    #[test]
    fn portions_fit_and_leave_nothing_out() {
        let mut builder = BatchBuilder::new();
        for index in 0..100 {
            builder.push(&Record::new(vec![0; index * 7 % 50])).expect("small");
        }
        let batch = builder.build().expect("not empty");
        let all = Picks::of(0..100).filtered(|index| index % 5 != 3);
        for (records_max, bytes_max) in [(1, 1_000), (7, 10_000), (1_000, 300), (1_000, 1), (33, 700)] {
            let mut rest = all.clone();
            let mut seen = Picks::default();
            while !rest.is_empty() {
                let portion = rest.take_portion(&batch.view(), records_max, bytes_max, true);
                let mut bytes = Vec::new();
                batch.view().write_ranges(portion.ranges(), true, &mut bytes).expect("in the batch");
                assert!(portion.len() <= records_max && !portion.is_empty());
                assert!(bytes.len() <= bytes_max || portion.len() == 1, "{} > {bytes_max}", bytes.len());
                seen.extend(&portion);
            }
            assert_eq!(seen, all);
        }
    }

    #[test]
    fn picks_are_cut_and_filtered() {
        let mut picks = Picks::of(2..5);
        picks.push(5..6);
        picks.push(8..10);
        assert_eq!((picks.len(), picks.ranges()), (6, [2..6, 8..10].as_slice()));
        assert_eq!(picks.below(9).indices().collect::<Vec<_>>(), [2, 3, 4, 5, 8]);
        assert_eq!(picks.below(1), Picks::default());
        let first = picks.take_first(5);
        assert_eq!(first.ranges(), [2..6, 8..9]);
        assert_eq!(picks, Picks::of(9..10));
    }
}

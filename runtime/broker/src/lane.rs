//! One partition of a reading: which spans of it are being fetched, and in which order what they bring is handed out.
//!
//! A lane is fetched span after span. Where modules leave little of what they judge, judging is what takes the time:
//! then the span behind one that is being fetched is begun as well, and what it brings waits for its turn.
//!
//! A span is judged by the revision of modules that it was begun with, to its end: so each record is judged by one, and
//! others take over at a span's end. Only where those fail for good, the rest of the span is the next one's.

use std::collections::VecDeque;

use millstream_types::Offset;

use crate::{
    Error,
    fetch::Fetched,
    limits::{FIRST_JUDGED_BYTES, SPAN_BYTES, SPANS_MAX},
};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Where the first span starts that is not begun.
    next: Offset,
    /// Those begun, in order.
    spans: VecDeque<Span>,
    /// How many offsets a span may have so that others can be begun behind it; `None` where only one is fetched.
    stride: Option<Offset>,
    begun: u64,
    /// Whether nothing is to be fetched now.
    held: bool,
    /// Whether nothing ever is again.
    ended: bool,
}

#[derive(Debug)]
struct Span {
    number: u64,
    /// Of the modules; `None` once it was given up by those that had begun it.
    revision: Option<u64>,
    /// Where its next fetch starts.
    from: Offset,
    end: Offset,
    running: bool,
    /// What it brought, until what is before it is handed out.
    brought: Vec<Fetched>,
    failure: Option<Error>,
}

/// A fetch to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// Of the span, for [`Lane::take`].
    pub(crate) number: u64,
    /// Of the modules that judge it.
    pub(crate) revision: u64,
    pub(crate) from: Offset,
    pub(crate) end: Offset,
    /// About how many bytes modules may judge in it.
    pub(crate) judged_bytes: usize,
}

/// What can be handed out.
#[derive(Debug, Default)]
pub(crate) struct Released {
    pub(crate) fetched: Vec<Fetched>,
    /// Why the lane ends behind that.
    pub(crate) failure: Option<Error>,
}

impl Lane {
    pub(crate) fn at(next: Offset) -> Self {
        Self { next, spans: VecDeque::new(), stride: None, begun: 0, held: false, ended: false }
    }

    /// Gives up what is being fetched; nothing more is, until the lane may go on: at `next`.
    pub(crate) fn hold(&mut self, next: Offset) {
        self.spans.clear();
        (self.next, self.held) = (next, true);
    }

    pub(crate) fn let_go(&mut self) {
        self.held = false;
    }

    /// Whether there is something that is not begun below `end`.
    pub(crate) fn is_behind(&self, end: Offset) -> bool {
        self.next < end
    }

    /// Whether something was begun and not handed out.
    pub(crate) fn is_begun(&self) -> bool {
        !self.spans.is_empty()
    }

    /// What is fetched from is gone: nothing more is. False if that is known.
    pub(crate) fn end(&mut self) -> bool {
        self.spans.clear();
        !std::mem::replace(&mut self.ended, true)
    }

    /// The oldest revision that something is begun with.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.spans.iter().filter_map(|span| span.revision).min()
    }

    /// The fetch that the lane needs: none while one is running whose records come first. What is begun is of `revision`.
    pub(crate) fn first(&mut self, end: Offset, revision: u64) -> Option<Fetch> {
        if self.held {
            return None;
        }
        match self.spans.front_mut() {
            Some(front) if front.running => None,
            Some(front) => {
                front.running = true;
                Some(front.fetch(self.stride, revision))
            }
            None => self.begin(end, revision),
        }
    }

    /// A fetch of what comes behind those that are running, where that is worth it.
    pub(crate) fn further(&mut self, end: Offset, revision: u64) -> Option<Fetch> {
        let last = self.spans.back()?;
        let room = self.spans.len() < SPANS_MAX;
        (self.stride.is_some() && last.running && room).then(|| self.begin(end, revision)).flatten()
    }

    /// Other modules were bound: what those before failed on is theirs.
    pub(crate) fn forget_failure(&mut self) {
        if let Some(front) = self.spans.front_mut().filter(|front| !front.running) {
            front.revision = None;
        }
    }

    /// Takes what a fetch brought, or why it failed: which is of no concern where modules failed that are not those of
    /// `revision`.
    pub(crate) fn take(&mut self, number: u64, result: Result<Fetched, Error>, revision: u64) -> Released {
        let Some(span) = self.spans.iter_mut().find(|span| span.number == number) else {
            return Released::default();
        };
        span.running = false;
        match result {
            Ok(mut fetched) => {
                self.stride = stride(&fetched, fetched.next - span.from);
                span.from = fetched.next;
                if fetched.given_up {
                    span.revision = None;
                }
                span.failure = fetched.failure.take();
                span.brought.push(fetched);
            }
            Err(error) => span.failure = Some(error),
        }
        self.release(revision)
    }

    fn begin(&mut self, end: Offset, revision: u64) -> Option<Fetch> {
        if self.next >= end {
            return None;
        }
        let (from, number) = (self.next, self.begun);
        let end = self.stride.map_or(end, |stride| end.min(from.saturating_add(stride)));
        let mut span = Span {
            number,
            revision: Some(revision),
            from,
            end,
            running: true,
            brought: Vec::new(),
            failure: None,
        };
        let fetch = span.fetch(self.stride, revision);
        self.spans.push_back(span);
        (self.next, self.begun) = (end, number + 1);
        Some(fetch)
    }

    fn release(&mut self, revision: u64) -> Released {
        let mut released = Released::default();
        loop {
            let alone = self.spans.len() == 1;
            let Some(front) = self.spans.front_mut() else { break };
            released.fetched.append(&mut front.brought);
            released.failure = front.failure.take();
            if matches!(released.failure, Some(Error::ModuleFault(_))) && front.revision != Some(revision) {
                (released.failure, front.revision) = (None, None);
            }
            if front.running || released.failure.is_some() {
                break;
            }
            if front.from < front.end {
                if !alone {
                    break;
                }
                // Nothing is behind it: the rest need not be a span of its own.
                self.next = front.from;
            }
            self.spans.pop_front();
        }
        released
    }
}

impl Span {
    fn fetch(&mut self, stride: Option<Offset>, revision: u64) -> Fetch {
        let revision = *self.revision.get_or_insert(revision);
        // Where the bound is the span's end, its bytes are an estimate; else a short fetch tells soon what is left.
        let judged_bytes = if stride.is_some() { 2 * SPAN_BYTES } else { FIRST_JUDGED_BYTES };
        Fetch { number: self.number, revision, from: self.from, end: self.end, judged_bytes }
    }
}

/// A fetch that handed out less than a quarter of what it judged was slowed by judging, not by its reader.
fn stride(fetched: &Fetched, offsets: Offset) -> Option<Offset> {
    let counted = &fetched.counted;
    let judged = counted.module_calls > 0 && counted.bytes_out.saturating_mul(4) < counted.bytes_in;
    judged
        .then(|| (SPAN_BYTES as u64).saturating_mul(offsets) / counted.bytes_in.max(1))
        .filter(|stride| *stride > 0)
}

#[cfg(test)]
mod tests {
    use millstream_types::Counters;
    use proptest::prelude::*;

    use super::*;

    fn fetched(next: Offset, bytes_in: u64, bytes_out: u64) -> Fetched {
        let counted = Counters { bytes_in, bytes_out, module_calls: 1, ..Counters::default() };
        Fetched { next, counted, ..Fetched::default() }
    }

    fn positions(released: &Released) -> Vec<Offset> {
        released.fetched.iter().map(|fetched| fetched.next).collect()
    }

    #[test]
    fn a_reader_that_gets_everything_fetches_one_span_at_a_time() {
        let mut lane = Lane::at(5);
        let first = lane.first(100, 1).unwrap();
        assert_eq!((first.from, first.end), (5, 100));
        assert_eq!((lane.first(200, 1), lane.further(200, 1)), (None, None));
        let released = lane.take(first.number, Ok(fetched(60, 1_000, 900)), 1);
        assert_eq!(positions(&released), [60]);
        let second = lane.first(200, 1).unwrap();
        assert_eq!((second.from, second.end, lane.further(200, 1)), (60, 200, None));
    }

    #[test]
    fn what_is_fetched_early_waits_for_what_comes_first() {
        let mut lane = Lane::at(0);
        let first = lane.first(1 << 40, 1).unwrap();
        lane.take(first.number, Ok(fetched(1_000, SPAN_BYTES as u64, 0)), 1);
        let (second, third) = (lane.first(1 << 40, 1).unwrap(), lane.further(1 << 40, 1).unwrap());
        assert_eq!((second.from, second.end, third.from, third.end), (1_000, 2_000, 2_000, 3_000));
        assert_eq!(positions(&lane.take(third.number, Ok(fetched(3_000, 10, 0)), 1)), [0; 0]);
        // The second stops early; its rest comes before the third's.
        assert_eq!(positions(&lane.take(second.number, Ok(fetched(1_500, 10, 0)), 1)), [1_500]);
        let rest = lane.first(1 << 40, 1).unwrap();
        assert_eq!((rest.from, rest.end), (1_500, 2_000));
        assert_eq!(positions(&lane.take(rest.number, Ok(fetched(2_000, 10, 0)), 1)), [2_000, 3_000]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut lane = Lane::at(0);
        let first = lane.first(1 << 40, 1).unwrap();
        lane.take(first.number, Ok(fetched(1_000, SPAN_BYTES as u64, 0)), 1);
        // The first of them takes for ever, say since its module asks to be tried again later.
        let slow = lane.first(1 << 40, 1).unwrap();
        let behind: Vec<_> = std::iter::from_fn(|| lane.further(1 << 40, 1)).take(100).collect();
        assert_eq!(behind.len(), SPANS_MAX - 1);
        for fetch in behind.iter().rev() {
            assert!(lane.take(fetch.number, Ok(fetched(fetch.end, 10, 0)), 1).fetched.is_empty());
            assert_eq!(lane.further(1 << 40, 1), None);
        }
        assert_eq!(lane.take(slow.number, Ok(fetched(slow.end, 10, 0)), 1).fetched.len(), SPANS_MAX);
    }

    #[test]
    fn a_failure_comes_behind_what_precedes_it() {
        let mut lane = Lane::at(0);
        let first = lane.first(10_000, 1).unwrap();
        lane.take(first.number, Ok(fetched(100, SPAN_BYTES as u64, 0)), 1);
        let (second, third) = (lane.first(10_000, 1).unwrap(), lane.further(10_000, 1).unwrap());
        assert!(lane.take(third.number, Err(Error::Gone), 1).failure.is_none());
        let released = lane.take(second.number, Ok(fetched(200, 10, 0)), 1);
        assert_eq!((positions(&released), released.failure.is_some()), (vec![200], true));
    }

    #[test]
    fn what_modules_failed_on_that_are_not_bound_any_more_is_for_those_that_are() {
        let mut lane = Lane::at(0);
        let fault = || Error::ModuleFault("it traps".into());
        let failing = |next| Fetched { failure: Some(fault()), ..fetched(next, 10, 0) };
        let first = lane.first(100, 1).unwrap();
        // Known only once others were bound.
        let released = lane.take(first.number, Ok(failing(40)), 2);
        assert_eq!((positions(&released), released.failure.is_none()), (vec![40], true));
        let second = lane.first(100, 2).unwrap();
        assert_eq!((second.from, second.revision), (40, 2));
        // Handed out, and not yet told when others were bound.
        assert!(lane.take(second.number, Ok(failing(60)), 2).failure.is_some());
        lane.forget_failure();
        let third = lane.first(100, 3).unwrap();
        assert_eq!((third.from, third.revision), (60, 3));
    }

    proptest! {
        /// Whatever fetches bring, in whichever order, and whenever other modules take over: all is handed out once and in
        /// order, judged by ever newer modules, but for the rest of what older ones gave up.
        #[test]
        fn everything_comes_once_and_in_order(
            choices in prop::collection::vec(
                (any::<prop::sample::Index>(), 1..200u64, any::<bool>(), 0..20u8), 1..200
            )
        ) {
            let mut lane = Lane::at(0);
            let (end, mut position, mut revision, mut given_up) = (3_000, 0, 1, false);
            let (mut running, mut judged) = (Vec::new(), std::collections::BTreeMap::new());
            for (which, offsets, selective, chance) in choices {
                revision += u64::from(chance == 0);
                running.extend(lane.first(end, revision));
                while running.len() < 3 && let Some(fetch) = lane.further(end, revision) {
                    running.push(fetch);
                }
                if running.is_empty() {
                    prop_assert_eq!(position, end);
                    break;
                }
                let fetch: Fetch = running.swap_remove(which.index(running.len()));
                prop_assert!(fetch.from < fetch.end && fetch.end <= end && fetch.revision <= revision);
                prop_assert!(lane.revision().is_some_and(|oldest| oldest <= fetch.revision));
                let gives_up = chance == 1 && fetch.revision < revision;
                given_up |= gives_up;
                let next = if gives_up { fetch.from } else { fetch.end.min(fetch.from + offsets) };
                for offset in fetch.from..next {
                    prop_assert_eq!(judged.insert(offset, fetch.revision), None);
                }
                let (bytes_in, bytes_out) = if selective { (SPAN_BYTES as u64, 0) } else { (10, 10) };
                let brought = Fetched { given_up: gives_up, ..fetched(next, bytes_in, bytes_out) };
                for fetched in lane.take(fetch.number, Ok(brought), revision).fetched {
                    prop_assert!(fetched.next > position || (fetched.given_up && fetched.next == position));
                    position = fetched.next;
                }
            }
            prop_assert!(given_up || judged.values().is_sorted());
        }
    }
}

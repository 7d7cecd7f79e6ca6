//! What keeps modules that fail on everything from being run for nothing: after too many faults in a row they are let
//! alone for a while, then one record is tried, and so on until one succeeds. Knows no clock.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::limits::{BREAKER_FAULTS, BREAKER_WAIT};

/// See the module's head. Shared by all who run the modules of one subscription, or on the ingest of one topic.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whose faults are counted: what others did is of no concern.
    revision: u64,
    faults_in_row: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// Nothing is tried before.
    until: Instant,
    wait: Duration,
    fault: String,
}

/// Whether the modules may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As usual.
    Go,
    /// On one record.
    Probe,
    /// Not before so long.
    Wait(Duration),
}

/// What changed by what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing that others must know.
    None,
    /// The modules are let alone from now on.
    Opened,
    /// They were let alone before, and are for longer.
    StillOpen,
    /// They judge again.
    Closed,
}

impl Breaker {
    pub(crate) fn new(revision: u64) -> Self {
        Self(Mutex::new(State { revision, ..State::default() }))
    }

    /// Those of `revision` run from now on, and nothing is held against them.
    pub(crate) fn start(&self, revision: u64) {
        *self.lock() = State { revision, ..State::default() };
    }

    /// Whether those of `revision` may run at `now`. Who is to try one record and never tells how that went is followed by
    /// another.
    pub(crate) fn admit(&self, revision: u64, now: Instant) -> Admission {
        let mut state = self.lock();
        if state.revision != revision {
            return Admission::Go;
        }
        match &mut state.open {
            None => Admission::Go,
            Some(open) if now < open.until => Admission::Wait(open.until - now),
            Some(open) => {
                open.until = now + open.wait;
                Admission::Probe
            }
        }
    }

    /// How long those of `revision` are let alone yet, at `now`; `None` where they are not.
    pub(crate) fn wait(&self, revision: u64, now: Instant) -> Option<Duration> {
        let state = self.lock();
        let open = state.open.as_ref().filter(|_| state.revision == revision);
        open.map(|open| open.until.saturating_duration_since(now))
    }

    /// Who was to try one record could not: the next may, at `now`.
    pub(crate) fn release(&self, revision: u64, now: Instant) {
        let mut state = self.lock();
        if state.revision == revision
            && let Some(open) = &mut state.open
        {
            open.until = now;
        }
    }

    /// A record at least was judged.
    pub(crate) fn succeeded(&self, revision: u64) -> News {
        let mut state = self.lock();
        if state.revision != revision {
            return News::None;
        }
        state.faults_in_row = 0;
        if state.open.take().is_some() { News::Closed } else { News::None }
    }

    /// The modules failed on so many records and judged none, or on the one that was a `probe`; `fault` is what will be told of
    /// the last.
    pub(crate) fn failed(
        &self,
        revision: u64,
        faults: u32,
        probe: bool,
        now: Instant,
        fault: impl FnOnce() -> String,
    ) -> News {
        let mut state = self.lock();
        if state.revision != revision {
            return News::None;
        }
        state.faults_in_row = state.faults_in_row.saturating_add(faults);
        match state.faults_in_row < BREAKER_FAULTS && state.open.is_none() {
            true => News::None,
            false => state.trip(probe, now, fault()),
        }
    }

    /// The modules cannot go on at all.
    pub(crate) fn trip(&self, revision: u64, probe: bool, now: Instant, fault: String) -> News {
        let mut state = self.lock();
        if state.revision == revision { state.trip(probe, now, fault) } else { News::None }
    }

    /// Why the modules are let alone, if they are.
    pub(crate) fn fault(&self) -> Option<String> {
        self.lock().open.as_ref().map(|open| open.fault.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn trip(&mut self, probe: bool, now: Instant, fault: String) -> News {
        let (first, longest) = BREAKER_WAIT;
        let (wait, news) = match &self.open {
            // Others that ran at the same time came to the same.
            Some(_) if !probe => return News::StillOpen,
            Some(open) => ((open.wait * 2).min(longest), News::StillOpen),
            None => (first, News::Opened),
        };
        self.open = Some(Open { until: now + wait, wait, fault });
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(breaker: &Breaker, faults: u32, now: Instant) -> News {
        breaker.failed(0, faults, false, now, || "it traps".into())
    }

    #[test]
    fn one_record_is_tried_now_and_then_until_one_succeeds() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.admit(0, start), Admission::Go);
        assert_eq!((fail(&breaker, 9, start), breaker.fault()), (News::None, None));
        assert_eq!((fail(&breaker, 1, start), breaker.fault()), (News::Opened, Some("it traps".into())));
        assert_eq!(breaker.admit(0, start + SECOND / 4), Admission::Wait(SECOND * 3 / 4));
        let wait = |at| breaker.wait(0, start + at);
        assert_eq!([wait(SECOND / 4), wait(SECOND * 2)], [Some(SECOND * 3 / 4), Some(Duration::ZERO)]);
        assert_eq!(breaker.admit(0, start + SECOND), Admission::Probe);
        // Others wait for what comes of it.
        assert_eq!(breaker.admit(0, start + SECOND * 5 / 4), Admission::Wait(SECOND * 3 / 4));
        assert_eq!(breaker.failed(0, 1, true, start + SECOND * 3 / 2, || "it traps".into()), News::StillOpen);
        // Those that ran at the same time say nothing new.
        assert_eq!(fail(&breaker, 3, start + SECOND * 2), News::StillOpen);
        assert_eq!(breaker.admit(0, start + SECOND * 3), Admission::Wait(SECOND / 2));
        assert_eq!(breaker.admit(0, start + SECOND * 4), Admission::Probe);
        assert_eq!((breaker.succeeded(0), breaker.fault()), (News::Closed, None));
        assert_eq!((breaker.admit(0, start), breaker.succeeded(0)), (Admission::Go, News::None));
        assert_eq!(fail(&breaker, 9, start), News::None, "what was before is forgotten");
    }

    #[test]
    fn successes_in_between_keep_it_closed() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!((fail(&breaker, 9, now), breaker.succeeded(0)), (News::None, News::None));
        }
    }

    #[test]
    fn who_tries_and_is_gone_is_followed_by_another() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        breaker.trip(0, false, start, String::new());
        assert_eq!(breaker.admit(0, start + SECOND), Admission::Probe);
        assert_eq!(breaker.admit(0, start + SECOND * 2), Admission::Probe);
        // Who could not try at all does not make others wait.
        breaker.release(0, start + SECOND * 2);
        assert_eq!(breaker.admit(0, start + SECOND * 2), Admission::Probe);
    }

    #[test]
    fn what_those_before_do_is_not_held_against_others() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, 9, now);
        breaker.start(1);
        assert_eq!(breaker.failed(1, 9, false, now, String::new), News::None);
        assert_eq!(
            (fail(&breaker, 10, now), breaker.trip(0, false, now, String::new())),
            (News::None, News::None)
        );
        assert_eq!(breaker.admit(1, now), Admission::Go);
        assert_eq!(breaker.failed(1, 1, false, now, String::new), News::Opened);
        assert_eq!((breaker.succeeded(0), breaker.admit(0, now)), (News::None, Admission::Go));
        assert_eq!(breaker.admit(1, now), Admission::Wait(SECOND));
    }

    #[test]
    fn the_wait_is_bounded() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..20 {
            breaker.trip(0, true, now, String::new());
            now += BREAKER_WAIT.1;
            assert_eq!(breaker.admit(0, now), Admission::Probe);
        }
    }
}

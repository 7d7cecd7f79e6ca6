//! What keeps modules that fail on everything from being run for nothing: after too many failures they are let alone
//! for a while, then one record is tried, and so on until one succeeds. Knows no clock.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::limits::BREAKER_WAIT;

/// See the module's head. Shared by all who run the modules of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<Option<Open>>);

#[derive(Debug, Clone, Copy)]
struct Open {
    /// Nothing is tried before.
    until: Instant,
    wait: Duration,
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

impl Breaker {
    /// Whether the modules may run at `now`. Who is to try one record and never tells how that went is followed by another.
    pub(crate) fn admit(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match &mut *state {
            None => Admission::Go,
            Some(open) if now < open.until => Admission::Wait(open.until - now),
            Some(open) => {
                open.until = now + open.wait;
                Admission::Probe
            }
        }
    }

    /// The modules failed too often, or on the record that was tried; how long they are let alone. Whether this is news is
    /// told as well.
    pub(crate) fn trip(&self, now: Instant) -> (Duration, bool) {
        let (first, longest) = BREAKER_WAIT;
        let mut state = self.lock();
        let was_open = state.is_some();
        let wait = state.map_or(first, |open| (open.wait * 2).min(longest));
        *state = Some(Open { until: now + wait, wait });
        (wait, !was_open)
    }

    /// A record was judged, or the modules are others now; whether they had failed before.
    pub(crate) fn close(&self) -> bool {
        self.lock().take().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_record_is_tried_now_and_then_until_one_succeeds() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.admit(start), Admission::Go);
        assert_eq!(breaker.trip(start), (SECOND, true));
        assert_eq!(breaker.admit(start + SECOND / 4), Admission::Wait(SECOND * 3 / 4));
        assert_eq!(breaker.admit(start + SECOND), Admission::Probe);
        // Others wait for what comes of it.
        assert_eq!(breaker.admit(start + SECOND), Admission::Wait(SECOND));
        assert_eq!(breaker.trip(start + SECOND), (SECOND * 2, false));
        assert_eq!(breaker.admit(start + SECOND * 2), Admission::Wait(SECOND));
        assert_eq!(breaker.admit(start + SECOND * 3), Admission::Probe);
        assert!(breaker.close());
        assert_eq!((breaker.admit(start), breaker.close()), (Admission::Go, false));
        assert_eq!(breaker.trip(start), (SECOND, true), "what was before is forgotten");
    }

    #[test]
    fn who_tries_and_is_gone_is_followed_by_another() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        breaker.trip(start);
        assert_eq!(breaker.admit(start + SECOND), Admission::Probe);
        assert_eq!(breaker.admit(start + SECOND * 2), Admission::Probe);
    }

    #[test]
    fn the_wait_is_bounded() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        let longest = (0..20).map(|_| breaker.trip(start).0).max();
        assert_eq!(longest, Some(BREAKER_WAIT.1));
    }
}

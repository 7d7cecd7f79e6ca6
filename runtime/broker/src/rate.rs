//! Publish rates: token buckets, and who waits for them, first come, first served.

use std::{
    ops::AddAssign,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream_types::PublishRate;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::limits::RATE_BURST;

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
}

impl AddAssign for Weight {
    fn add_assign(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.records += more.records;
    }
}

/// A token bucket, told by the time until which what passed is paid for: it is open until that is [`RATE_BURST`] ahead. So
/// whatever finds it open passes, however large, and who comes later waits for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bucket {
    paid_until: Duration,
}

impl Bucket {
    /// When it is open.
    fn opens(&self) -> Duration {
        self.paid_until.saturating_sub(RATE_BURST)
    }

    fn take(&mut self, count: u64, per_s: u64, now: Duration) {
        self.paid_until = self.paid_until.max(now).saturating_add(cost(count, per_s));
    }

    /// What was taken did not happen.
    fn give_back(&mut self, count: u64, per_s: u64) {
        self.paid_until = self.paid_until.saturating_sub(cost(count, per_s));
    }
}

fn cost(count: u64, per_s: u64) -> Duration {
    let nanos = u128::from(count) * 1_000_000_000 / u128::from(per_s.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Which of two rates holds something back, what it is, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Bytes { per_s: u64, until: Duration },
    Records { per_s: u64, until: Duration },
}

impl Held {
    fn until(&self) -> Duration {
        match self {
            Self::Bytes { until, .. } | Self::Records { until, .. } => *until,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    limit: PublishRate,
    bytes: Bucket,
    records: Bucket,
}

impl State {
    /// What is not open at `now`: of the two, what opens last.
    fn held(&self, now: Duration) -> Option<Held> {
        let bytes = self.limit.bytes_per_s.map(|per_s| (per_s.get(), self.bytes.opens()));
        let records = self.limit.records_per_s.map(|per_s| (per_s.get(), self.records.opens()));
        let bytes = bytes.map(|(per_s, until)| Held::Bytes { per_s, until });
        let records = records.map(|(per_s, until)| Held::Records { per_s, until });
        bytes.into_iter().chain(records).filter(|held| held.until() > now).max_by_key(Held::until)
    }

    fn take(&mut self, weight: Weight, now: Duration) -> Result<(), Held> {
        if let Some(held) = self.held(now) {
            return Err(held);
        }
        if let Some(per_s) = self.limit.bytes_per_s {
            self.bytes.take(weight.bytes, per_s.get(), now);
        }
        if let Some(per_s) = self.limit.records_per_s {
            self.records.take(weight.records, per_s.get(), now);
        }
        Ok(())
    }

    fn give_back(&mut self, weight: Weight) {
        if let Some(per_s) = self.limit.bytes_per_s {
            self.bytes.give_back(weight.bytes, per_s.get());
        }
        if let Some(per_s) = self.limit.records_per_s {
            self.records.give_back(weight.records, per_s.get());
        }
    }
}

/// A publish rate, and who waits for it.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Whether there is one: without it nothing else is looked at.
    limited: AtomicBool,
    state: Mutex<State>,
    /// Who waits longest has it.
    turn: tokio::sync::Mutex<()>,
    /// Wakes that one when the limit changes.
    changed: Notify,
    started: Instant,
}

impl Rate {
    pub(crate) fn new(limit: PublishRate) -> Self {
        let state = State { limit, ..State::default() };
        Self {
            limited: AtomicBool::new(!limit.is_unlimited()),
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            started: Instant::now(),
        }
    }

    /// From now on it is this one. Who waits goes by it at once, and what passed before costs nothing any more.
    pub(crate) fn set(&self, limit: PublishRate) {
        let mut state = self.lock();
        if state.limit != limit {
            *state = State { limit, ..State::default() };
            self.limited.store(!limit.is_unlimited(), Ordering::Release);
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Acquire)
    }

    /// Lets `weight` pass if it need not wait.
    pub(crate) fn try_pass(&self, weight: Weight) -> Option<Passed<'_>> {
        let _turn = self.turn.try_lock().ok()?;
        self.lock().take(weight, self.started.elapsed()).ok()?;
        Some(Passed { rate: self, weight })
    }

    /// Lets `weight` pass behind those that wait already. Cancel-safe.
    pub(crate) async fn pass(&self, weight: Weight) -> Passed<'_> {
        let _turn = self.turn.lock().await;
        loop {
            let changed = self.changed.notified();
            let taken = self.lock().take(weight, self.started.elapsed());
            match taken {
                Ok(()) => return Passed { rate: self, weight },
                Err(held) => tokio::select! {
                    () = sleep_until(self.started + held.until()) => {}
                    () = changed => {}
                },
            }
        }
    }

    /// Which rate holds back what waits now, and for how long.
    pub(crate) fn held(&self) -> Option<(Held, Duration)> {
        let now = self.started.elapsed();
        let held = self.lock().held(now)?;
        Some((held, held.until().saturating_sub(now)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What passed. Dropped, it did not happen.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    rate: &'a Rate,
    weight: Weight,
}

impl Passed<'_> {
    /// It happened.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        self.rate.lock().give_back(self.weight);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn limit(bytes: u64, records: u64) -> PublishRate {
        PublishRate { bytes_per_s: NonZeroU64::new(bytes), records_per_s: NonZeroU64::new(records) }
    }

    fn of(bytes: u64, records: u64) -> Weight {
        Weight { bytes, records }
    }

    proptest! {
        /// Whatever comes, and whenever: no more passes than the rate, a burst and one batch allow; and everything does in
        /// its time, however large.
        #[test]
        fn the_rate_is_kept_and_nobody_waits_for_ever(
            per_s in 1..1_000_000_u64,
            batches in prop::collection::vec((1..2_000_000_u64, 0..3_000_u64), 1..60),
        ) {
            let mut state = State { limit: limit(per_s, 0), ..State::default() };
            let (mut now, mut passed, mut last) = (Duration::ZERO, 0, 0);
            for (bytes, pause_ms) in batches {
                now += Duration::from_millis(pause_ms);
                if let Err(held) = state.take(of(bytes, 1), now) {
                    prop_assert!(held.until() > now);
                    prop_assert!(held.until() <= now + cost(last, per_s), "at most what the last one costs");
                    now = held.until();
                    prop_assert_eq!(state.take(of(bytes, 1), now), Ok(()));
                }
                let allowed = (now + RATE_BURST).as_secs_f64() * per_s as f64;
                prop_assert!(passed as f64 <= allowed + 1.0 + passed as f64 * 1e-9, "{} before at {:?}", passed, now);
                passed += bytes;
                last = bytes;
            }
        }

        #[test]
        fn what_is_given_back_delays_nobody(bytes in 1..10_000_000_u64, records in 1..100_000_u64) {
            let mut state = State { limit: limit(1_024, 10), ..State::default() };
            let now = Duration::from_secs(7);
            state.take(of(bytes, records), now).unwrap();
            state.give_back(of(bytes, records));
            prop_assert_eq!(state.held(now), None);
        }
    }

    #[test]
    fn of_two_rates_the_slower_holds() {
        let mut state = State { limit: limit(1_000, 10), ..State::default() };
        state.take(of(1_000, 100), Duration::ZERO).unwrap();
        let held = state.take(of(1, 1), Duration::from_secs(1)).unwrap_err();
        assert_eq!(held, Held::Records { per_s: 10, until: Duration::from_secs(10) - RATE_BURST });
        assert_eq!(state.take(of(1, 1), held.until()), Ok(()));
    }

    #[tokio::test]
    async fn first_come_first_served_and_a_new_limit_holds_at_once() {
        let rate = Rate::new(limit(0, 1));
        rate.try_pass(of(0, 1_000_000)).unwrap().keep();
        assert!(rate.try_pass(of(0, 1)).is_none());
        let waiting = async {
            let mut order = Vec::new();
            let (first, second) = (rate.pass(of(0, 1)), rate.pass(of(0, 1)));
            tokio::pin!(first, second);
            while order.len() < 2 {
                tokio::select! {
                    biased;
                    passed = &mut first, if !order.contains(&1) => { passed.keep(); order.push(1); }
                    passed = &mut second, if !order.contains(&2) => { passed.keep(); order.push(2); }
                }
            }
            order
        };
        let lifting = async {
            tokio::task::yield_now().await;
            assert!(rate.held().is_some_and(|(_, wait)| wait > Duration::from_secs(900_000)));
            rate.set(PublishRate::default());
        };
        let (order, ()) = tokio::join!(waiting, lifting);
        assert_eq!(order, [1, 2]);
        assert!(rate.try_pass(of(0, 1)).is_some());
    }

    #[tokio::test]
    async fn who_gives_up_makes_way() {
        let rate = Rate::new(limit(0, 10));
        rate.try_pass(of(0, 3)).unwrap().keep();
        let (impatient, patient) = (rate.pass(of(0, 1_000_000)), rate.pass(of(0, 1)));
        tokio::pin!(patient);
        {
            tokio::pin!(impatient);
            // Both wait, one behind the other; then the first gives up.
            assert!((&mut impatient).now_or_never().is_none());
            assert!((&mut patient).now_or_never().is_none());
        }
        patient.await.keep();
        // What passed and was given up costs nothing.
        while rate.held().is_some() {
            tokio::task::yield_now().await;
        }
        drop(rate.try_pass(of(0, 1_000_000)).unwrap());
        assert_eq!(rate.held(), None);
    }
}

//! How long to wait before trying again, and when to stop trying.

use std::time::Duration;

use tokio::time::Instant;

/// How a lost connection is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// Mean wait before the second attempt; the first is made at once.
    pub first: Duration,
    /// Longest mean wait; each wait doubles the one before up to here.
    pub longest: Duration,
    /// Publishers and consumers fail when the broker has been away for so long; `None`: they never do.
    pub give_up_after: Option<Duration>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(5),
            give_up_after: Some(Duration::from_secs(30)),
        }
    }
}

impl Reconnect {
    /// The wait after `failures`, none after the first, from half to one and a half of its mean: `chance` is uniform
    /// over all of `u32`.
    fn delay(&self, failures: u32, chance: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(2) else { return Duration::ZERO };
        let mean = self.first.saturating_mul(2u32.saturating_pow(doublings)).min(self.longest);
        mean.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX))
    }
}

/// A stream that lasted so long was a success: what comes after is a new spell.
const LASTING: Duration = Duration::from_secs(5);

/// One spell without the broker.
#[derive(Debug)]
pub(crate) struct Spell {
    settings: Reconnect,
    started: Instant,
    failures: u32,
}

impl Spell {
    pub(crate) fn new(settings: Reconnect, now: Instant) -> Self {
        Self { settings, started: now, failures: 0 }
    }

    /// A spell in which one attempt was made already, so that the next one waits.
    pub(crate) fn behind_a_failure(settings: Reconnect, now: Instant) -> Self {
        Self { failures: 1, ..Self::new(settings, now) }
    }

    /// A stream that was opened at `opened` is lost.
    pub(crate) fn lost(&mut self, opened: Instant, now: Instant) {
        if now.saturating_duration_since(opened) >= LASTING {
            *self = Self::new(self.settings, now);
        }
    }

    /// After a failure: when to try again, or how long it was tried in vain.
    pub(crate) fn failed(&mut self, now: Instant, chance: u32) -> Result<Instant, Duration> {
        self.failures = self.failures.saturating_add(1);
        let away = now.saturating_duration_since(self.started);
        let next = now + self.settings.delay(self.failures, chance);
        match self.settings.give_up_after {
            Some(limit) if next.saturating_duration_since(self.started) > limit => Err(away),
            _ => Ok(next),
        }
    }
}

/// A random number for [`Spell::failed`].
pub(crate) fn chance() -> u32 {
    // Without randomness every client waits the mean: worse for the broker, still right.
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let settings = Reconnect::default();
        let mean = |failures| settings.delay(failures, u32::MAX / 2).as_millis();
        assert_eq!([mean(0), mean(1), mean(2), mean(3), mean(4)], [0, 0, 50, 100, 200]);
        assert!(mean(60).abs_diff(5_000) <= 1);
        assert!(settings.delay(2, 0) >= Duration::from_millis(25));
        assert!(settings.delay(2, u32::MAX) <= Duration::from_millis(75));
    }

    #[test]
    fn gives_up_in_time() {
        let start = Instant::now();
        let mut spell = Spell::new(Reconnect::default(), start);
        let mut now = start;
        let away = loop {
            match spell.failed(now, u32::MAX) {
                Ok(next) => now = next,
                Err(away) => break away,
            }
        };
        assert!(away <= Duration::from_secs(30) && away > Duration::from_secs(20), "{away:?}");
    }

    #[test]
    fn never_gives_up_without_a_limit() {
        let start = Instant::now();
        let settings = Reconnect { give_up_after: None, ..Reconnect::default() };
        let mut spell = Spell::new(settings, start);
        assert!(spell.failed(start + Duration::from_secs(86_400), 0).is_ok());
    }
}

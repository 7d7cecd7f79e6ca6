//! How a subscription delivers: to whom, for how long, how often, and what becomes of what fails.

use serde::{Deserialize, Serialize};

use crate::TopicName;

/// Who of a subscription's consumers gets which records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// One consumer gets everything, in order; a second one is refused.
    #[default]
    Exclusive,
    /// Each partition goes to one of the consumers, in order; another takes over when that one goes.
    Failover,
    /// Each record goes to one of the consumers: a work queue.
    Shared,
    /// As `shared`, but records of one key are processed in order and by one consumer at a time.
    KeyShared,
}

impl DeliveryMode {
    /// As written in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Failover => "failover",
            Self::Shared => "shared",
            Self::KeyShared => "key_shared",
        }
    }
}

impl std::fmt::Display for DeliveryMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where records go that failed too often.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetters {
    /// To the topic `dlq.SUBSCRIPTION`, created when it is first needed.
    #[default]
    Auto,
    /// Nowhere: they are tried for ever, at the last backoff.
    Off,
    /// To this topic, which must exist.
    Topic(TopicName),
}

/// How a subscription delivers; set when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryConfig {
    /// Who gets which records.
    pub mode: DeliveryMode,
    /// How long a delivered record belongs to its consumer before it is delivered again, ms.
    pub lease_ms: u32,
    /// After so many failures a record is a dead letter.
    pub tries: u32,
    /// Before the second, third, ... try, ms; the last one counts for all further ones. Each is jittered by 20%.
    pub backoff_ms: Vec<u32>,
    /// Where records go that failed too often.
    pub dead_letters: DeadLetters,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            mode: DeliveryMode::default(),
            lease_ms: 30_000,
            tries: 5,
            backoff_ms: vec![1_000, 5_000, 30_000, 120_000, 600_000],
            dead_letters: DeadLetters::default(),
        }
    }
}

/// Shortest and longest lease, ms.
const LEASE_MS: std::ops::RangeInclusive<u32> = 100..=43_200_000;
/// Fewest and most tries.
const TRIES: std::ops::RangeInclusive<u32> = 1..=1_000;
/// Most steps of a backoff.
const BACKOFF_STEPS_MAX: usize = 32;
/// Longest wait before a try, ms: a day.
const BACKOFF_MS_MAX: u32 = 86_400_000;

/// What is wrong with a [`DeliveryConfig`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// Out of bounds.
    #[error("a lease of {0} ms is out of range: it is 100 ms to 12 h")]
    Lease(u32),
    /// Out of bounds.
    #[error("{0} tries are out of range: a record gets 1 to 1,000")]
    Tries(u32),
    /// Out of bounds.
    #[error("a backoff of {0} steps is out of range: it has 1 to {BACKOFF_STEPS_MAX}")]
    BackoffSteps(usize),
    /// Out of bounds.
    #[error("a backoff of {0} ms is out of range: a step is at most {BACKOFF_MS_MAX} ms (a day)")]
    Backoff(u32),
}

impl DeliveryConfig {
    /// The defaults, delivering by `mode`.
    pub fn of(mode: DeliveryMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Whether everything is within its bounds.
    ///
    /// # Errors
    /// [`DeliveryError`] names what is not.
    pub fn check(&self) -> Result<(), DeliveryError> {
        if !LEASE_MS.contains(&self.lease_ms) {
            return Err(DeliveryError::Lease(self.lease_ms));
        }
        if !TRIES.contains(&self.tries) {
            return Err(DeliveryError::Tries(self.tries));
        }
        if self.backoff_ms.is_empty() || self.backoff_ms.len() > BACKOFF_STEPS_MAX {
            return Err(DeliveryError::BackoffSteps(self.backoff_ms.len()));
        }
        match self.backoff_ms.iter().find(|step| **step > BACKOFF_MS_MAX) {
            Some(step) => Err(DeliveryError::Backoff(*step)),
            None => Ok(()),
        }
    }

    /// How long to wait after this many failures, ms; `chance` of 0 to 1 places it within the jitter.
    pub fn backoff(&self, failures: u32, chance: f64) -> u64 {
        let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let step = self.backoff_ms.get(step).or(self.backoff_ms.last()).copied().unwrap_or_default();
        let jittered = f64::from(step) * (0.8 + 0.4 * chance.clamp(0.0, 1.0));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 1.2 days in ms")]
        let jittered = jittered as u64;
        jittered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_rises_to_its_last_step_and_is_jittered_by_a_fifth() {
        let config = DeliveryConfig { backoff_ms: vec![1_000, 5_000], ..DeliveryConfig::default() };
        let at = |failures| [0.0, 0.5, 1.0].map(|chance| config.backoff(failures, chance));
        assert_eq!(at(1), [800, 1_000, 1_200]);
        assert_eq!((at(2), at(9)), ([4_000, 5_000, 6_000], [4_000, 5_000, 6_000]));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let check = |change: fn(&mut DeliveryConfig)| {
            let mut config = DeliveryConfig::default();
            change(&mut config);
            config.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert!(check(|config| config.lease_ms = 0).unwrap_err().contains("lease of 0 ms"));
        assert!(check(|config| config.tries = 0).unwrap_err().contains("0 tries"));
        assert!(check(|config| config.backoff_ms.clear()).unwrap_err().contains("0 steps"));
        assert!(check(|config| config.backoff_ms = vec![u32::MAX]).unwrap_err().contains("4294967295 ms"));
    }
}

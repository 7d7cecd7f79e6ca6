//! What the workers of a service did, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counted by all workers of a service.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    delivered: AtomicU64,
    redelivered: AtomicU64,
    without_change: AtomicU64,
    retries: AtomicU64,
    killed: AtomicU64,
}

/// How it stands.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Counts {
    /// Messages that came.
    pub(crate) delivered: u64,
    /// Of those, such as had come before.
    pub(crate) redelivered: u64,
    /// Of those, such as had been handled in full before, and so changed nothing.
    pub(crate) without_change: u64,
    /// Messages given back, to be tried again.
    pub(crate) retries: u64,
    /// Workers that died.
    pub(crate) killed: u64,
}

impl Tally {
    /// Answers how many have come, with this one.
    pub(crate) fn delivered(&self, again: bool) -> u64 {
        self.redelivered.fetch_add(again.into(), Ordering::Relaxed);
        self.delivered.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn without_change(&self) {
        self.without_change.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn killed(&self) {
        self.killed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            delivered: of(&self.delivered),
            redelivered: of(&self.redelivered),
            without_change: of(&self.without_change),
            retries: of(&self.retries),
            killed: of(&self.killed),
        }
    }
}

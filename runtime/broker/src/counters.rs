//! What a subscription has done since the broker started.

use std::sync::atomic::{AtomicU64, Ordering};

use millstream_types::Counters;

/// Live counters; read at any time, exact once the reader stands still.
#[derive(Debug, Default)]
pub(crate) struct LiveCounters {
    pub(crate) records_in: AtomicU64,
    pub(crate) records_out: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) routed: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) faulted: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) module_ns: AtomicU64,
    pub(crate) module_calls: AtomicU64,
}

impl LiveCounters {
    pub(crate) fn add(&self, counted: &Counters) {
        let pairs = [
            (&self.records_in, counted.records_in),
            (&self.records_out, counted.records_out),
            (&self.dropped, counted.dropped),
            (&self.routed, counted.routed),
            (&self.rejected, counted.rejected),
            (&self.faulted, counted.faulted),
            (&self.bytes_in, counted.bytes_in),
            (&self.bytes_out, counted.bytes_out),
            (&self.module_ns, counted.module_ns),
            (&self.module_calls, counted.module_calls),
        ];
        for (counter, value) in pairs {
            counter.fetch_add(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            records_in: read(&self.records_in),
            records_out: read(&self.records_out),
            dropped: read(&self.dropped),
            routed: read(&self.routed),
            rejected: read(&self.rejected),
            faulted: read(&self.faulted),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            module_ns: read(&self.module_ns),
            module_calls: read(&self.module_calls),
        }
    }
}

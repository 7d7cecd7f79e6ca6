//! What a pipeline counts.

use std::ops::AddAssign;

use millstream_types::ModuleMetrics;

/// What a pipeline counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Source records done.
    pub records_in: u64,
    /// Source records of which nothing is left: dropped, or replaced by no output.
    pub dropped: u64,
    /// Records that go to the reader, kept or emitted.
    pub delivered: u64,
    /// Records that go to topics.
    pub routed: u64,
    /// Source records that a module rejected.
    pub rejected: u64,
    /// Source records that no module could judge.
    pub faulted: u64,
    /// Calls into modules.
    pub calls: u64,
    /// Calls that ended in a fault.
    pub call_faults: u64,
    /// Time in modules, in ns.
    pub guest_ns: u64,
    /// Bytes copied into modules.
    pub bytes_in: u64,
    /// What the calls cost, about an instruction a unit: 0 unless [`Settings::fuel`](crate::Settings::fuel) asks for it.
    pub fuel: u64,
}

/// What one module of a pipeline has used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Calls into it.
    pub calls: u64,
    /// Calls that ended in a fault.
    pub faults: u64,
    /// Records it was given, those given again counted again.
    pub records: u64,
    /// Time in it, that of its instances to start included, in ns.
    pub guest_ns: u64,
    /// Its longest call, in ns: of CPU time it may use [`Limits::call_ms`](crate::Limits::call_ms).
    pub longest_ns: u64,
    /// Most linear memory that an instance of it has had, in bytes.
    pub memory_bytes: u64,
    /// What it counted itself.
    pub metrics: ModuleMetrics,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.records_in += other.records_in;
        self.dropped += other.dropped;
        self.delivered += other.delivered;
        self.routed += other.routed;
        self.rejected += other.rejected;
        self.faulted += other.faulted;
        self.calls += other.calls;
        self.call_faults += other.call_faults;
        self.guest_ns += other.guest_ns;
        self.bytes_in += other.bytes_in;
        self.fuel += other.fuel;
    }
}

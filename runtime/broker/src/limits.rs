//! Bounds of what the broker holds.

use std::time::Duration;

use millstream_types::{Offset, PublishRate};

/// Bounds of what the broker holds, with defaults for a small machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of batches on their way into the store; publishers wait beyond it.
    pub commit_backlog_bytes: usize,
    /// Of those, most bytes of one connection.
    pub connection_bytes: usize,
    /// Of those, most bytes to one topic.
    pub topic_bytes: usize,
    /// How fast one connection may publish.
    pub connection_rate: PublishRate,
    /// Most topics, those that modules create included.
    pub topics_max: usize,
    /// Most subscriptions, ephemeral ones included.
    pub subscriptions_max: usize,
    /// Partitions of all topics together.
    pub partitions_max: usize,
    /// Most modules with a name.
    pub modules_max: usize,
    /// Most producers with a name.
    pub producers_max: usize,
    /// Longest time an append to an `interval` topic stays unsynced.
    pub sync_interval: Duration,
    /// How often it is looked what retention and compaction let go.
    pub retention_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commit_backlog_bytes: 64 << 20,
            connection_bytes: 16 << 20,
            topic_bytes: 32 << 20,
            connection_rate: PublishRate::default(),
            topics_max: 10_000,
            subscriptions_max: 20_000,
            partitions_max: 50_000,
            modules_max: 10_000,
            producers_max: 10_000,
            sync_interval: Duration::from_millis(50),
            retention_interval: Duration::from_secs(5),
        }
    }
}

/// Modules of a subscription, those bound before included, of which is told what they used.
pub(crate) const MODULES_COUNTED_MAX: usize = 64;
/// How far ahead of its rate a publisher may be before it waits: timers are too coarse to wait for each batch.
pub(crate) const RATE_BURST: Duration = Duration::from_millis(100);
/// A publisher that waits longer for others to be stored is told so.
pub(crate) const TELL_AFTER: Duration = Duration::from_millis(50);
/// So long a request waits for room; then it is refused for now.
pub(crate) const ONE_SHOT_WAIT: Duration = Duration::from_secs(2);
/// Appends of a producer whose place a partition remembers: where older ones are is read from the log.
pub(crate) const PRODUCER_RECENT_MAX: usize = 32;
/// Producers that a partition remembers.
pub(crate) const PARTITION_PRODUCERS_MAX: usize = 10_000;
/// Receipts of batches of one producer that a partition keeps as rows, and bytes of them: a publisher has no more than this
/// without a receipt.
pub(crate) const RECEIPTS_MAX: usize = 4_096;
pub(crate) const RECEIPT_BYTES_MAX: usize = 1 << 20;
/// Bytes of batches to one topic that wait for the modules on its ingest, or are judged by them.
pub(crate) const INGEST_BYTES: usize = 4 << 20;
/// Partitions of one topic of which batches are judged, or wait to be handed in, at once.
pub(crate) const INGEST_AT_ONCE: usize = 4;
/// Most bytes that modules may make of one batch there.
pub(crate) const INGEST_MADE_BYTES_MAX: usize = 8 << 20;
/// How often a batch waits for a module instance when all are in use; then its publisher does.
pub(crate) const INGEST_BUSY_MAX: u32 = 100;
/// Message ids of a partition that one generation remembers; beyond it the next one begins early.
pub(crate) const GENERATION_IDS_MAX: usize = 500_000;
/// How far ahead a record may be scheduled.
pub(crate) const SCHEDULE_AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// A producer that appends nothing for so long is forgotten.
pub(crate) const PRODUCER_IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How often those are looked for.
pub(crate) const PRODUCER_EXPIRY_EVERY: Duration = Duration::from_secs(10 * 60);
/// Batches of a partition that retention lets go in one step.
pub(crate) const CUT_BATCHES_MAX: usize = 100_000;
/// And bytes of them, where they have to be read for that.
pub(crate) const CUT_BYTES_MAX: u64 = 64 << 20;
/// Keys that a compaction pass notes: 13 MB of them, 20 MB while the table grows.
pub(crate) const COMPACTED_KEYS_MAX: usize = 7 << 16;
/// Bytes that one step of a pass reads.
pub(crate) const COMPACTION_STEP_BYTES: usize = 1 << 20;
/// About how large the batches are that compaction makes of small ones.
pub(crate) const COMPACTED_BYTES: usize = 256 << 10;
/// Partitions with so many bytes are seen to beside the others.
pub(crate) const COMPACTION_LARGE_BYTES: u64 = 64 << 20;
/// How long at least a partition is let alone after a pass that was in vain, or before one that has nothing to do but to let
/// tombstones go, and how many times as long as the pass took.
pub(crate) const COMPACTION_REST: (Duration, u32) = (Duration::from_secs(10), 20);
/// Partitions whose low watermarks are on their way to the disk at the same time.
pub(crate) const CUTS_MAX: usize = 256;
/// How long closing waits for a compaction to end.
pub(crate) const UPKEEP_STOP: Duration = Duration::from_secs(10);
/// Bytes of batches that one group commit takes at most.
pub(crate) const GROUP_BYTES_MAX: usize = 4 << 20;
/// Commands that one group commit takes at most.
pub(crate) const GROUP_COMMANDS_MAX: usize = 8_192;
/// What a command counts against the backlog beyond its batches.
pub(crate) const COMMAND_BYTES: usize = 512;
/// Bytes that one fetch reads from a partition.
pub(crate) const FETCH_BYTES: usize = 512 << 10;
/// Bytes that one fetch through modules reads, unless [`FETCH_BYTES`] are left of them sooner, before it is known how
/// much that is.
pub(crate) const FIRST_JUDGED_BYTES: usize = 1 << 20;
/// About how many bytes of a partition are judged by one fetch where several are judged at once.
pub(crate) const SPAN_BYTES: usize = 8 << 20;
/// Bytes that it reads at a time: they are judged while they are in the processor's cache.
pub(crate) const JUDGED_STEP_BYTES: usize = 1 << 20;
/// After so long a fetch gives its module thread to others that wait for one.
pub(crate) const JUDGED_TURN: Duration = Duration::from_millis(10);
/// After so long a fetch through modules hands out what it has, though there is more to judge.
pub(crate) const JUDGED_FETCH: Duration = Duration::from_millis(50);
/// Spans of one partition that are fetched, or wait for one that is before them.
pub(crate) const SPANS_MAX: usize = FETCHES_MAX + 1;
/// Bytes of fetched batches that wait for a subscription's reader.
pub(crate) const READY_BYTES_MAX: usize = 512 << 10;
/// What modules leave of a batch is small below this size: several such go to the reader as one.
pub(crate) const SMALL_BYTES: usize = 16 << 10;
/// About how large those grow together.
pub(crate) const JOINED_BYTES: usize = 64 << 10;
/// Fetches of one subscription at once.
pub(crate) const FETCHES_MAX: usize = 3;
/// Bytes that one fetch of what is in memory reads.
pub(crate) const IN_MEMORY_BYTES: usize = 256 << 10;
/// How often a faulting record is tried again before its policy applies, and after how long.
pub(crate) const FAULT_RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// Of a subscription's modules, how many earlier revisions are kept to go back to.
pub(crate) const EARLIER_REVISIONS_MAX: usize = 10;
/// Faults in a row, with no record judged in between, after which modules are let alone.
pub(crate) const BREAKER_FAULTS: u32 = millstream_engine::limits::FAULTS_IN_ROW_MAX;
/// How long modules that fail are let alone before one record is tried, at first and at most.
pub(crate) const BREAKER_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Bytes of what waits to be judged by the shadow of one subscription, what was made of it included, and what each batch of it
/// counts beside.
pub(crate) const SHADOW_BYTES_MAX: usize = 4 << 20;
pub(crate) const SHADOW_BATCH_BYTES: usize = 1 << 10;
/// Turns of a shadow over one batch that may come to nothing.
pub(crate) const SHADOW_VAIN_MAX: u32 = 20;
/// Differences of a shadow that are told one by one, and the bytes of each word on them.
pub(crate) const SHADOW_SAMPLES_MAX: usize = 20;
pub(crate) const SHADOW_TEXT_BYTES: usize = 200;
/// Lines of modules that are kept for who asks later, and bytes of them.
pub(crate) const TAIL_LINES: usize = 1_000;
pub(crate) const TAIL_BYTES: usize = 1 << 20;
/// How long a fetch waits for a module instance when all are in use.
pub(crate) const BUSY_WAIT: Duration = Duration::from_millis(20);
/// Deleted modules whose names are remembered; beyond it the one deleted first is forgotten.
pub(crate) const DELETED_MODULES_MAX: usize = 100_000;
/// Modules without a name that are kept to be bound; beyond it the one that waits longest may go.
pub(crate) const UNBOUND_MODULES_MAX: usize = 100;
/// Subscriptions that are named when a module cannot be deleted because of them.
pub(crate) const BINDERS_TOLD_MAX: usize = 5;
/// Subscriptions that a module's description names.
pub(crate) const BINDERS_LISTED_MAX: usize = 1_000;
/// Consumers of one subscription.
pub(crate) const GROUP_MEMBERS_MAX: usize = 1_000;
/// Records of one subscription that are delivered and not settled, or wait to be delivered again; beyond it no further
/// ones are scanned.
pub(crate) const GROUP_OPEN_MAX: usize = 200_000;
/// Records under one lease.
pub(crate) const GRANT_RECORDS_MAX: u32 = 1_024;
/// Records that are read again at a time, and the offsets that they may span.
pub(crate) const AGAIN_RECORDS_MAX: usize = 1_024;
pub(crate) const AGAIN_SPAN: Offset = 8_192;
/// About how many bytes those have at most.
pub(crate) const AGAIN_BYTES_MAX: u64 = 2 << 20;
/// How long progress over records that modules drop may stay unsaved.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Topics and patterns that one processor reads.
pub(crate) const PROCESSOR_SOURCES_MAX: usize = 64;
/// How far a processor looks ahead in one of several partitions, to take the oldest records first.
pub(crate) const PROCESSOR_MERGE_BYTES: usize = 256 << 10;
/// How long a processor that cannot go on waits, at first and at most.
pub(crate) const PROCESSOR_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Bytes of its state that a processor changes in one step, about.
pub(crate) const PROCESSOR_STEP_BYTES: usize = 2 << 20;
/// Bytes of a state that are told in one answer, about.
pub(crate) const STATE_PAGE_BYTES: usize = 1 << 20;
/// Jobs that may wait for a module thread: one for each fetch of each subscription, one for its shadow, and those that read again.
pub(crate) const MODULE_JOBS_MAX: usize = 200_000;
/// After so long without records a subscription gives its module instances up.
pub(crate) const REST_AFTER: Duration = Duration::from_secs(2);

const _: () = assert!(GROUP_BYTES_MAX >= millstream_types::limits::ATOMIC_BYTES_MAX);
const _: () = assert!(GROUP_BYTES_MAX >= millstream_types::limits::BATCH_BYTES_MAX);
const _: () = assert!(COMPACTED_KEYS_MAX > millstream_types::limits::BATCH_RECORDS_MAX);
const _: () = assert!(FETCH_BYTES <= u32::MAX as usize);

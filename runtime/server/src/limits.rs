//! Bounds of what the server holds and waits for.

use std::time::Duration;

use millstream_types::limits::BATCH_BYTES_MAX;

/// Handshakes under way at once; more wait in the kernel.
pub(crate) const INCOMING_MAX: usize = 1_024;
/// Connections from which on a client must show that it receives what is sent to its address.
pub(crate) const RETRY_FROM: usize = 256;
/// Connections beyond the limit that are told so at the same time; others are refused without a word.
pub(crate) const TURNED_AWAY_MAX: usize = 64;
/// When to try again what is refused for now and nobody knows for how long.
pub(crate) const RETRY_AFTER_MS: u32 = 1_000;
/// Streams of a connection beyond those that stay: so many requests at once.
pub(crate) const REQUESTS_MAX: u32 = 16;
/// Most that can be set of publishers and consumers of a connection: each slot is allocated with the connection.
pub(crate) const STREAMS_MAX: usize = 1_000;
/// How long a shutdown waits for clients to take the news.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);
/// How long a peer may take for the handshake, and for its greeting.
pub(crate) const GREETING: Duration = Duration::from_secs(10);
/// A publisher that was held back and has nothing to say for so long is told that it may go on.
pub(crate) const QUIET: Duration = Duration::from_millis(100);
/// What can be set for the bytes of everybody on their way: each topic and connection needs a share of a batch at least, and
/// what is on its way is in memory.
pub(crate) const BACKLOG_BYTES_MIN: usize = 4 * BATCH_BYTES_MAX;
pub(crate) const BACKLOG_BYTES_MAX: usize = u32::MAX as usize;
/// What can be set for the memory of a module's instance: a page at least, and what the engine sets addresses aside for.
pub(crate) const MEMORY_BYTES_MIN: usize = 64 << 10;
pub(crate) const MEMORY_BYTES_MAX: usize = millstream_engine::limits::MEMORY_BYTES_CEILING;
/// What can be set for the size of a module.
pub(crate) const MODULE_BYTES_MIN: usize = 1 << 10;
pub(crate) const MODULE_BYTES_MAX: usize = 256 << 20;
/// What can be set for the CPU time of one call.
pub(crate) const CALL_MS_MAX: usize = 60_000;
/// What can be set for the CPU time of compiling one module: stock modules must be compiled too, and the next ones wait.
pub(crate) const COMPILE_MS_MIN: usize = 1_000;
pub(crate) const COMPILE_MS_MAX: usize = 600_000;
/// So many reports that nobody listens at a peer's address, over so long, or over so many round trips where that is longer,
/// with nothing heard of it: it is gone.
pub(crate) const REPORTS_MIN: u32 = 3;
pub(crate) const GONE_AFTER: Duration = Duration::from_millis(500);
pub(crate) const GONE_ROUND_TRIPS: u32 = 8;
/// How often such reports are looked at.
pub(crate) const REPORTS_EVERY: Duration = Duration::from_millis(50);
/// Connections for metrics at once.
pub(crate) const METRICS_CONNECTIONS_MAX: usize = 16;
/// Of those, some that are answered: each has a text with lines for every subscription and module.
pub(crate) const METRICS_TEXTS_MAX: usize = 4;
/// How long a request may take to come.
pub(crate) const METRICS_HEAD: Duration = Duration::from_secs(5);
/// How long all may take, from the connection to the last byte of the answer.
pub(crate) const METRICS_TIME: Duration = Duration::from_secs(30);
/// Counters and gauges of all modules together that are told.
pub(crate) const METRICS_OWN_MAX: usize = 100_000;
/// A worker that holds records and to which nothing is to be sent is asked so often whether it is there.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(2);

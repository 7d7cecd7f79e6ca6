//! The bounds of everything that crosses a boundary, gathered in one place, with their relations asserted.

/// Longest topic, subscription or module name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Largest record batch, header included, in bytes; a topic may ask for less.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Largest sum of batches that are published atomically, in bytes.
pub const ATOMIC_BYTES_MAX: usize = 4 << 20;
/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 65_536;
/// Largest payload region once decompressed, in bytes: what a compressed batch may expand to.
pub const BATCH_RAW_BYTES_MAX: usize = 16 << 20;
/// Largest key, in bytes.
pub const KEY_BYTES_MAX: usize = 32 << 10;
/// Longest header name, in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 1_024;
/// Most headers on one record.
pub const HEADERS_MAX: usize = 1_024;
/// Longest message id, in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 255;
/// Most partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 1_024;
/// Lowest publish rate that can be set, in bytes a second.
pub const RATE_BYTES_PER_S_MIN: u64 = 1 << 10;
/// Largest module, in bytes, unless the operator grants more.
pub const MODULE_BYTES_MAX: usize = 10 << 20;
/// Most outputs one verdict buffer may hold for one record.
pub const OUTPUTS_PER_RECORD_MAX: usize = 4_096;
/// Longest reason of a reject verdict kept, in bytes.
pub const REASON_BYTES_MAX: usize = 4_096;
/// Longest word on why a record is not stored that its producer is told, in bytes.
pub const UNSTORED_TEXT_BYTES_MAX: usize = 1_024;
/// All different ones of a batch together, in bytes.
pub const UNSTORED_TEXTS_BYTES_MAX: usize = 32 << 10;
/// Counters and gauges that one module may keep.
pub const METRICS_MAX: usize = 64;
/// Longest name of one, in bytes.
pub const METRIC_NAME_BYTES_MAX: usize = 64;

const _: () = assert!(BATCH_BYTES_MAX <= BATCH_RAW_BYTES_MAX);
const _: () = assert!(BATCH_RAW_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(KEY_BYTES_MAX < BATCH_BYTES_MAX);

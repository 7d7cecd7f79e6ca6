//! The client's bounds on what a broker may send, and on what it holds itself.

use std::time::Duration;

use millstream_types::limits::{BATCH_BYTES_MAX, BATCH_RAW_BYTES_MAX};
use millstream_wire::FrameLimits;

/// Answers to requests: lists grow with the number of topics.
pub(crate) const ANSWERS: FrameLimits =
    FrameLimits { head_bytes_max: 16 << 20, body_bytes_max: 2 * BATCH_RAW_BYTES_MAX };
/// Frames of a publisher stream towards us.
pub(crate) const RECEIPTS: FrameLimits = FrameLimits { head_bytes_max: 2 << 20, body_bytes_max: 0 };
/// Frames of a stream of module lines towards us.
pub(crate) const LINES: FrameLimits = FrameLimits { head_bytes_max: 1 << 20, body_bytes_max: 0 };
/// Frames of a consumer stream towards us. What modules emit can exceed the batch that it came from.
pub(crate) const DELIVERIES: FrameLimits =
    FrameLimits { head_bytes_max: 1 << 20, body_bytes_max: 2 * BATCH_RAW_BYTES_MAX };

/// Batches below their size that may be on the way while records gather for the next one.
pub(crate) const EAGER_BATCHES: usize = 2;
/// What can be set for the idle time-out.
pub(crate) const IDLE_TIMEOUT_MIN: Duration = Duration::from_secs(1);
pub(crate) const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// Longest that a broker may have us wait before we try again.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Longest wait for the broker to hear that we leave.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(2);

const _: () = assert!(DELIVERIES.body_bytes_max > BATCH_BYTES_MAX);

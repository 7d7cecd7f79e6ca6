//! Publish rates, and what a publisher is told that is held back: by which limit, and when it goes on.

use std::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

use crate::limits::RATE_BYTES_PER_S_MIN;

/// How fast may be published, to a topic or over a connection. By default as fast as it goes.
///
/// A batch passes once those before it are paid for, so that one larger than the rate passes too, and delays the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRate {
    /// Bytes of batches a second.
    #[serde(default)]
    pub bytes_per_s: Option<NonZeroU64>,
    /// Records a second.
    #[serde(default)]
    pub records_per_s: Option<NonZeroU64>,
}

/// A rate at which nobody can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a publish rate of {found} bytes a second is too low: one batch of 1 MiB would hold up the next for a quarter of an hour; set \
     {RATE_BYTES_PER_S_MIN} or more, or no limit"
)]
pub struct RateError {
    /// As asked.
    pub found: u64,
}

impl PublishRate {
    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Whether one can work with it.
    ///
    /// # Errors
    /// [`RateError`].
    pub fn check(&self) -> Result<(), RateError> {
        match self.bytes_per_s {
            Some(rate) if rate.get() < RATE_BYTES_PER_S_MIN => Err(RateError { found: rate.get() }),
            _ => Ok(()),
        }
    }
}

/// Why nothing more is taken for now. Nothing that was taken is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowDown {
    /// Which limit is reached.
    pub limit: PublishLimit,
    /// What it is set to.
    pub value: u64,
    /// In about so many ms it goes on; `None`: as soon as what is on its way is stored.
    #[serde(default)]
    pub after_ms: Option<u32>,
}

/// A limit on what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PublishLimit {
    /// Bytes of one connection on their way.
    ConnectionBytes,
    /// Bytes a second of one connection.
    ConnectionBytesPerS,
    /// Records a second of one connection.
    ConnectionRecordsPerS,
    /// Bytes to one topic on their way.
    TopicBytes,
    /// Bytes a second to one topic.
    TopicBytesPerS,
    /// Records a second to one topic.
    TopicRecordsPerS,
    /// Bytes of everybody on their way.
    BrokerBytes,
    /// One that this build does not know.
    #[serde(other)]
    Other,
}

impl fmt::Display for SlowDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value;
        match self.limit {
            PublishLimit::ConnectionBytes => {
                write!(f, "this connection has {value} bytes on their way into the store, its limit")
            }
            PublishLimit::ConnectionBytesPerS => {
                write!(f, "this connection may publish {value} bytes a second")
            }
            PublishLimit::ConnectionRecordsPerS => {
                write!(f, "this connection may publish {value} records a second")
            }
            PublishLimit::TopicBytes => {
                write!(f, "the topic has {value} bytes on their way into the store, its limit")
            }
            PublishLimit::TopicBytesPerS => write!(f, "the topic takes {value} bytes a second"),
            PublishLimit::TopicRecordsPerS => write!(f, "the topic takes {value} records a second"),
            PublishLimit::BrokerBytes => {
                write!(f, "the broker has {value} bytes on their way into the store, its limit")
            }
            PublishLimit::Other => write!(f, "a limit of {value} is reached"),
        }?;
        match self.after_ms {
            Some(ms) => write!(f, "; it goes on in about {ms} ms"),
            None => write!(f, "; it goes on as those are stored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_at_which_nobody_can_work_is_refused() {
        let rate = |bytes| PublishRate { bytes_per_s: NonZeroU64::new(bytes), records_per_s: None };
        assert_eq!(rate(1_024).check(), Ok(()));
        assert_eq!(PublishRate::default().check(), Ok(()));
        let error = rate(1_023).check().unwrap_err().to_string();
        assert!(error.contains("1023") && error.contains("1024 or more"), "{error}");
    }

    #[test]
    fn people_read_which_limit_and_when() {
        let slow = SlowDown { limit: PublishLimit::TopicRecordsPerS, value: 7, after_ms: Some(20) };
        assert_eq!(slow.to_string(), "the topic takes 7 records a second; it goes on in about 20 ms");
    }
}

//! Errors as they cross the wire: code, message for people, offending value, retryable or not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What kind of error it is; programs match on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// No topic of that name.
    UnknownTopic,
    /// The topic exists, with other settings.
    TopicExists,
    /// No such partition in the topic.
    UnknownPartition,
    /// A name breaks the rules.
    BadName,
    /// A message that is malformed or out of place.
    BadRequest,
    /// The protocol version is not spoken here.
    UnsupportedVersion,
    /// A frame, batch, record or module is above its limit.
    TooLarge,
    /// The bytes of a batch contradict themselves.
    CorruptBatch,
    /// A producer of the same name has started since, and this one may publish no more.
    ProducerFenced,
    /// A batch of the producer is missing before this one.
    OutOfSequence,
    /// The batch was appended before, and is no longer there.
    DuplicateGone,
    /// The offset is not in the partition.
    OffsetOutOfRange,
    /// No subscription of that name.
    UnknownSubscription,
    /// The subscription exists, with other settings.
    SubscriptionExists,
    /// Another consumer holds the exclusive subscription.
    SubscriptionBusy,
    /// The subscription's delivery mode does not allow this way of reading it.
    WrongMode,
    /// Delivery settings that are out of range or contradict each other.
    BadDelivery,
    /// No such module in the registry.
    UnknownModule,
    /// The module's name and version are taken by other bytes.
    ModuleExists,
    /// A subscription, or a topic's ingest, binds the module.
    ModuleBound,
    /// The module is not signed by anybody whom the broker trusts.
    ModuleUntrusted,
    /// The bytes are not a module that can run here.
    ModuleRefused,
    /// The module refused its configuration.
    ConfigRefused,
    /// A module failed; its subscription is faulted. Or, and then it may pass, those on a topic's ingest fail on everything.
    ModuleFault,
    /// A module on a topic's ingest refused a record of an atomic publish, or failed on it: nothing is stored. The value is
    /// `PART:RECORD`, both counted from 0.
    RecordRefused,
    /// The module cannot be on a topic's ingest.
    NotForIngest,
    /// A limit on connections, subscriptions or topics is reached.
    LimitReached,
    /// Too much at once: try again after a while. Nothing was done.
    SlowDown,
    /// Not now: shutting down or overloaded.
    Unavailable,
    /// A stored batch is damaged.
    CorruptStore,
    /// The write may or may not have happened.
    OutcomeUnknown,
    /// A fault of the broker.
    Internal,
    /// A code that this build does not know.
    #[serde(other)]
    Other,
}

/// An error as it crosses the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what was wrong, which value, what to do.
    pub message: String,
    /// The offending value, where there is one.
    #[serde(default)]
    pub value: Option<String>,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// Not sooner than after so many ms, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
}

impl WireError {
    /// An error that trying again will not change.
    pub fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), value: None, retryable: false, retry_after_ms: None }
    }

    /// An error that may pass.
    pub fn passing(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), value: None, retryable: true, retry_after_ms: None }
    }

    /// Too much at once: the same may succeed after so many ms.
    pub fn slow_down(message: impl Into<String>, retry_after_ms: u32) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..Self::passing(ErrorCode::SlowDown, message) }
    }

    /// Not sooner than after this time, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_ms.map(|ms| Duration::from_millis(u64::from(ms)))
    }

    /// The same error naming the offending value.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }
}

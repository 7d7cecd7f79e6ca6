//! Messages of a worker stream: records leased to one of a subscription's consumers.

use millstream_types::{
    Binding, DeliveryConfig, DeliveryMode, Offset, OnFault, StartAt, SubscriptionName, TopicPartition,
    TopicPattern,
};
use serde::{Deserialize, Serialize};

use crate::WireError;

/// Opens a worker stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// What to read: a topic, or all that a pattern means, those included that are made later.
    pub topic: TopicPattern,
    /// Durable subscription to join, or to create if there is none.
    pub name: SubscriptionName,
    /// Where a new subscription starts; one that exists goes on where it was.
    pub from: StartAt,
    /// What judges the records. `None` takes an existing subscription as it is; else it must be the same.
    pub pipeline: Option<Vec<Binding>>,
    /// What happens when a module fails.
    #[serde(default)]
    pub on_fault: OnFault,
    /// How it delivers. `None` takes an existing subscription as it is; else it must be the same.
    #[serde(default)]
    pub delivery: Option<DeliveryConfig>,
    /// Most records held unsettled.
    pub records: u32,
    /// Most bytes held unsettled; the last record may exceed them.
    pub bytes: u64,
}

/// The subscription as it was joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its name.
    pub name: SubscriptionName,
    /// Who gets which records.
    pub mode: DeliveryMode,
    /// How long a lease lasts, ms.
    pub lease_ms: u32,
}

/// From the broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// The body is a record batch, leased to this consumer.
    Records {
        /// Partition within the topic; where several topics may be read, the broker's number of it.
        partition: u32,
        /// Which partition that is, where several topics may be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<TopicPartition>,
        /// What settles them.
        lease: u64,
        /// Number of the newest [`WorkControl::Settle`] that was taken before they were leased: what was leased before a
        /// record was given back is void where it is kept in order behind that record.
        #[serde(default)]
        heard: u64,
        /// Whether more that a module made of the last record comes with the next records.
        #[serde(default)]
        more_follows: bool,
        /// Offset, deliveries before this one and failures, of those that were delivered before.
        #[serde(default)]
        tried: Vec<(Offset, u32, u32)>,
    },
    /// What was said with this number is done and stored.
    Settled {
        /// Of the [`WorkControl`].
        number: u64,
        /// Indexes of the settlements of which nothing was this consumer's to settle any more.
        #[serde(default)]
        stale: Vec<u32>,
    },
    /// The subscription's modules fail and are let alone for a while; its backlog is kept. Or they judge again.
    Faulted {
        /// Why; `None`: they judge again.
        fault: Option<String>,
    },
    /// The subscription ends here, and why. Nothing follows.
    Ended(WireError),
}

/// From the consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkControl {
    /// From now on so much may be held unsettled; nothing of it stops deliveries.
    Window {
        /// Records.
        records: u32,
        /// Bytes.
        bytes: u64,
    },
    /// What became of records.
    Settle {
        /// Answered by [`Assignment::Settled`].
        number: u64,
        /// In this order.
        settlements: Vec<Settlement>,
    },
    /// The lease ends later.
    Extend {
        /// Answered by [`Assignment::Settled`].
        number: u64,
        /// Which.
        lease: u64,
        /// From now, ms.
        ms: u32,
    },
}

/// What became of records that came under one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The partition as it was named with the lease.
    pub partition: u32,
    /// The lease they came under; `None` for all that this consumer holds of the offsets.
    #[serde(default)]
    pub lease: Option<u64>,
    /// First offset.
    pub from: Offset,
    /// One past the last offset; those in between that are not under the lease are not meant.
    pub to: Offset,
    /// What became of them.
    pub verdict: SettleAs,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleAs {
    /// Done.
    Ack,
    /// Failed: to be delivered again.
    Nack {
        /// After this time, ms; else as the subscription's policy says.
        #[serde(default)]
        delay_ms: Option<u64>,
        /// What went wrong, for whoever finds it among the dead letters.
        #[serde(default)]
        error: Option<String>,
    },
    /// Not tried: to be delivered to anybody at once, and not counted as a failure.
    Release,
}

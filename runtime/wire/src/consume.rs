//! Messages of a consumer stream.

use millstream_types::{Binding, Offset, OnFault, StartAt, SubscriptionName, TopicPartition, TopicPattern};
use serde::{Deserialize, Serialize};

use crate::WireError;

/// Opens a consumer stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscribe {
    /// What to read: a topic, or all that a pattern means, those included that are made later.
    pub topic: TopicPattern,
    /// Durable subscription to resume, or to create if there is none; without a name an ephemeral one.
    pub name: Option<SubscriptionName>,
    /// Where a new subscription starts; a durable one that exists goes on where it was.
    pub from: StartAt,
    /// What judges the records. `None` takes an existing subscription as it is; else it must be the same.
    pub pipeline: Option<Vec<Binding>>,
    /// What happens when a module fails.
    #[serde(default)]
    pub on_fault: OnFault,
    /// Bytes the broker may send before more credit comes.
    pub credit_bytes: u64,
}

/// The subscription as it stands when the stream opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// Its name; made up for an ephemeral one.
    pub name: SubscriptionName,
    /// Whether it survives this connection.
    pub durable: bool,
    /// One for each partition; of one topic in order.
    pub partitions: Vec<PartitionSpan>,
    /// Whether more of them come, in [`Delivery::Partitions`], before anything else.
    #[serde(default)]
    pub more: bool,
}

/// What is there to read in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSpan {
    /// Partition within the topic; where several topics may be read, the broker's number of it.
    pub partition: u32,
    /// Which partition that is, where several topics may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<TopicPartition>,
    /// Where reading starts.
    pub next: Offset,
    /// One past the newest readable record.
    pub end: Offset,
}

/// From the broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The body is a record batch: what is left of the records before `next` that were not delivered yet.
    Batch {
        /// Partition within the topic; where several topics may be read, the broker's number of it.
        partition: u32,
        /// Which partition that is, where several topics may be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<TopicPartition>,
        /// Everything below this offset has been scanned; acknowledge it when the records are done.
        next: Offset,
    },
    /// Records were scanned and none of them was for this reader.
    Progress {
        /// Partition within the topic; where several topics may be read, the broker's number of it.
        partition: u32,
        /// Which partition that is, where several topics may be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<TopicPartition>,
        /// Everything below this offset has been scanned.
        next: Offset,
    },
    /// More of [`Subscribed::partitions`].
    Partitions {
        /// The next of them.
        partitions: Vec<PartitionSpan>,
        /// Whether more come behind these.
        more: bool,
    },
    /// The topic was deleted: nothing more comes of this partition, which is one of several.
    Gone {
        /// As it was named with its records.
        partition: u32,
    },
    /// The subscription's modules fail and are let alone for a while; its backlog is kept. Or they judge again.
    Faulted {
        /// Why; `None`: they judge again.
        fault: Option<String>,
    },
    /// The acks up to this number are stored.
    Settled {
        /// Number of the newest ack that is stored.
        ack: u64,
    },
    /// The subscription ends here, and why. Nothing follows.
    Ended(WireError),
}

/// From the consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The broker may send so many bytes more.
    Credit {
        /// Added to what is left.
        bytes: u64,
    },
    /// Everything below these offsets is done.
    Ack {
        /// Rises by 1 with each ack of this stream; answered by [`Delivery::Settled`].
        ack: u64,
        /// The partition as deliveries name it, and the next offset wanted.
        next: Vec<(u32, Offset)>,
    },
}

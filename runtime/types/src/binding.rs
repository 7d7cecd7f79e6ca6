//! What judges a subscription's records: modules and their settings, one revision after the other.

use serde::{Deserialize, Serialize};

use crate::{Offset, Timestamp, TopicName};

/// A module bound to a place in a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// `std/NAME`, `NAME@VERSION`, `NAME` (newest) or `sha256:HEX`.
    pub module: String,
    /// Its configuration: a JSON text; `{}` for none.
    pub config: String,
}

/// What happens when a module fails on a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFault {
    /// The record becomes a dead letter; where the subscription has none, as with [`Halt`](Self::Halt).
    #[default]
    DeadLetter,
    /// The record is counted as faulted and passed over.
    Skip,
    /// The subscription stops in front of the record and keeps its backlog.
    Halt,
}

impl OnFault {
    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead-letter",
            Self::Skip => "skip",
            Self::Halt => "halt",
        }
    }
}

/// What judges a subscription's records from one binding to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Counted from 1.
    pub number: u64,
    /// The modules, in order, without their configurations.
    pub modules: Vec<String>,
    /// What happens when one fails.
    pub on_fault: OnFault,
    /// When it was bound, ms since the Unix epoch.
    pub bound_ms: Timestamp,
}

/// What is to become of the modules of a subscription that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebinding {
    /// Others take over, or the same with other settings.
    To {
        /// The modules, in order; `None`: as they are.
        pipeline: Option<Vec<Binding>>,
        /// What happens when one fails; `None`: as it is.
        on_fault: Option<OnFault>,
    },
    /// What was bound before takes over again.
    Back {
        /// Which revision; `None`: the last that had other modules.
        to: Option<u64>,
    },
    /// These judge the same records as well, and what they would do otherwise is told; nothing comes of their verdicts.
    Shadow {
        /// The modules, in order.
        pipeline: Vec<Binding>,
    },
    /// Nothing is compared any more.
    EndShadow,
    /// What was compared takes over.
    Promote,
}

/// What modules that run beside a subscription's would do otherwise, since they were bound or the broker started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowInfo {
    /// The modules, in order.
    pub pipeline: Vec<Binding>,
    /// Records that both judged.
    pub compared: u64,
    /// Of those, records of which both made the same.
    pub same: u64,
    /// Records that were judged without it, since comparing was behind or failed.
    pub left_out: u64,
    /// Records of which they made different things, by what.
    pub changes: Vec<VerdictChange>,
    /// The first few of them.
    pub samples: Vec<VerdictSample>,
    /// Why nothing is compared now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Time inside its modules, ns.
    pub module_ns: u64,
}

/// Records of which two pipelines made different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictChange {
    /// What is made of them: `keep`, `drop`, `change`, `route`, `reject` or `fault`.
    pub from: String,
    /// What the other would make of them.
    pub to: String,
    /// How many.
    pub records: u64,
}

/// A record of which two pipelines made different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictSample {
    /// Where it is.
    pub topic: TopicName,
    /// Partition within the topic.
    pub partition: u32,
    /// In the partition.
    pub offset: Offset,
    /// What is made of it, in words, cut.
    pub from: String,
    /// What the other would make of it, in words, cut.
    pub to: String,
}

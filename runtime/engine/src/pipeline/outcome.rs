//! What came of running a batch through a pipeline.

use std::ops::Range;

use millstream_types::{Offset, RecordBatch, RecordView, TopicName};

use super::Counters;
use crate::{Fault, FaultKind};

/// What came of running records of a batch through a pipeline.
#[derive(Debug)]
pub struct Outcome {
    /// Indices of the records that are done: the first ones of those asked for, not always all.
    pub done: Range<usize>,
    /// What goes to the reader.
    pub delivery: Delivery,
    /// Records that a module rejected, by offset.
    pub rejects: Vec<Reject>,
    /// Records that no module could judge, by offset.
    pub faults: Vec<RecordFault>,
    /// Why the run ended before a record; `None` also where it only made a break.
    pub stop: Option<Stop>,
    /// What happened in this run.
    pub counters: Counters,
    pub(crate) routed: Vec<Routed>,
}

/// What goes to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// All records that are done, as they were.
    Untouched,
    /// None of them.
    Nothing,
    /// These, at the offsets of their sources; each batch no larger than a batch may be.
    Batches(Vec<RecordBatch>),
}

/// A record that a module rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Which record.
    pub offset: Offset,
    /// Which module of the pipeline.
    pub stage: usize,
    /// The module's own words.
    pub reason: String,
}

/// A record that a module could not judge, even alone and with a fresh instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFault {
    /// Which record.
    pub offset: Offset,
    /// Which module of the pipeline.
    pub stage: usize,
    /// Why.
    pub fault: Fault,
}

/// Why a run ended before a record that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// A module asks for the same records again, later.
    Retry {
        /// Which module of the pipeline.
        stage: usize,
        /// Its own words.
        text: String,
    },
    /// All instances are in use: again, soon.
    Busy {
        /// Which module of the pipeline.
        stage: usize,
    },
    /// A module cannot be instantiated or configured any more.
    Unusable {
        /// Which module of the pipeline.
        stage: usize,
        /// Why.
        fault: Fault,
    },
    /// Too many records in a row are at fault; the last of them is among the faults. After this, one more stops a run.
    FaultsInRow {
        /// Which module of the pipeline.
        stage: usize,
        /// The last fault.
        fault: Fault,
    },
}

impl Stop {
    pub(crate) fn from_fault(stage: usize, fault: Fault) -> Self {
        match fault.kind {
            FaultKind::Retry => Self::Retry { stage, text: fault.text },
            FaultKind::Busy => Self::Busy { stage },
            _ => Self::Unusable { stage, fault },
        }
    }
}

/// A record that goes to a topic.
#[derive(Debug, Clone, Copy)]
pub struct RoutedRecord<'a> {
    /// Where it goes.
    pub topic: &'a TopicName,
    /// Offset of the record it was made of: with it, an append can be done exactly once.
    pub source: Offset,
    /// The record; make [`RecordParts`](millstream_types::RecordParts) of it to append it.
    pub record: RecordView<'a>,
}

/// Records that go to topics.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) batch: RecordBatch,
    /// Index in the batch and topic of each, by source offset.
    pub(crate) entries: Vec<(usize, TopicName)>,
}

impl Outcome {
    /// Of the batches that it holds.
    pub fn bytes(&self) -> usize {
        let delivered = match &self.delivery {
            Delivery::Untouched | Delivery::Nothing => 0,
            Delivery::Batches(batches) => batches.iter().map(|batch| batch.as_bytes().len()).sum(),
        };
        delivered + self.routed.iter().map(|routed| routed.batch.as_bytes().len()).sum::<usize>()
    }

    /// The records that go to topics: by source offset, and of one source in the modules' order.
    pub fn routed(&self) -> impl Iterator<Item = RoutedRecord<'_>> {
        self.routed.iter().flat_map(|routed| {
            let view = routed.batch.view();
            routed.entries.iter().filter_map(move |(index, topic)| {
                let record = view.record(*index)?;
                Some(RoutedRecord { topic, source: record.offset, record })
            })
        })
    }
}

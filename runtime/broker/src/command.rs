//! The commands that change durable state. Time and ids come in with them.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use millstream_engine::{StateChanges, StateSize};
use millstream_store::{Compacted, Rewrite};
use millstream_types::{
    Compaction, ModuleName, Offset, OnFault, PartitionId, ProcessorChange, ProducerId, ProducerName,
    ProducerStamp, RecordBatch, Retention, SubscriptionName, Timestamp, TopicChange, TopicConfig, TopicName,
    UnstoredRecords,
};

use crate::{
    Error,
    bindings::PinnedBinding,
    ingest::Judged,
    rows::{CursorRow, ModuleRow, SubscriptionRow, TriedRow},
};

/// One change of durable state.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Appends a batch that was checked in full.
    Append { partition: PartitionId, batch: RecordBatch, now: Timestamp },
    /// Appends batches that were checked in full, all or none.
    AppendAll { batches: Vec<(PartitionId, RecordBatch)>, now: Timestamp },
    /// Appends what the modules on a topic's ingest made of a batch.
    AppendJudged { partition: PartitionId, judged: Judged, now: Timestamp },
    /// The same for several, all or none.
    AppendAllJudged { parts: Vec<(PartitionId, Judged)>, now: Timestamp },
    /// Creates a topic with modules on its ingest; one that is there must have the same.
    CreateJudgedTopic {
        name: TopicName,
        config: Box<TopicConfig>,
        pipeline: Vec<PinnedBinding>,
        now: Timestamp,
    },
    /// What the records of a topic go through before they are stored, from now on.
    SetIngest { name: TopicName, pipeline: Vec<PinnedBinding>, now: Timestamp },
    /// Gives the producer `name` its identity: `resume` if it has that still, with a new epoch if it begins `anew`; without
    /// `resume` a new epoch, and whoever had the name before is refused from then on. `id` is for a new name.
    OpenProducer { name: ProducerName, id: u64, resume: Option<ProducerId>, anew: bool },
    /// Forgets producers that have appended nothing since `before`.
    ExpireProducers { before: Timestamp },
    /// Creates a topic, or finds it there with the same settings.
    CreateTopic { name: TopicName, config: TopicConfig, now: Timestamp },
    /// Changes settings of a topic.
    UpdateTopic { name: TopicName, changes: Vec<TopicChange> },
    /// Lets the batches of a partition between its low watermark `from` and `to` go, as `retention` asks. Does nothing when
    /// that is no longer its low watermark or its topic's retention.
    RaiseLowWatermark {
        partition: PartitionId,
        retention: Retention,
        from: Offset,
        to: Offset,
        freed_bytes: u64,
        /// Records that compaction had deleted there.
        freed_holes: u64,
    },
    /// Replaces and deletes batches of a partition, as `compaction` asks. Does nothing when its low watermark is no longer `low`
    /// or its topic's setting another.
    Compact {
        partition: PartitionId,
        compaction: Compaction,
        low: Offset,
        compacted: Compacted,
        /// Those of the batches whose message ids may be remembered.
        identified: Vec<Offset>,
    },
    /// Deletes a topic with its records, and the subscriptions that read nothing else.
    DeleteTopic { name: TopicName },
    /// Stores a module: by name, or by its digest alone.
    PutModule { name: Option<ModuleName>, row: Box<ModuleRow>, wasm: Bytes },
    /// Deletes a named module that nothing binds.
    DeleteModule { name: ModuleName, now: Timestamp },
    /// An ephemeral subscription binds these modules: until it releases them they are not deleted.
    HoldModules { holder: SubscriptionName, pipeline: Vec<PinnedBinding> },
    /// The ephemeral subscription has ended. Modules without a name that only it bound go with it.
    ReleaseModules { holder: SubscriptionName },
    /// Creates a durable subscription, or finds it there with the same settings. Partitions without a cursor start at 0.
    CreateSubscription { row: Box<SubscriptionRow>, cursors: Vec<(PartitionId, CursorRow)> },
    /// Has `pipeline` judge the records of a durable subscription from now on, in place of revision `expected`: refused where
    /// that is no longer what does.
    Rebind {
        name: SubscriptionName,
        expected: u64,
        pipeline: Vec<PinnedBinding>,
        on_fault: OnFault,
        now: Timestamp,
    },
    /// Has modules run beside those of a durable subscription; `None` ends that.
    SetShadow { name: SubscriptionName, pipeline: Option<Vec<PinnedBinding>> },
    /// Deletes a durable subscription.
    DeleteSubscription { name: SubscriptionName },
    /// Settles records of a durable subscription, and notes which were delivered in vain.
    Settle { subscription: u32, settlements: Vec<(PartitionId, Settlement)> },
    /// Appends dead letters to a partition and settles the records of a subscription that they are made of.
    DeadLetter {
        subscription: u32,
        sources: Vec<(PartitionId, Offset)>,
        sink: PartitionId,
        letters: RecordBatch,
        now: Timestamp,
    },
    /// Settles dead letters of the subscription that keeps account of a dead-letter topic, with or without delivering
    /// again what they were made of.
    CloseLetters { subscription: u32, letters: Vec<Letter> },
    /// Appends what a subscription's modules emitted for the records of one source partition from `from` to `to`, once:
    /// refused unless everything before `from`, and nothing after it, has been routed. Records of `again` may lie before: they
    /// are refused unless they were dead letters that modules made.
    Route {
        /// `None` for an ephemeral subscription, which keeps no account.
        subscription: Option<u32>,
        partition: PartitionId,
        from: Offset,
        to: Offset,
        again: Vec<Offset>,
        outputs: Vec<(PartitionId, RecordBatch)>,
        now: Timestamp,
    },
    /// Changes a processor.
    ChangeProcessor { name: SubscriptionName, change: ProcessorChange },
    /// Does all that a processor made of the records of one source partition from `from` to `to`, once: refused unless `from`
    /// is the first that is not processed.
    Process(Box<Processed>),
}

/// What a processor made of records.
#[derive(Debug, Clone)]
pub(crate) struct Processed {
    pub(crate) processor: u32,
    pub(crate) partition: PartitionId,
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    /// For its sinks, and dead letters.
    pub(crate) outputs: Vec<(PartitionId, RecordBatch)>,
    /// What its state has more or less, and how much it holds then.
    pub(crate) changes: StateChanges,
    pub(crate) size: StateSize,
    pub(crate) now: Timestamp,
}

impl Command {
    /// What it counts against the commit backlog, bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        let payload = match self {
            Self::Append { batch, .. } => batch.as_bytes().len(),
            Self::AppendAll { batches, .. } => batches.iter().map(|(_, batch)| batch.as_bytes().len()).sum(),
            Self::AppendJudged { judged, .. } => judged.size_bytes(),
            Self::AppendAllJudged { parts, .. } => parts.iter().map(|(_, judged)| judged.size_bytes()).sum(),
            Self::PutModule { wasm, .. } => wasm.len(),
            Self::DeadLetter { letters, sources, .. } => letters.as_bytes().len() + sources.len() * 16,
            Self::Settle { settlements, .. } => {
                settlements.iter().map(|(_, settlement)| settlement.size_bytes()).sum()
            }
            Self::Compact { compacted, .. } => {
                let bytes = |rewrite: &Rewrite| rewrite.bytes.as_ref().map_or(0, Bytes::len) + 32;
                compacted.rewrites.iter().map(bytes).sum()
            }
            Self::CloseLetters { letters, .. } => letters.len() * 64,
            Self::Rebind { pipeline, .. }
            | Self::SetShadow { pipeline: Some(pipeline), .. }
            | Self::SetIngest { pipeline, .. }
            | Self::CreateJudgedTopic { pipeline, .. } => {
                pipeline.iter().map(|binding| binding.config.len()).sum()
            }
            Self::Route { outputs, .. } => outputs.iter().map(|(_, batch)| batch.as_bytes().len()).sum(),
            Self::Process(processed) => {
                let outputs = processed.outputs.iter().map(|(_, batch)| batch.as_bytes().len());
                let changes = processed.changes.iter();
                let changes =
                    changes.map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len) + 32);
                outputs.sum::<usize>() + changes.sum::<usize>()
            }
            _ => 0,
        };
        payload + crate::limits::COMMAND_BYTES
    }
}

/// What became of a subscription's records in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) done: Vec<Range<Offset>>,
    pub(crate) tried: Vec<(Offset, TriedRow)>,
}

impl Settlement {
    /// The records of `range` are done.
    pub(crate) fn done(range: Range<Offset>) -> Self {
        Self { done: vec![range], tried: Vec::new() }
    }

    fn size_bytes(&self) -> usize {
        let texts = self.tried.iter().map(|(_, row)| row.error.as_ref().map_or(0, String::len));
        self.done.len() * 64 + self.tried.len() * 128 + texts.sum::<usize>()
    }
}

/// A dead letter, and the record that is to be delivered again for it: whose, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
    pub(crate) reopen: Option<(SubscriptionName, PartitionId, Offset)>,
    /// Whether modules made it, so that nothing of its record was routed.
    pub(crate) unrouted: bool,
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record that is stored.
    pub base_offset: Offset,
    /// Number of records, those included that are not stored.
    pub records: u32,
    /// When it was appended, ms since the Unix epoch.
    pub timestamp: Timestamp,
    /// Where each record stands, if some were appended before by their message ids, or modules made several of one; else empty,
    /// and those that are stored follow each other.
    pub offsets: Arc<[Offset]>,
    /// Records that the modules on the topic's ingest did not let be stored.
    pub unstored: UnstoredRecords,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to tell.
    Done,
    /// The batch is in.
    Appended(Appended),
    /// The batches are in.
    AllAppended(Vec<Appended>),
    /// The batch of this producer was in before; where is for the log to tell.
    Duplicate { partition: PartitionId, stamp: ProducerStamp, records: usize },
    /// The producer is this one now.
    Producer(ProducerId),
    /// The subscription has this id.
    Subscription(u32),
    /// So many.
    Count(u64),
}

/// Outcome of a command, once it is as durable as it must be.
pub(crate) type Reply = Result<Outcome, Error>;

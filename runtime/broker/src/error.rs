//! What the broker answers instead of doing what was asked. The mapping to wire codes is the server's.

use millstream_store::ReadError;
use millstream_types::{
    BatchError, DeliveryMode, ModuleName, Offset, SlowDown, SubscriptionName, Timestamp, TopicName, Unstored,
};

/// What the broker answers instead of doing what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No topic of that name.
    #[error("topic {0} does not exist; create it with `millstream topic create {0}`")]
    UnknownTopic(TopicName),
    /// The topic has other settings.
    #[error(
        "topic {0} exists with other settings: `millstream topic describe {0}` shows them; what it keeps can be changed with \
         `millstream topic update {0}`; else delete it first, or take another name"
    )]
    TopicExists(TopicName),
    /// Out of bounds.
    #[error("{partitions} partitions are asked for; a topic has 1 to {max}")]
    Partitions {
        /// As asked.
        partitions: u32,
        /// The limit.
        max: u32,
    },
    /// Its modules cannot be changed.
    #[error(
        "subscription {0} is ephemeral: its modules are its reader's, who can subscribe again with others"
    )]
    NotDurable(SubscriptionName),
    /// No such revision of a subscription's modules to go back to.
    #[error("{kind} {name} {}", no_revision(.wanted, .known))]
    NoSuchRevision {
        /// A subscription, or a processor.
        kind: &'static str,
        /// Its name.
        name: SubscriptionName,
        /// As asked; `None`: the one before.
        wanted: Option<u64>,
        /// Those that are kept.
        known: Vec<u64>,
    },
    /// Nothing runs beside its modules.
    #[error("subscription {0} has no shadow: start one with `millstream module shadow {0} --module REF`")]
    NoShadow(SubscriptionName),
    /// No such partition.
    #[error("topic {topic} has no partition {partition}: it has 0 to {last}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// As asked.
        partition: u32,
        /// Its highest partition.
        last: u32,
    },
    /// A batch that may not be appended.
    #[error("the batch is refused: {0}")]
    Batch(#[from] BatchError),
    /// The head of a published batch is not one.
    #[error("the batch is refused: {0}")]
    BadFrame(String),
    /// A produced batch whose offsets have holes.
    #[error("the batch is refused: offsets of a produced batch must run 0, 1, 2, ... from its base")]
    SparseBatch,
    /// A record that is to be delivered in a far future.
    #[error(
        "the batch is refused: a record is to be delivered at {deliver_at} (ms since 1970), and {last}, a year from now, is \
         the latest; publish it later"
    )]
    ScheduledTooFar {
        /// As asked, ms since the Unix epoch.
        deliver_at: Timestamp,
        /// The latest, ms since the Unix epoch.
        last: Timestamp,
    },
    /// A batch marked as another producer's.
    #[error(
        "the batch is refused: it is marked as producer {found}'s, but this stream is producer {expected}'s"
    )]
    WrongProducer {
        /// As marked.
        found: u64,
        /// As the stream was opened.
        expected: u64,
    },
    /// A producer of the same name has started since.
    #[error(
        "producer {id} was replaced: epoch {epoch} has taken over, and this one is of epoch {found}; only one producer of a \
         name may run at a time"
    )]
    ProducerFenced {
        /// The producer.
        id: u64,
        /// Its epoch now.
        epoch: u32,
        /// As marked.
        found: u32,
    },
    /// A batch is missing before this one.
    #[error(
        "the batch of producer {id} is refused: it begins with its record {found}, and the partition waits for {expected}; \
         send what is missing first, or begin anew"
    )]
    OutOfSequence {
        /// The producer.
        id: u64,
        /// As marked.
        found: u32,
        /// What would be appended.
        expected: u32,
    },
    /// Appended before, but no longer there.
    #[error(
        "the batch of producer {id} that begins with its record {sequence} was appended before, and is no longer in the log: \
         where it stood cannot be told"
    )]
    DuplicateGone {
        /// The producer.
        id: u64,
        /// As marked.
        sequence: u32,
    },
    /// Larger than allowed.
    #[error("{what} of {bytes} bytes exceeds the limit of {max} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Beyond the end.
    #[error("offset {offset} is beyond the end of topic {topic}, whose newest offset is below {end}")]
    OffsetOutOfRange {
        /// The topic.
        topic: TopicName,
        /// As asked.
        offset: Offset,
        /// One past the newest.
        end: Offset,
    },
    /// Start offsets for another number of partitions.
    #[error("{found} start offsets are given for {partitions} partitions; give one for each")]
    StartOffsets {
        /// As given.
        found: usize,
        /// As many as are needed.
        partitions: usize,
    },
    /// An offset means something in one topic alone.
    #[error(
        "a subscription to several topics cannot start at an offset; start at earliest, latest or a time"
    )]
    StartByOffset,
    /// No subscription of that name.
    #[error("subscription {0} does not exist; see `millstream subscription list`")]
    UnknownSubscription(SubscriptionName),
    /// No processor of that name.
    #[error("processor {0} does not exist; see `millstream processor list`")]
    UnknownProcessor(SubscriptionName),
    /// The subscription has other settings.
    #[error(
        "{kind} {name} exists with another {what}; delete it first, take another name, or go on with it as it is: see \
         `millstream {kind} describe {name}`"
    )]
    SubscriptionExists {
        /// A subscription, or a processor.
        kind: &'static str,
        /// Its name.
        name: SubscriptionName,
        /// What differs.
        what: &'static str,
    },
    /// Held by another consumer.
    #[error(
        "subscription {0} is exclusive and has a consumer already; stop that one, or take another name; one that was killed \
         is given up after 40 s at most"
    )]
    SubscriptionBusy(SubscriptionName),
    /// Read as a stream, which it is not.
    #[error(
        "subscription {name} is {mode}: its records are leased to its consumers one by one; read it as a worker \
         (`millstream work`, `Client::work`)"
    )]
    NotExclusive {
        /// Its name.
        name: SubscriptionName,
        /// Its delivery mode.
        mode: DeliveryMode,
    },
    /// It keeps account of dead letters.
    #[error(
        "subscription {0}: names that begin with `letters.` belong to the broker, which keeps account of dead letters with \
         them; take another name, or use `millstream dlq`"
    )]
    Account(SubscriptionName),
    /// Named as modules on a topic's ingest are in logs and metrics.
    #[error(
        "subscription {0}: by names that begin with `ingest.` the log and the metrics tell of modules on topics' ingests; take \
         another name"
    )]
    IngestName(SubscriptionName),
    /// Too many consumers.
    #[error(
        "subscription {name} has {consumers} consumers, its limit; stop some, or make another subscription"
    )]
    TooManyConsumers {
        /// Its name.
        name: SubscriptionName,
        /// How many.
        consumers: usize,
    },
    /// Nobody but the broker reads it.
    #[error(
        "{0} is a processor: the broker itself reads it; read the topics that it writes to, or take another name"
    )]
    IsProcessor(SubscriptionName),
    /// It has consumers, not a state.
    #[error("{0} is a subscription, not a processor; see `millstream processor list`")]
    NoProcessor(SubscriptionName),
    /// A processor's settings that cannot be.
    #[error("processor {name} is refused: {why}")]
    Processor {
        /// Its name.
        name: SubscriptionName,
        /// Why, and what to do.
        why: String,
    },
    /// A worker needs a name to share.
    #[error("a worker needs the name of a subscription: name one, it is created if there is none")]
    WorkerNeedsName,
    /// No name is left for its dead letters.
    #[error("{name} is too long a name for a subscription with dead letters: it has at most 243 bytes")]
    NameTooLong {
        /// Its name.
        name: SubscriptionName,
    },
    /// Out of bounds.
    #[error("the delivery settings are refused: {0}")]
    Delivery(#[from] millstream_types::DeliveryError),
    /// Dead letters would come back as records.
    #[error("subscription {0} cannot have its own topic as dead-letter topic; name another one")]
    DeadLettersToSource(SubscriptionName),
    /// There is nowhere for them to be.
    #[error("subscription {0} has no dead letters: it was created without a dead-letter topic")]
    NoDeadLetters(SubscriptionName),
    /// Deleted while it was read.
    #[error("subscription {0} was deleted")]
    SubscriptionDeleted(SubscriptionName),
    /// Deleted while it was read.
    #[error("topic {0} was deleted")]
    TopicDeleted(TopicName),
    /// A topic or subscription that a command was about was deleted while the command was on its way.
    #[error("the topic or subscription was deleted meanwhile")]
    Gone,
    /// Somebody else has routed or settled the records meanwhile; whoever meets this looks again.
    #[error("the records were routed or settled meanwhile")]
    Overtaken,
    /// An ack of what was not delivered.
    #[error(
        "offset {next} of partition {partition} cannot be acknowledged: only {scanned} was reached so far"
    )]
    AckBeyond {
        /// Partition within the topic.
        partition: u32,
        /// As acked.
        next: Offset,
        /// Where delivery stands.
        scanned: Offset,
    },
    /// No such module.
    #[error("module {0} does not exist; see `millstream module list`")]
    UnknownModule(String),
    /// The name is taken.
    #[error("module {0} exists with other content, and versions do not change; push it under a new version")]
    ModuleExists(ModuleName),
    /// The name was taken before it was deleted.
    #[error(
        "module {name} was deleted, and versions do not change: push it under a new version; only the bytes that it had, \
         sha256:{sha256}, may be pushed under this one again"
    )]
    ModuleDeleted {
        /// As asked.
        name: ModuleName,
        /// What it was, hexadecimal.
        sha256: String,
    },
    /// It is in use.
    #[error("module {name} is bound by {}", binders(told, *count, topics, *topic_count))]
    ModuleBound {
        /// The module.
        name: ModuleName,
        /// How many subscriptions bind it.
        count: usize,
        /// Some of them.
        told: Vec<SubscriptionName>,
        /// On the ingest of how many topics it is.
        topic_count: usize,
        /// Some of them.
        topics: Vec<TopicName>,
    },
    /// A name of several versions where one is needed.
    #[error("module {name} has {} versions: say which, {}", versions.len(), some(versions))]
    AmbiguousModule {
        /// As asked.
        name: String,
        /// Its versions, whole names.
        versions: Vec<ModuleName>,
    },
    /// It comes with the broker.
    #[error("module {0} comes with the broker and cannot be deleted")]
    StockModule(ModuleName),
    /// Without a name there is nothing to delete.
    #[error(
        "{0} cannot be deleted by its digest: delete it by its name, NAME@VERSION; a module without a name goes with the last \
         subscription that binds it"
    )]
    DeleteByDigest(String),
    /// Belongs to the broker.
    #[error("names under std/ belong to the broker; push {0} under another name")]
    ReservedName(ModuleName),
    /// It cannot be on a topic's ingest.
    #[error("module {module} cannot be on a topic's ingest: {cause}")]
    NotForIngest {
        /// As bound.
        module: String,
        /// Why.
        cause: String,
    },
    /// The modules on a topic's ingest fail on everything; nothing was stored.
    #[error(
        "topic {topic} takes no records for now: {fault}; publish again later (one record is tried now and then), or set other \
         modules with `millstream topic ingest {topic}`"
    )]
    IngestFaulted {
        /// The topic.
        topic: TopicName,
        /// Why.
        fault: String,
        /// When to try again.
        after_ms: u32,
    },
    /// Modules on a topic's ingest did not let a record of an atomic publish be stored; nothing was stored.
    #[error(
        "record {record} of batch {part} of the atomic publish, for topic {topic}, {}; nothing is stored",
        refused(why)
    )]
    RecordRefused {
        /// Which batch of the request, from 0.
        part: usize,
        /// Which record of it, from 0.
        record: u32,
        /// Its topic.
        topic: TopicName,
        /// Why.
        why: Unstored,
    },
    /// Cannot run here.
    #[error("the module is refused: {0}")]
    ModuleRefused(String),
    /// Says nothing of the module.
    #[error("the module cannot be compiled now: {0}: try again")]
    CompilerUnavailable(String),
    /// Not signed by anybody whom the operator trusts.
    #[error("{}is refused: {cause}", module.as_ref().map_or_else(|| "the module ".to_owned(), |name| format!("module {name} ")))]
    ModuleUntrusted {
        /// As bound; `None` when it is stored.
        module: Option<String>,
        /// Why.
        cause: millstream_engine::TrustError,
    },
    /// Its configuration is bad.
    #[error("module {module} refused its configuration: {cause}")]
    ConfigRefused {
        /// As bound.
        module: String,
        /// The module's words.
        cause: String,
    },
    /// As many instances as may be are in use.
    #[error("all module instances of this broker are in use; try again later, or bind fewer modules")]
    InstancesBusy,
    /// A module failed; the subscription stopped.
    #[error("{0}")]
    ModuleFault(String),
    /// Too much at once; nothing was done.
    #[error("slow down: {0}")]
    SlowDown(SlowDown),
    /// A publish rate at which nobody can work.
    #[error("the topic's settings are refused: {0}")]
    Rate(#[from] millstream_types::RateError),
    /// As many subscriptions as may be, of which some end by themselves.
    #[error(
        "the broker has {found} subscriptions, its limit subscriptions_max; end some, or raise the limit"
    )]
    TooManySubscriptions {
        /// How many.
        found: usize,
    },
    /// A limit of the broker.
    #[error("the broker has {found} {what}, its limit; delete some, or raise the limit")]
    LimitReached {
        /// What there are too many of.
        what: &'static str,
        /// How many.
        found: usize,
    },
    /// A stored batch is damaged.
    #[error("topic {topic}, partition {partition}: the stored batch at offset {offset} is damaged: {cause}")]
    CorruptBatch {
        /// The topic.
        topic: TopicName,
        /// Partition within the topic.
        partition: u32,
        /// Base offset of the batch.
        offset: Offset,
        /// What is wrong with it.
        cause: BatchError,
    },
    /// A row is damaged.
    #[error("a stored {kind} cannot be read: {cause}")]
    DamagedRow {
        /// What kind of row.
        kind: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Read(String),
    /// A write failed: it may or may not be there after a restart.
    #[error("the outcome of the write is unknown: {0}")]
    OutcomeUnknown(String),
    /// The broker is going down.
    #[error("the broker is shutting down")]
    Stopping,
    /// No randomness or threads: a fault of the machine.
    #[error("internal error: {0}")]
    Internal(String),
}

fn binders(told: &[SubscriptionName], count: usize, topics: &[TopicName], topic_count: usize) -> String {
    let names = |told: Vec<String>, count: usize| {
        let more = if count > told.len() { ", ..." } else { "" };
        format!("{}{more}", told.join(", "))
    };
    let mut by = Vec::new();
    if count > 0 {
        let what = if count == 1 { "subscription" } else { "subscriptions" };
        let them = if count == 1 { "it" } else { "them" };
        let names = names(told.iter().map(ToString::to_string).collect(), count);
        by.push(format!(
            "{count} {what}, {names}; bind another module there with `millstream module bind`, or delete {them} first"
        ));
    }
    if topic_count > 0 {
        let what = if topic_count == 1 { "topic" } else { "topics" };
        let names = names(topics.iter().map(ToString::to_string).collect(), topic_count);
        by.push(format!(
            "the ingest of {what} {names}; set other modules there with `millstream topic ingest`, or none with --none"
        ));
    }
    by.join("; and by ")
}

fn refused(why: &Unstored) -> String {
    match why {
        Unstored::Dropped => "was dropped".to_owned(),
        Unstored::Rejected { module, reason } => format!("was rejected by module {module}: {reason}"),
        Unstored::Faulted { module, cause } => {
            format!("was not judged, since module {module} failed on it: {cause}")
        }
    }
}

fn some(versions: &[ModuleName]) -> String {
    let shown: Vec<_> = versions.iter().take(5).map(ToString::to_string).collect();
    format!("{}{}", shown.join(", "), if versions.len() > shown.len() { ", ..." } else { "" })
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Read(error.to_string())
    }
}

fn no_revision(wanted: &Option<u64>, known: &[u64]) -> String {
    let known: Vec<_> = known.iter().map(u64::to_string).collect();
    match (wanted, known.is_empty()) {
        (_, true) => "has had no other modules than these: there is nothing to go back to".to_owned(),
        (Some(wanted), false) => {
            format!("has no earlier revision {wanted}; kept are {}", known.join(", "))
        }
        (None, false) => format!("cannot go back; kept are {}", known.join(", ")),
    }
}

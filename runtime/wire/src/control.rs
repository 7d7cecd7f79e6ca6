//! The first frame of every stream, requests and their answers.

use millstream_types::{
    DeadLetters, DeliveryConfig, ModuleLogFilter, ModuleName, Offset, ProcessorChange, ProcessorConfig,
    ProducerId, ProducerName, Rebinding, SubscriptionName, TopicName, TopicPattern,
};
use serde::{Deserialize, Serialize};

use crate::{
    Binding, ModuleInfo, OnFault, Receipt, ServerInfo, StartAt, Subscribe, SubscriptionInfo, TopicChange,
    TopicConfig, TopicInfo, WireError, Work,
};

/// The first frame of a stream, from the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Open {
    /// On the first stream of a connection.
    Hello(Hello),
    /// One request, one answer.
    Request(Request),
    /// Batches up, receipts down.
    Publish {
        /// Where the batches go.
        topic: TopicName,
        /// Whose identity the publisher takes over, from then on alone; without a name it gets one of its own.
        #[serde(default)]
        producer: Option<ProducerName>,
        /// The identity that it was given before, to go on after a lost connection.
        #[serde(default)]
        resume: Option<ProducerId>,
        /// That identity is given up for a new one, with which records are counted from 0.
        #[serde(default)]
        anew: bool,
    },
    /// Deliveries down, credit and acks up.
    Subscribe(Subscribe),
    /// Leased records down, what became of them up.
    Work(Work),
    /// Lines of modules down: `Answer<()>`, then each [`ModuleLogLine`](millstream_types::ModuleLogLine) in a frame.
    ModuleLog {
        /// Which are wanted.
        filter: ModuleLogFilter,
        /// So many of the last ones come first.
        last: u32,
        /// Whether those come that are written from then on; else the stream ends.
        follow: bool,
    },
}

/// Who connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Highest protocol version the client speaks.
    pub protocol: u32,
    /// Name and version of the client, for logs.
    pub client: String,
    /// Optional parts of the protocol that the client knows.
    #[serde(default)]
    pub features: Vec<String>,
}

/// Who answers, and what holds on this connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Protocol version of this connection.
    pub protocol: u32,
    /// Identity of the broker's data directory.
    pub node: String,
    /// Version of the broker.
    pub version: String,
    /// Largest record batch, bytes.
    pub batch_bytes_max: u64,
    /// Largest module, bytes.
    pub module_bytes_max: u64,
    /// Optional parts of the protocol that both know.
    #[serde(default)]
    pub features: Vec<String>,
}

/// A request; the module of [`Request::PutModule`] is the frame's body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Answered by [`Response::Done`].
    Ping,
    /// Answered by [`Response::Server`].
    Info,
    /// Answered by [`Response::Topic`]. Creating a topic again with the same settings changes nothing.
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// Its settings.
        config: TopicConfig,
        /// What its records go through before they are stored. Of a topic that is there, none says nothing of it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ingest: Vec<Binding>,
    },
    /// Answered by [`Response::Topic`]. What records go through before they are stored, from now on; none: nothing.
    SetIngest {
        /// Which topic.
        name: TopicName,
        /// The modules, in order.
        pipeline: Vec<Binding>,
    },
    /// Answered by [`Response::Topic`]. Changes settings of a topic that is in use, all or none.
    UpdateTopic {
        /// Which.
        name: TopicName,
        /// What is to become of it; later ones win.
        changes: Vec<TopicChange>,
    },
    /// Answered by [`Response::Topics`].
    ListTopics,
    /// Answered by [`Response::Topic`].
    DescribeTopic {
        /// Which.
        name: TopicName,
    },
    /// Answered by [`Response::Done`]. Its records go with it, and the subscriptions that read nothing else.
    DeleteTopic {
        /// Which.
        name: TopicName,
    },
    /// Answered by [`Response::Receipts`], one for each part. The frame's body holds the parts' batches, one behind the
    /// other, without a producer's mark. All are appended or none.
    PublishAtomically {
        /// What the body holds.
        parts: Vec<AtomicPart>,
    },
    /// Answered by [`Response::Module`]. Without a name the module is private: it can be bound by its digest and goes
    /// with the last subscription that binds it.
    PutModule {
        /// `NAME@VERSION`.
        name: Option<ModuleName>,
    },
    /// Answered by [`Response::Modules`].
    ListModules,
    /// Answered by [`Response::Module`].
    DescribeModule {
        /// `std/NAME`, `NAME@VERSION`, `NAME` (newest) or `sha256:HEX`.
        reference: String,
    },
    /// Answered by [`Response::Module`], with the component as the frame's body.
    GetModule {
        /// As for [`Request::DescribeModule`].
        reference: String,
    },
    /// Answered by [`Response::Done`]. Refused while a subscription or a topic's ingest binds it.
    DeleteModule {
        /// `NAME@VERSION`, or `NAME` if that has one version.
        reference: String,
    },
    /// Answered by [`Response::Subscription`]. Creating one again with the same settings changes nothing.
    CreateSubscription {
        /// Its name.
        name: SubscriptionName,
        /// What it reads: a topic, or all that a pattern means, those included that are made later.
        topic: TopicPattern,
        /// Where it starts.
        from: StartAt,
        /// What judges its records.
        pipeline: Vec<Binding>,
        /// What happens when a module fails.
        #[serde(default)]
        on_fault: OnFault,
        /// How it delivers.
        #[serde(default)]
        delivery: DeliveryConfig,
    },
    /// Answered by [`Response::Subscription`]. Creating one again with the same settings changes nothing. It is listed,
    /// described, rebound and deleted as a subscription.
    CreateProcessor {
        /// Its name.
        name: SubscriptionName,
        /// What it reads, where what it makes goes, and how much it remembers.
        config: ProcessorConfig,
        /// Where it starts.
        from: StartAt,
        /// What it does to its records; one of the modules may keep a state.
        pipeline: Vec<Binding>,
        /// What happens when a module fails.
        #[serde(default)]
        on_fault: OnFault,
        /// Where its dead letters go.
        #[serde(default)]
        dead_letters: DeadLetters,
    },
    /// Answered by [`Response::Subscription`].
    ChangeProcessor {
        /// Which.
        name: SubscriptionName,
        /// What of it.
        change: ProcessorChange,
    },
    /// Answered by [`Response::Done`], with the entries as records of a batch, the frame's body, where there are any: at most
    /// `limit`, and about 1 MiB.
    ProcessorState {
        /// Which.
        name: SubscriptionName,
        /// What their keys start with.
        #[serde(default)]
        prefix: Vec<u8>,
        /// Behind which key they come.
        #[serde(default)]
        after: Option<Vec<u8>>,
        /// How many.
        limit: u32,
    },
    /// Answered by [`Response::Subscriptions`].
    ListSubscriptions,
    /// Answered by [`Response::Subscription`].
    DescribeSubscription {
        /// Which; ephemeral ones have the name that [`Subscribed`](crate::Subscribed) told.
        name: SubscriptionName,
    },
    /// Answered by [`Response::Subscription`]. Has other modules judge the records of a durable subscription that is in use.
    Rebind {
        /// Which.
        name: SubscriptionName,
        /// What is to become of its modules.
        rebinding: Rebinding,
    },
    /// Answered by [`Response::Done`]. Its consumer, if any, is told.
    DeleteSubscription {
        /// Which.
        name: SubscriptionName,
    },
    /// Answered by [`Response::DeadLetters`], with a record batch as the frame's body where there are any.
    DeadLetters {
        /// Whose.
        subscription: SubscriptionName,
        /// Partition of the dead-letter topic.
        partition: u32,
        /// Where to look on.
        from: Offset,
    },
    /// Answered by [`Response::Count`]: so many letters were closed. Those that are closed already are passed over.
    CloseDeadLetters {
        /// Whose.
        subscription: SubscriptionName,
        /// Partition of the dead-letter topic and offset of each.
        letters: Vec<(u32, Offset)>,
        /// Whether the records they were made of are delivered to the subscription again; a letter whose record is gone
        /// is left then.
        redrive: bool,
    },
}

/// A batch of [`Request::PublishAtomically`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtomicPart {
    /// Where it goes.
    pub topic: TopicName,
    /// Partition within the topic.
    pub partition: u32,
    /// Of the batch.
    pub bytes: u32,
}

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It is done.
    Done,
    /// The broker.
    Server(ServerInfo),
    /// One topic.
    Topic(TopicInfo),
    /// All topics, by name.
    Topics(Vec<TopicInfo>),
    /// One module.
    Module(ModuleInfo),
    /// All modules, by name and version.
    Modules(Vec<ModuleInfo>),
    /// One subscription.
    Subscription(Box<SubscriptionInfo>),
    /// All subscriptions, by name.
    Subscriptions(Vec<SubscriptionInfo>),
    /// Dead letters, of those that are neither sent back nor purged.
    DeadLetters {
        /// Where they are.
        topic: TopicName,
        /// Its partitions.
        partitions: u32,
        /// Where to look on in the partition; nothing more is there at `end`.
        next: Offset,
        /// One past the newest letter of the partition.
        end: Offset,
    },
    /// So many.
    Count(u64),
    /// Where batches stand, in the order of the request.
    Receipts(Vec<Receipt>),
}

/// The first frame of a stream from the broker: what was asked for, or why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It worked.
    Ok(T),
    /// It did not.
    Err(WireError),
}

impl<T> From<Result<T, WireError>> for Answer<T> {
    fn from(result: Result<T, WireError>) -> Self {
        match result {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Err(error),
        }
    }
}

impl<T> From<Answer<T>> for Result<T, WireError> {
    fn from(answer: Answer<T>) -> Self {
        match answer {
            Answer::Ok(value) => Ok(value),
            Answer::Err(error) => Err(error),
        }
    }
}

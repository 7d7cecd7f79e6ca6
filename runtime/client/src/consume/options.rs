//! What to subscribe to, and how.

use bytes::Bytes;
use millstream_types::{Binding, OnFault, StartAt, SubscriptionName, TopicPattern};
use sha2::{Digest, Sha256};

/// What to subscribe to, and how.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// What to read: a topic, or all that a pattern means, those included that are made later.
    pub topic: TopicPattern,
    /// Durable subscription to resume, or to create if there is none; without a name an ephemeral one, which keeps
    /// its place as long as this consumer lives.
    pub name: Option<SubscriptionName>,
    /// Where a new subscription starts; a durable one that exists goes on where it was.
    pub from: StartAt,
    /// Modules that judge the records, in order. `None` takes an existing subscription as it is; else it must be the
    /// same.
    pub pipeline: Option<Vec<Binding>>,
    /// What happens when a module fails.
    pub on_fault: OnFault,
    /// Most bytes delivered and not yet taken by the application.
    pub credit_bytes: u64,
    /// Ends when the records are consumed that were there when it started.
    pub until_end: bool,
    /// Modules of the pipeline to be uploaded before each subscribing.
    pub(super) uploads: Vec<Bytes>,
}

impl SubscribeOptions {
    /// A subscription that lives as long as its consumer, from the earliest record on.
    pub fn ephemeral(topic: impl Into<TopicPattern>) -> Self {
        Self {
            topic: topic.into(),
            name: None,
            from: StartAt::Earliest,
            pipeline: None,
            on_fault: OnFault::default(),
            credit_bytes: 4 << 20,
            until_end: false,
            uploads: Vec::new(),
        }
    }

    /// A subscription that keeps its place, from the earliest record on if it is new.
    pub fn durable(topic: impl Into<TopicPattern>, name: SubscriptionName) -> Self {
        Self { name: Some(name), ..Self::ephemeral(topic) }
    }

    /// The same, starting elsewhere.
    #[must_use]
    pub fn from(mut self, from: StartAt) -> Self {
        self.from = from;
        self
    }

    /// The same with one more module of the registry: `std/NAME`, `NAME@VERSION`, `NAME` (newest) or `sha256:HEX`,
    /// and its configuration, a JSON text.
    #[must_use]
    pub fn with_module(mut self, module: impl Into<String>, config: impl Into<String>) -> Self {
        let binding = Binding { module: module.into(), config: config.into() };
        self.pipeline.get_or_insert_default().push(binding);
        self
    }

    /// The same with one more module that is for this subscription alone, and its configuration, a JSON text.
    #[must_use]
    pub fn with_private_module(mut self, wasm: Bytes, config: impl Into<String>) -> Self {
        let module = format!("sha256:{}", hex::encode(Sha256::digest(&wasm)));
        self.uploads.push(wasm);
        self.with_module(module, config)
    }

    /// The same, ending at the end as it is when the subscription starts.
    #[must_use]
    pub fn until_end(mut self) -> Self {
        self.until_end = true;
        self
    }
}

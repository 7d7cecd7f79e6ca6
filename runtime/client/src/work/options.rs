//! What to work on, and how.

use bytes::Bytes;
use millstream_types::{
    Binding, DeliveryConfig, DeliveryMode, OnFault, StartAt, SubscriptionName, TopicPattern,
};
use sha2::{Digest, Sha256};

/// What to work on, and how.
#[derive(Debug, Clone)]
pub struct WorkOptions {
    /// What to read: a topic, or all that a pattern means, those included that are made later.
    pub topic: TopicPattern,
    /// Durable subscription to join, or to create if there is none.
    pub name: SubscriptionName,
    /// Where a new subscription starts; one that exists goes on where it was.
    pub from: StartAt,
    /// Modules that judge the records, in order. `None` takes an existing subscription as it is; else it must be the
    /// same.
    pub pipeline: Option<Vec<Binding>>,
    /// What happens when a module fails.
    pub on_fault: OnFault,
    /// How it delivers. `None` takes an existing subscription as it is, and creates a shared one; else it must be the same.
    pub delivery: Option<DeliveryConfig>,
    /// Most records held unsettled, those included that wait here to be taken.
    pub records: u32,
    /// Most bytes held unsettled; the last record may exceed them.
    pub bytes: u64,
    /// Modules of the pipeline to be uploaded before each joining.
    pub(super) uploads: Vec<Bytes>,
}

impl WorkOptions {
    /// Joins a subscription as it is; where there is none, a shared one is created, from the earliest record on.
    pub fn new(topic: impl Into<TopicPattern>, name: SubscriptionName) -> Self {
        Self {
            topic: topic.into(),
            name,
            from: StartAt::Earliest,
            pipeline: None,
            on_fault: OnFault::default(),
            delivery: None,
            records: 1_000,
            bytes: 8 << 20,
            uploads: Vec::new(),
        }
    }

    /// The same, delivering by `mode`, with the defaults otherwise.
    #[must_use]
    pub fn mode(self, mode: DeliveryMode) -> Self {
        self.delivery(DeliveryConfig::of(mode))
    }

    /// The same, delivering so.
    #[must_use]
    pub fn delivery(mut self, delivery: DeliveryConfig) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// The same, holding at most so many records.
    #[must_use]
    pub fn records(mut self, records: u32) -> Self {
        self.records = records;
        self
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
}

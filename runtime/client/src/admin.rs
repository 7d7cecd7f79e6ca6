//! Requests: topics, modules, subscriptions, the broker itself. One method a request.
//!
//! None of them is cancel-safe in the strict sense: a request that was dropped may still be done.

use bytes::Bytes;
use millstream_types::{
    Binding, Check, DeliveryConfig, ModuleInfo, ModuleName, Offset, OnFault, Rebinding, RecordBatch, StartAt,
    SubscriptionInfo, SubscriptionName, TopicChange, TopicConfig, TopicInfo, TopicName, TopicPattern,
};
use millstream_wire::{Request, Response, ServerInfo};
use sha2::{Digest as _, Sha256};

use crate::{CallError, Client};

macro_rules! expect {
    ($self:ident, $request:expr, $body:expr, $wanted:pat => $value:expr) => {
        match $self.request($request, $body).await? {
            $wanted => Ok($value),
            other => Err(mismatch(&other)),
        }
    };
}

/// A durable subscription to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    /// Its name.
    pub name: SubscriptionName,
    /// What it reads.
    pub topic: TopicPattern,
    /// Where it starts.
    pub from: StartAt,
    /// What judges its records, in order.
    pub pipeline: Vec<Binding>,
    /// What happens when a module fails.
    pub on_fault: OnFault,
    /// How it delivers.
    pub delivery: DeliveryConfig,
}

/// Dead letters of one partition of a dead-letter topic.
#[derive(Debug, Clone)]
pub struct DeadLetterPage {
    /// Where they are.
    pub topic: TopicName,
    /// Its partitions.
    pub partitions: u32,
    /// The letters that are neither sent back nor purged; `None` when there are none up to `next`.
    pub letters: Option<RecordBatch>,
    /// Where to look on.
    pub next: Offset,
    /// One past the newest letter of the partition.
    pub end: Offset,
}

impl Client {
    /// Asks for a sign of life. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ping(&self) -> Result<(), CallError> {
        expect!(self, Request::Ping, Bytes::new(), Response::Done => ())
    }

    /// The broker as it stands. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn info(&self) -> Result<ServerInfo, CallError> {
        expect!(self, Request::Info, Bytes::new(), Response::Server(info) => info)
    }

    /// Creates a topic; one that exists with the same settings is left as it is. If cancelled, it may still be created.
    ///
    /// # Errors
    /// [`CallError::Refused`] when it exists with other settings.
    pub async fn create_topic(&self, name: TopicName, config: TopicConfig) -> Result<TopicInfo, CallError> {
        self.create_judged_topic(name, config, Vec::new()).await
    }

    /// Creates a topic with modules on its ingest, which every record goes through before it is stored; one that exists with the same
    /// settings is left as it is, and without modules here, whatever it has there. If cancelled, it may still be created.
    ///
    /// # Errors
    /// [`CallError::Refused`] when it exists with other settings, or a module cannot be bound there.
    pub async fn create_judged_topic(
        &self,
        name: TopicName,
        config: TopicConfig,
        ingest: Vec<Binding>,
    ) -> Result<TopicInfo, CallError> {
        let request = Request::CreateTopic { name, config, ingest };
        expect!(self, request, Bytes::new(), Response::Topic(info) => info)
    }

    /// Has the records of a topic in use go through modules before they are stored, from now on; none: they go by. If cancelled,
    /// they may still be set.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is no topic of that name, or a module cannot be bound there; then nothing changes.
    pub async fn set_ingest(&self, name: TopicName, pipeline: Vec<Binding>) -> Result<TopicInfo, CallError> {
        let request = Request::SetIngest { name, pipeline };
        expect!(self, request, Bytes::new(), Response::Topic(info) => info)
    }

    /// Changes settings of a topic that is in use. If cancelled, they may still be changed.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none of that name.
    pub async fn update_topic(
        &self,
        name: TopicName,
        changes: Vec<TopicChange>,
    ) -> Result<TopicInfo, CallError> {
        let request = Request::UpdateTopic { name, changes };
        expect!(self, request, Bytes::new(), Response::Topic(info) => info)
    }

    /// All topics, by name. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_topics(&self) -> Result<Vec<TopicInfo>, CallError> {
        expect!(self, Request::ListTopics, Bytes::new(), Response::Topics(topics) => topics)
    }

    /// A topic with its partitions. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none of that name.
    pub async fn describe_topic(&self, name: TopicName) -> Result<TopicInfo, CallError> {
        expect!(self, Request::DescribeTopic { name }, Bytes::new(), Response::Topic(info) => info)
    }

    /// Deletes a topic with its records, and the subscriptions that read nothing else. If cancelled, it may still be deleted.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none of that name.
    pub async fn delete_topic(&self, name: TopicName) -> Result<(), CallError> {
        expect!(self, Request::DeleteTopic { name }, Bytes::new(), Response::Done => ())
    }

    /// Stores a module in the registry. The same name with the same bytes changes nothing. If cancelled, it may still
    /// be stored.
    ///
    /// # Errors
    /// [`CallError::Refused`] when the bytes are not a module, or the name has other bytes.
    pub async fn put_module(&self, name: ModuleName, wasm: Bytes) -> Result<ModuleInfo, CallError> {
        let request = Request::PutModule { name: Some(name) };
        expect!(self, request, wasm, Response::Module(info) => info)
    }

    /// Stores a module without a name: it is bound by its [`ModuleInfo::name`], `sha256:HEX`, and goes with the last
    /// subscription that binds it. If cancelled, it may still be stored.
    ///
    /// # Errors
    /// [`CallError::Refused`] when the bytes are not a module.
    pub async fn put_private_module(&self, wasm: Bytes) -> Result<ModuleInfo, CallError> {
        expect!(self, Request::PutModule { name: None }, wasm, Response::Module(info) => info)
    }

    /// All modules, by name and version. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_modules(&self) -> Result<Vec<ModuleInfo>, CallError> {
        expect!(self, Request::ListModules, Bytes::new(), Response::Modules(modules) => modules)
    }

    /// One module: `std/NAME`, `NAME@VERSION`, `NAME` (newest) or `sha256:HEX`. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none.
    pub async fn describe_module(&self, reference: impl Into<String>) -> Result<ModuleInfo, CallError> {
        let request = Request::DescribeModule { reference: reference.into() };
        expect!(self, request, Bytes::new(), Response::Module(info) => info)
    }

    /// The component of a module, checked against its digest. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none; [`CallError::Protocol`] when other bytes came.
    pub async fn get_module(&self, reference: impl Into<String>) -> Result<(ModuleInfo, Bytes), CallError> {
        let (response, wasm) = self.fetch(Request::GetModule { reference: reference.into() }).await?;
        let Response::Module(info) = response else { return Err(mismatch(&response)) };
        let found = hex::encode(Sha256::digest(&wasm));
        if found != info.sha256 {
            let text = format!("module {} is sha256:{}, and sha256:{found} came", info.name, info.sha256);
            return Err(CallError::Protocol(text));
        }
        Ok((info, wasm))
    }

    /// Deletes a module: `NAME@VERSION`, or `NAME` if that has one version. Its name may then mean the same bytes again,
    /// and no others. If cancelled, it may still be deleted.
    ///
    /// # Errors
    /// [`CallError::Refused`] while a subscription binds it, or when there is none.
    pub async fn delete_module(&self, reference: impl Into<String>) -> Result<(), CallError> {
        let request = Request::DeleteModule { reference: reference.into() };
        expect!(self, request, Bytes::new(), Response::Done => ())
    }

    /// Creates a durable subscription; one that exists with the same settings is left as it is. If cancelled, it may
    /// still be created.
    ///
    /// # Errors
    /// [`CallError::Refused`] when it exists with other settings, or a module or its configuration is refused.
    pub async fn create_subscription(&self, new: NewSubscription) -> Result<SubscriptionInfo, CallError> {
        let NewSubscription { name, topic, from, pipeline, on_fault, delivery } = new;
        let request = Request::CreateSubscription { name, topic, from, pipeline, on_fault, delivery };
        expect!(self, request, Bytes::new(), Response::Subscription(info) => *info)
    }

    /// All subscriptions, by name, ephemeral ones included. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_subscriptions(&self) -> Result<Vec<SubscriptionInfo>, CallError> {
        let request = Request::ListSubscriptions;
        expect!(self, request, Bytes::new(), Response::Subscriptions(subscriptions) => subscriptions)
    }

    /// One subscription with its positions and counters. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none of that name.
    pub async fn describe_subscription(&self, name: SubscriptionName) -> Result<SubscriptionInfo, CallError> {
        let request = Request::DescribeSubscription { name };
        expect!(self, request, Bytes::new(), Response::Subscription(info) => *info)
    }

    /// Has other modules judge the records of a durable subscription that is in use, or run beside to be compared. They are
    /// tried out before; records that are being judged are judged to their end by those before. If cancelled, they may
    /// take over all the same.
    ///
    /// # Errors
    /// [`CallError::Refused`] when a module or its configuration is refused, there is no such subscription or it is
    /// ephemeral, or there is nothing to go back to or to promote.
    pub async fn rebind(
        &self,
        name: SubscriptionName,
        rebinding: Rebinding,
    ) -> Result<SubscriptionInfo, CallError> {
        let request = Request::Rebind { name, rebinding };
        expect!(self, request, Bytes::new(), Response::Subscription(info) => *info)
    }

    /// Deletes a subscription; its consumer, if any, is told. If cancelled, it may still be deleted.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none of that name.
    pub async fn delete_subscription(&self, name: SubscriptionName) -> Result<(), CallError> {
        expect!(self, Request::DeleteSubscription { name }, Bytes::new(), Response::Done => ())
    }

    /// Dead letters of a subscription, from `from` on in a partition of its dead-letter topic. If cancelled, nothing is
    /// lost.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is no such subscription, or it has no dead letters.
    pub async fn dead_letters(
        &self,
        subscription: SubscriptionName,
        partition: u32,
        from: Offset,
    ) -> Result<DeadLetterPage, CallError> {
        let (response, body) = self.fetch(Request::DeadLetters { subscription, partition, from }).await?;
        let Response::DeadLetters { topic, partitions, next, end } = response else {
            return Err(mismatch(&response));
        };
        let letters = (!body.is_empty()).then(|| RecordBatch::new(body, Check::Full)).transpose();
        let letters = letters.map_err(|error| CallError::Protocol(error.to_string()))?;
        Ok(DeadLetterPage { topic, partitions, letters, next, end })
    }

    /// Has the records that dead letters were made of delivered to the subscription again, and closes the letters. Those
    /// that are closed already, or whose record is gone, are passed over. How many were sent back. If cancelled, they
    /// may be all the same.
    ///
    /// # Errors
    /// As [`dead_letters`](Self::dead_letters).
    pub async fn redrive(
        &self,
        subscription: SubscriptionName,
        letters: Vec<(u32, Offset)>,
    ) -> Result<u64, CallError> {
        let request = Request::CloseDeadLetters { subscription, letters, redrive: true };
        expect!(self, request, Bytes::new(), Response::Count(count) => count)
    }

    /// Closes dead letters: they are listed no more. How many were closed. If cancelled, they may be all the same.
    ///
    /// # Errors
    /// As [`dead_letters`](Self::dead_letters).
    pub async fn purge(
        &self,
        subscription: SubscriptionName,
        letters: Vec<(u32, Offset)>,
    ) -> Result<u64, CallError> {
        let request = Request::CloseDeadLetters { subscription, letters, redrive: false };
        expect!(self, request, Bytes::new(), Response::Count(count) => count)
    }
}

pub(crate) fn mismatch(found: &Response) -> CallError {
    let kind = match found {
        Response::Done => "done",
        Response::Server(_) => "a broker",
        Response::Topic(_) => "a topic",
        Response::Topics(_) => "topics",
        Response::Module(_) => "a module",
        Response::Modules(_) => "modules",
        Response::Subscription(_) => "a subscription",
        Response::Subscriptions(_) => "subscriptions",
        Response::DeadLetters { .. } => "dead letters",
        Response::Count(_) => "a number",
        Response::Receipts(_) => "receipts",
    };
    CallError::Protocol(format!("{kind} was answered to another request"))
}

//! The Rust client of Millstream: publish, subscribe, administer.
//!
//! ```no_run
//! use futures_core::Stream;
//! use millstream_client::{Client, ConnectOptions, PublishOptions, Record, SubscribeOptions, TopicName};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "millstream://127.0.0.1:7433?ca=data/ca.pem".parse()?;
//! let client = Client::connect(&url, ConnectOptions::default()).await?;
//!
//! let orders: TopicName = "orders".parse()?;
//! let publisher = client.publisher(orders.clone(), PublishOptions::default()).await?;
//! let receipt = publisher.publish(Record::new("hello").with_key("customer-7")).await?.await?;
//! println!("stored at offset {} of partition {}", receipt.offset, receipt.partition);
//!
//! let mut consumer = client.subscribe(SubscribeOptions::durable(orders, "billing".parse()?)).await?;
//! while let Some(message) = consumer.next_message().await {
//!     let message = message?;
//!     println!("{:?}", message.payload());
//!     consumer.ack(&message);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`] keeps one connection, made anew when it is lost, and makes the requests.
//! - [`Publisher`] gathers records into batches and awaits their receipts; each is stored once.
//! - [`Consumer`] is a `Stream` of messages, or of batches; what is acknowledged is not delivered again.
//! - [`Worker`] is one of several consumers that share a subscription; it settles message by message.
//!
//! Everything runs on the tokio runtime that the call was made in.

mod admin;
mod backoff;
mod client;
mod connect;
mod consume;
mod error;
mod keep;
mod limits;
mod module_log;
mod place;
mod processor;
mod publish;
mod stream;
mod tls;
mod url;
mod work;

pub use admin::{DeadLetterPage, NewSubscription};
pub use backoff::Reconnect;
pub use client::Client;
pub use connect::ConnectOptions;
pub use consume::{Acker, Consumer, Delivery, Event, Message, SubscribeOptions};
pub use error::{CallError, ConnectError, ConsumeError, Lost, PublishError};
pub use millstream_types::{
    BatchBuilder, Binding, Compaction, Compression, DeadLetters, DeliveryConfig, DeliveryMode, Durability,
    Header, IngestInfo, ModuleInfo, ModuleLogFilter, ModuleLogLevel, ModuleLogLine, ModuleMetrics,
    ModuleName, ModuleSigner, ModuleUsage, Offset, OnFault, PartitionInfo, ProcessorConfig, ProcessorInfo,
    ProducerName, PublishLimit, PublishRate, Rebinding, Record, RecordBatch, RecordView, Retention, Revision,
    ShadowInfo, SlowDown, StartAt, SubscriptionInfo, SubscriptionName, Timestamp, TopicChange, TopicConfig,
    TopicInfo, TopicName, TopicPartition, TopicPattern, Unstored, UnstoredRecords,
};
pub use millstream_wire::{ErrorCode, PartitionSpan, Receipt, ServerInfo, Welcome, WireError};
pub use module_log::ModuleLog;
pub use place::Place;
pub use processor::NewProcessor;
pub use publish::{Pending, PendingBatch, PublishCounts, PublishOptions, Publisher, RecordReceipt};
pub use url::{Trust, Url, UrlError};
pub use work::{Leased, Settled, Settler, WorkOptions, Worker};

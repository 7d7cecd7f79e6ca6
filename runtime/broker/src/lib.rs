//! The core of the broker: the shard state machine, its group commit, topics, subscriptions and delivery.
//!
//! Every durable change is a command (`command.rs`) applied by one thread, the committer, to the shard (`shard.rs`): a
//! state machine without clock, randomness or I/O. Readers pull from the store; what wakes
//! them is an offset, never a record. Nothing here knows of sockets.

mod admission;
mod append;
mod bindings;
mod breaker;
mod broker;
mod catalog;
mod command;
mod committer;
mod compaction;
mod dead_letter;
mod error;
mod fetch;
mod group;
mod ingest;
mod judging;
mod lane;
mod limits;
mod member;
mod message_ids;
mod processing;
mod processors;
mod producers;
mod pump;
mod rate;
mod reading;
mod rebinding;
mod receipts;
mod recover;
mod registry;
mod retention;
mod routing;
mod rows;
mod scan;
mod settled;
mod shadow;
mod shard;
mod sources;
mod start_at;
mod subscribing;
mod subscription;
mod tail;
mod topic;
mod upkeep;
mod usage;

pub use admission::{Allowance, Room};
pub use append::PendingAppend;
pub use broker::{Broker, OpenError, Settings, StockModule};
pub use command::Appended;
pub use dead_letter::FoundLetters;
pub use error::Error;
pub use group::{Said, Verdict, Window};
pub use limits::Limits;
pub use member::{Granted, Member};
pub use reading::{Next, Reading};
pub use sources::Place;
pub use subscription::{NewSubscription, Subscription};
pub use tail::ModuleLog;
pub use topic::Topic;

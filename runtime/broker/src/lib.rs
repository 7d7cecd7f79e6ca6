//! The core of the broker: the shard state machine, its group commit, topics, subscriptions and delivery.
//!
//! Every durable change is a command (`command.rs`) applied by one thread, the committer, to the shard (`shard.rs`): a
//! state machine without clock, randomness or I/O. Readers pull from the store; what wakes
//! them is an offset, never a record. Nothing here knows of sockets.

mod append;
mod broker;
mod catalog;
mod command;
mod committer;
mod error;
mod fetch;
mod lane;
mod limits;
mod producers;
mod reading;
mod registry;
mod retention;
mod routing;
mod rows;
mod shard;
mod subscription;
mod topic;

pub use append::PendingAppend;
pub use broker::{Broker, OpenError, Settings, StockModule};
pub use command::Appended;
pub use error::Error;
pub use limits::Limits;
pub use reading::{Reading, Step};
pub use subscription::{NewSubscription, Subscription};
pub use topic::Topic;

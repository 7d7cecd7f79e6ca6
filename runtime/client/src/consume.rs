//! Consuming: deliveries down one stream, credit and acks up, and all of it again after a reconnect.

mod acks;
mod consumer;
mod inbox;
mod message;
mod options;
mod task;

pub use consumer::{Acker, Consumer};
pub use inbox::{Delivery, Event};
pub use message::Message;
pub use options::SubscribeOptions;

//! How a service says something about an order once, however often it is asked to.

use std::collections::HashSet;

use millstream_client::{Client, ProducerName, PublishOptions, Publisher, Record};
use tokio::sync::Mutex;

use crate::{Error, order::OrderId, topics};

/// Publishes to one topic, and knows what it has said.
///
/// Two things together make it once: the publisher stores once what it has taken, also when the connection is lost and
/// records are sent again; and what it has taken is noted here, so that nobody hands it over twice. In a service of
/// its own process this is the outbox table of its database.
pub(crate) struct Outbox {
    publisher: Publisher,
    said: Mutex<HashSet<(OrderId, &'static str)>>,
}

/// Whether something was done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// For the first time.
    Now,
    /// It had been done before: the message came again.
    Before,
    /// There was nothing to do.
    Nothing,
}

impl Outbox {
    /// To `topic`, as the producer `name`: one that still lives elsewhere under that name is refused from now on.
    pub(crate) async fn open(
        client: &Client,
        topic: &'static str,
        name: &'static str,
    ) -> Result<Self, Error> {
        let name: ProducerName = name.parse().expect("the names of the services are good");
        let options = PublishOptions { producer: Some(name), ..PublishOptions::default() };
        let publisher = client.publisher(topics::topic(topic), options).await?;
        Ok(Self { publisher, said: Mutex::default() })
    }

    /// Says `what` about an order, with `record`; returns once that is stored. Cancel-safe: it may be said all the
    /// same, and is then not said again.
    pub(crate) async fn say(
        &self,
        order: OrderId,
        what: &'static str,
        record: Record,
    ) -> Result<Done, Error> {
        let mut said = self.said.lock().await;
        if said.contains(&(order, what)) {
            drop(said);
            // Whoever said it may have died before the receipt came; only what is stored may be acknowledged.
            self.publisher.flush().await?;
            return Ok(Done::Before);
        }
        let receipt = self.publisher.publish(record).await?;
        // No await since it was taken: a worker that dies leaves both done, or none.
        said.insert((order, what));
        drop(said);
        receipt.await?;
        Ok(Done::Now)
    }
}

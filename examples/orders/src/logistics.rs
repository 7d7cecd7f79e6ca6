//! Logistics: sends express orders by courier. Sees nothing else, since a filter in the broker holds it back.

use std::sync::atomic::{AtomicU64, Ordering};

use millstream_client::{Client, Leased};

use crate::{
    Error,
    outbox::{Done, Outbox},
    service::{Failure, Service},
    status::{EXPRESS, LOGISTICS, Status, Update},
    topics,
};

/// The service. Idempotent since the outbox is all that it changes: a courier leaves with the word that it left.
pub(crate) struct Logistics {
    outbox: Outbox,
    strange: AtomicU64,
}

impl Logistics {
    pub(crate) async fn open(client: &Client) -> Result<Self, Error> {
        let outbox = Outbox::open(client, topics::STATUS, topics::LOGISTICS_DESK).await?;
        Ok(Self { outbox, strange: AtomicU64::new(0) })
    }

    /// Messages that came although they are not for couriers.
    pub(crate) fn strange(&self) -> u64 {
        self.strange.load(Ordering::Relaxed)
    }
}

impl Service for Logistics {
    async fn handle(&self, message: &Leased) -> Result<Done, Failure> {
        if message.header(LOGISTICS) != Some(EXPRESS.as_bytes()) {
            self.strange.fetch_add(1, Ordering::Relaxed);
            return Ok(Done::Nothing);
        }
        let order = Update::read(message)?.order;
        let id = order.id;
        let record = Update { status: Status::Shipped, order }.record()?;
        Ok(self.outbox.say(id, Status::Shipped.as_str(), record).await?)
    }
}

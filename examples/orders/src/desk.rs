//! The desk: joins what stock and payment say of an order, and decides what becomes of it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use millstream_client::{Client, Leased};
use tokio::sync::watch;

use crate::{
    Error,
    event::{Event, Kind},
    order::{Order, OrderId},
    outbox::{Done, Outbox},
    service::{Failure, Service},
    status::{Status, Update},
    topics,
};

/// The service. Idempotent since a case is a set of facts, to which the same fact adds nothing; what follows from them is
/// the same each time, and the outboxes say it once.
pub(crate) struct Desk {
    cases: Mutex<HashMap<OrderId, Case>>,
    finals: Mutex<HashSet<OrderId>>,
    ended: watch::Sender<u64>,
    updates: Outbox,
    events: Outbox,
}

/// What the desk knows of an order.
#[derive(Debug, Clone, Copy, Default)]
struct Case {
    stock: Option<Status>,
    payment: Option<Status>,
}

/// What follows.
enum Next {
    Tell(Status),
    /// One of the two did something that is to be undone.
    Undo,
    Nothing,
}

impl Desk {
    pub(crate) async fn open(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            cases: Mutex::default(),
            finals: Mutex::default(),
            ended: watch::Sender::new(0),
            updates: Outbox::open(client, topics::STATUS, topics::DESK).await?,
            events: Outbox::open(client, topics::ORDERS, "desk-events").await?,
        })
    }

    /// How many orders have come to their end.
    pub(crate) fn ended(&self) -> u64 {
        *self.ended.borrow()
    }

    /// Notes the fact, and says what follows from all that is known.
    fn decide(&self, status: Status, order: &Order) -> Next {
        let mut cases = lock(&self.cases);
        let case = cases.entry(order.id).or_default();
        match status {
            Status::Reserved | Status::SoldOut => case.stock = Some(status),
            Status::Paid | Status::Declined => case.payment = Some(status),
            Status::Released | Status::Refunded => return Next::Tell(Status::Cancelled),
            // Our own words, and those of logistics.
            Status::Ready | Status::Shipped | Status::Posted | Status::Cancelled => return Next::Nothing,
        }
        match (case.stock, case.payment) {
            (Some(Status::Reserved), Some(Status::Paid)) if order.express => Next::Tell(Status::Ready),
            (Some(Status::Reserved), Some(Status::Paid)) => Next::Tell(Status::Posted),
            (Some(Status::SoldOut), Some(Status::Declined)) => Next::Tell(Status::Cancelled),
            (Some(_), Some(_)) => Next::Undo,
            _ => Next::Nothing,
        }
    }

    fn end(&self, order: OrderId) -> Done {
        let mut finals = lock(&self.finals);
        if !finals.insert(order) {
            return Done::Before;
        }
        self.ended.send_replace(finals.len() as u64);
        Done::Now
    }
}

impl Service for Desk {
    async fn handle(&self, message: &Leased) -> Result<Done, Failure> {
        let Update { status, order } = Update::read(message)?;
        let id = order.id;
        if status.is_final() {
            return Ok(self.end(id));
        }
        Ok(match self.decide(status, &order) {
            Next::Tell(status) => {
                let record = Update { status, order }.record()?;
                self.updates.say(id, status.as_str(), record).await?
            }
            Next::Undo => {
                let event = Event { kind: Kind::Cancelled, order };
                self.events.say(id, event.kind.as_str(), event.record()?).await?
            }
            Next::Nothing => Done::Nothing,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

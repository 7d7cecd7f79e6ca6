//! Payment: has the bank take the money for orders, and give it back when an order is cancelled.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use millstream_client::{Client, Leased};

use crate::{
    Error,
    bank::{Answer, Bank},
    event::{Event, Kind},
    order::{Order, OrderId},
    outbox::{Done, Outbox},
    service::{Failure, Service},
    status::{Status, Update},
    topics,
};

/// The service. Idempotent since its ledger knows what the bank answered for each order: the bank is not asked again, and
/// the outbox does not say it again.
pub(crate) struct Payment {
    bank: Bank,
    ledger: Mutex<Ledger>,
    outbox: Outbox,
}

/// What the bank answered. In a process of its own this is a database; and since a process may die between the bank's
/// answer and its writing, it would ask with the order as the bank's idempotency key.
#[derive(Default)]
struct Ledger {
    decided: HashMap<OrderId, Status>,
    refunded: HashSet<OrderId>,
}

impl Payment {
    pub(crate) async fn open(client: &Client) -> Result<Self, Error> {
        let outbox = Outbox::open(client, topics::STATUS, topics::PAYMENT).await?;
        Ok(Self { bank: Bank::default(), ledger: Mutex::default(), outbox })
    }

    pub(crate) fn bank(&self) -> &Bank {
        &self.bank
    }

    /// The answer of the bank, which is asked until it gives one, and not again.
    fn charge(&self, order: &Order) -> Result<Status, Failure> {
        let mut ledger = self.ledger();
        if let Some(decided) = ledger.decided.get(&order.id) {
            return Ok(*decided);
        }
        let answer = self.bank.charge(order);
        let decided = match answer.map_err(|_| Failure::Later("the bank cannot be reached".to_owned()))? {
            Answer::Charged => Status::Paid,
            Answer::Declined => Status::Declined,
        };
        ledger.decided.insert(order.id, decided);
        Ok(decided)
    }

    /// Gives the money back, once; `None` where none was taken.
    fn refund(&self, order: &Order) -> Option<Status> {
        let mut ledger = self.ledger();
        if ledger.decided.get(&order.id) != Some(&Status::Paid) {
            return None;
        }
        if ledger.refunded.insert(order.id) {
            self.bank.refund(order);
        }
        Some(Status::Refunded)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Payment {
    async fn handle(&self, message: &Leased) -> Result<Done, Failure> {
        let Event { kind, order } = Event::read(message)?;
        let status = match kind {
            Kind::Created => Some(self.charge(&order)?),
            Kind::Cancelled => self.refund(&order),
        };
        let Some(status) = status else { return Ok(Done::Nothing) };
        let id = order.id;
        let record = Update { status, order }.record()?;
        Ok(self.outbox.say(id, status.as_str(), record).await?)
    }
}

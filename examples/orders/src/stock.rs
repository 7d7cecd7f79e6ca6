//! Stock: puts pieces aside for orders, and back when an order is cancelled.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use millstream_client::{Client, Leased};

use crate::{
    Error,
    article::Article,
    event::{Event, Kind},
    order::{Order, OrderId},
    outbox::{Done, Outbox},
    service::{Failure, Service},
    status::{Status, Update},
    topics,
};

/// The service. Idempotent since the shelves know each order that they were asked about, and the outbox what it said.
pub(crate) struct Stock {
    shelves: Mutex<Shelves>,
    outbox: Outbox,
}

/// What is there, and for whom. In a process of its own this is a database, and each method one transaction.
struct Shelves {
    left: BTreeMap<Article, u32>,
    decided: HashMap<OrderId, Status>,
    released: HashMap<OrderId, u32>,
}

impl Stock {
    /// With these pieces on the shelves.
    pub(crate) async fn open(client: &Client, left: BTreeMap<Article, u32>) -> Result<Self, Error> {
        let shelves = Shelves { left, decided: HashMap::new(), released: HashMap::new() };
        let outbox = Outbox::open(client, topics::STATUS, topics::STOCK).await?;
        Ok(Self { shelves: Mutex::new(shelves), outbox })
    }

    /// Pieces on the shelves.
    pub(crate) fn left(&self) -> BTreeMap<Article, u32> {
        self.shelves().left.clone()
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Stock {
    async fn handle(&self, message: &Leased) -> Result<Done, Failure> {
        let Event { kind, order } = Event::read(message)?;
        let status = match kind {
            Kind::Created => Some(self.shelves().reserve(&order)),
            Kind::Cancelled => self.shelves().release(&order),
        };
        let Some(status) = status else { return Ok(Done::Nothing) };
        let id = order.id;
        let record = Update { status, order }.record()?;
        Ok(self.outbox.say(id, status.as_str(), record).await?)
    }
}

impl Shelves {
    /// Takes the pieces, once: who asks again gets the answer of the first time.
    fn reserve(&mut self, order: &Order) -> Status {
        let Self { left, decided, .. } = self;
        *decided.entry(order.id).or_insert_with(|| {
            let left = left.entry(order.article).or_default();
            match left.checked_sub(order.pieces) {
                Some(rest) => {
                    *left = rest;
                    Status::Reserved
                }
                None => Status::SoldOut,
            }
        })
    }

    /// Puts the pieces back, once; `None` where none were taken.
    fn release(&mut self, order: &Order) -> Option<Status> {
        let Self { left, decided, released } = self;
        if decided.get(&order.id) != Some(&Status::Reserved) {
            return None;
        }
        released.entry(order.id).or_insert_with(|| {
            *left.entry(order.article).or_default() += order.pieces;
            order.pieces
        });
        Some(Status::Released)
    }
}

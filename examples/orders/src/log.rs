//! What was said of an order, read back from the topics; and which sequences are legal.

use std::collections::BTreeMap;

use millstream_client::{Client, Message, SubscribeOptions, Timestamp};

use crate::{
    Error,
    event::{Event, Kind},
    order::{Order, OrderId},
    status::{Status, Update},
    topics,
};

/// All that was said of an order.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// From its first event.
    pub(crate) order: Option<Order>,
    pub(crate) events: Vec<Kind>,
    pub(crate) statuses: Vec<Status>,
    pub(crate) created_ms: Timestamp,
    pub(crate) ended_ms: Timestamp,
}

/// Reads both topics from their beginning.
pub(crate) async fn read(client: &Client) -> Result<BTreeMap<OrderId, Log>, Error> {
    let mut logs: BTreeMap<OrderId, Log> = BTreeMap::new();
    for message in whole(client, topics::ORDERS).await? {
        let Event { kind, order } = Event::read(&message)?;
        let log = logs.entry(order.id).or_default();
        if kind == Kind::Created {
            log.created_ms = message.timestamp();
        }
        log.events.push(kind);
        log.order.get_or_insert(order);
    }
    for message in whole(client, topics::STATUS).await? {
        let Update { status, order } = Update::read(&message)?;
        let log = logs.entry(order.id).or_default();
        log.statuses.push(status);
        log.ended_ms = message.timestamp();
    }
    Ok(logs)
}

/// All that a topic holds now, each partition in order; an order's messages are all on one.
async fn whole(client: &Client, topic: &'static str) -> Result<Vec<Message>, Error> {
    let mut consumer =
        client.subscribe(SubscribeOptions::ephemeral(topics::topic(topic)).until_end()).await?;
    let mut messages = Vec::new();
    while let Some(message) = consumer.next_message().await {
        messages.push(message?);
    }
    consumer.close().await?;
    Ok(messages)
}

impl Log {
    /// How the order ended; `None` if it did not, or more than once.
    pub(crate) fn end(&self) -> Option<Status> {
        let mut finals = self.statuses.iter().filter(|status| status.is_final());
        finals.next().copied().filter(|_| finals.next().is_none())
    }

    /// How often a status was said.
    pub(crate) fn count(&self, status: Status) -> u32 {
        self.statuses.iter().map(|said| u32::from(*said == status)).sum()
    }

    /// Whether what was said is one of the sequences that there may be: written down here once more, and not asked of
    /// the services.
    pub(crate) fn is_legal(&self) -> bool {
        use Status::*;
        let Some(order) = &self.order else { return false };
        let [first, second, rest @ ..] = self.statuses.as_slice() else { return false };
        // Stock and payment work side by side: whichever is first.
        let (stock, payment) = match first {
            Reserved | SoldOut => (first, second),
            _ => (second, first),
        };
        let (legal, undone): (&[Status], bool) = match (stock, payment, order.express) {
            (Reserved, Paid, true) => (&[Ready, Shipped], false),
            (Reserved, Paid, false) => (&[Posted], false),
            (Reserved, Declined, _) => (&[Released, Cancelled], true),
            (SoldOut, Paid, _) => (&[Refunded, Cancelled], true),
            (SoldOut, Declined, _) => (&[Cancelled], false),
            _ => return false,
        };
        let events: &[Kind] = if undone { &[Kind::Created, Kind::Cancelled] } else { &[Kind::Created] };
        rest == legal && self.events == events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legal(express: bool, events: &[Kind], statuses: &[Status]) -> bool {
        let order = Order::numbered(100).find(|order| order.express == express);
        Log { order, events: events.to_vec(), statuses: statuses.to_vec(), ..Log::default() }.is_legal()
    }

    #[test]
    fn what_may_be_said_of_an_order() {
        use Status::*;
        let (created, undone) = (&[Kind::Created][..], &[Kind::Created, Kind::Cancelled][..]);
        assert!(legal(true, created, &[Paid, Reserved, Ready, Shipped]));
        assert!(legal(false, created, &[Reserved, Paid, Posted]));
        assert!(legal(true, undone, &[Declined, Reserved, Released, Cancelled]));
        assert!(legal(false, created, &[SoldOut, Declined, Cancelled]));
        for (what, express, events, statuses) in [
            ("not at its end", true, created, &[Paid, Reserved, Ready][..]),
            ("shipped before it was ready", true, created, &[Paid, Reserved, Shipped, Ready]),
            ("paid twice", false, created, &[Paid, Paid, Reserved, Posted]),
            ("posted twice", false, created, &[Paid, Reserved, Posted, Posted]),
            ("express by post", true, created, &[Paid, Reserved, Posted]),
            ("cancelled without a refund", false, undone, &[Paid, SoldOut, Cancelled]),
            ("undone without an event", false, created, &[Paid, SoldOut, Refunded, Cancelled]),
            ("created twice", false, &[Kind::Created, Kind::Created], &[Paid, Reserved, Posted]),
            ("nothing was said", false, created, &[]),
        ] {
            assert!(!legal(express, events, statuses), "{what}");
        }
    }
}

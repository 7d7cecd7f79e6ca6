//! The shop: takes orders and says so.

use millstream_client::{Client, PublishOptions};

use crate::{
    Error,
    event::{Event, Kind},
    order::Order,
    topics,
};

/// Publishes `order-created` for each order; how many are stored.
pub(crate) async fn place(client: &Client, orders: &[Order]) -> Result<u64, Error> {
    let producer = Some("shop".parse().expect("a good name"));
    let options = PublishOptions { producer, ..PublishOptions::default() };
    let publisher = client.publisher(topics::topic(topics::ORDERS), options).await?;
    for order in orders {
        let event = Event { kind: Kind::Created, order: order.clone() };
        // Its receipt comes with the flush.
        drop(publisher.publish(event.record()?).await?);
    }
    publisher.flush().await?;
    Ok(publisher.counts().records)
}

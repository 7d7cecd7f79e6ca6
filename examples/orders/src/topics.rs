//! Topics and subscriptions by name, and how each subscription delivers.

use millstream_client::{
    Binding, Client, DeadLetters, DeliveryConfig, DeliveryMode, NewSubscription, OnFault, StartAt,
    SubscriptionName, TopicConfig, TopicName, WorkOptions,
};

use crate::{
    Error,
    status::{EXPRESS, LOGISTICS},
};

/// Events of orders.
pub(crate) const ORDERS: &str = "orders";
/// Status updates.
pub(crate) const STATUS: &str = "order-status";
/// Order events that payment gave up.
pub(crate) const PAYMENT_LETTERS: &str = "payment-letters";

pub(crate) const STOCK: &str = "stock";
pub(crate) const PAYMENT: &str = "payment";
pub(crate) const DESK: &str = "desk";
pub(crate) const LOGISTICS_DESK: &str = "logistics";
/// All subscriptions.
pub(crate) const SUBSCRIPTIONS: [&str; 4] = [STOCK, PAYMENT, DESK, LOGISTICS_DESK];

const PARTITIONS: u32 = 4;
/// Deliveries of an order event before payment gives it up: the bank fails some orders twice, and a worker that dies
/// counts as a failure as well.
const TRIES: u32 = 4;
const BACKOFF_MS: [u32; 2] = [20, 80];
/// Messages that a worker holds: what a worker that dies leaves to the others.
const HELD: u32 = 32;

/// Makes the topics and the subscriptions.
pub(crate) async fn create(client: &Client) -> Result<(), Error> {
    for (name, partitions) in [(ORDERS, PARTITIONS), (STATUS, PARTITIONS), (PAYMENT_LETTERS, 1)] {
        client.create_topic(topic(name), TopicConfig { partitions, ..TopicConfig::default() }).await?;
    }
    for name in SUBSCRIPTIONS {
        client.create_subscription(new(name)).await?;
    }
    Ok(())
}

/// How a worker takes part in a subscription.
pub(crate) fn work(name: &'static str) -> WorkOptions {
    WorkOptions::new(reads(name), subscription(name)).records(HELD)
}

fn new(name: &'static str) -> NewSubscription {
    // By key: what concerns one order comes in order, and to one worker at a time.
    let mut delivery = DeliveryConfig {
        backoff_ms: BACKOFF_MS.to_vec(),
        tries: TRIES,
        ..DeliveryConfig::of(DeliveryMode::KeyShared)
    };
    if name == PAYMENT {
        delivery.dead_letters = DeadLetters::Topic(topic(PAYMENT_LETTERS));
    }
    let mut pipeline = Vec::new();
    if name == LOGISTICS_DESK {
        // A module in the broker: what is not for couriers is never sent to logistics.
        let config = format!(r#"{{"header": "{LOGISTICS}", "equals": "{EXPRESS}"}}"#);
        pipeline.push(Binding { module: "std/headers".to_owned(), config });
    }
    NewSubscription {
        name: subscription(name),
        topic: reads(name).into(),
        from: StartAt::Earliest,
        pipeline,
        on_fault: OnFault::Halt,
        delivery,
    }
}

fn reads(name: &'static str) -> TopicName {
    topic(if matches!(name, STOCK | PAYMENT) { ORDERS } else { STATUS })
}

pub(crate) fn topic(name: &'static str) -> TopicName {
    name.parse().expect("the names above are good")
}

pub(crate) fn subscription(name: &'static str) -> SubscriptionName {
    name.parse().expect("the names above are good")
}

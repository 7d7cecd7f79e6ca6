//! Flights published without pause while the broker is killed: each receipt is remembered, and looked up afterwards.

use std::{collections::HashMap, sync::Arc, time::Duration};

use millstream_client::{Client, ConnectOptions, Pending, PublishOptions, Record, TopicName, Url};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{Error, flights::Flights, reading::whole};

/// Records that may wait for their receipt.
const PENDING_MAX: usize = 10_000;
/// Receipts that the broker sent before its end have come by then.
const LAST_RECEIPTS: Duration = Duration::from_millis(300);

/// A publisher at work.
pub(crate) struct Live {
    client: Client,
    publishing: JoinHandle<()>,
    receiving: JoinHandle<Acknowledged>,
    stop: oneshot::Sender<()>,
}

/// Where each acknowledged record stands: partition and offset, to the row that it is.
pub(crate) type Acknowledged = HashMap<(u32, u64), usize>;

/// What became of the acknowledged records.
pub(crate) struct Found {
    /// As they were published.
    pub(crate) whole: u64,
    /// Records of the topic that had no receipt yet when the broker was killed.
    pub(crate) without_receipt: u64,
}

impl Live {
    /// Publishes the flights to `topic`, again and again; returns once `enough` are acknowledged.
    pub(crate) async fn start(
        url: &Url,
        topic: &TopicName,
        flights: &Arc<Flights>,
        enough: usize,
    ) -> Result<Self, Error> {
        let client = Client::connect(url, ConnectOptions::default()).await?;
        let publisher = client.publisher(topic.clone(), PublishOptions::default()).await?;
        let (sent, pending) = mpsc::channel(PENDING_MAX);
        let (reached, was_reached) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let rows = Arc::clone(flights);
        let publishing = tokio::spawn(async move {
            for (index, flight) in rows.rows.iter().enumerate().cycle() {
                let record = Record::new(flight.json.clone()).with_key(flight.carrier.clone());
                let Ok(receipt) = publisher.publish(record).await else { return };
                if sent.send((index, receipt)).await.is_err() {
                    return;
                }
            }
        });
        let receiving = tokio::spawn(receive(pending, reached, enough, stopped));
        // An error is that publishing failed: the count of acknowledged records shows it.
        let _ = was_reached.await;
        Ok(Self { client, publishing, receiving, stop })
    }

    /// What was acknowledged in all, once the broker is dead.
    pub(crate) async fn end(self) -> Acknowledged {
        tokio::time::sleep(LAST_RECEIPTS).await;
        // Fails only when the receiving has ended already.
        let _ = self.stop.send(());
        let acknowledged = self.receiving.await.unwrap_or_default();
        self.publishing.abort();
        // Else the client would go on trying to reach the broker, and send again what has no receipt.
        self.client.close().await;
        acknowledged
    }
}

async fn receive(
    mut pending: mpsc::Receiver<(usize, Pending)>,
    reached: oneshot::Sender<()>,
    enough: usize,
    mut stopped: oneshot::Receiver<()>,
) -> Acknowledged {
    let mut acknowledged = HashMap::new();
    let mut reached = Some(reached);
    while let Some((index, receipt)) = pending.recv().await {
        let receipt = tokio::select! {
            biased;
            receipt = receipt => receipt,
            _ = &mut stopped => break,
        };
        let Ok(receipt) = receipt else { break };
        acknowledged.insert((receipt.partition, receipt.offset), index);
        if acknowledged.len() >= enough
            && let Some(reached) = reached.take()
        {
            // Whoever waits has waited for this.
            let _ = reached.send(());
        }
    }
    acknowledged
}

/// Looks all of them up.
pub(crate) async fn look_up(
    client: &Client,
    topic: &TopicName,
    flights: &Flights,
    acknowledged: &Acknowledged,
) -> Result<Found, Error> {
    let mut consumer = whole(client, topic).await?;
    let mut found = Found { whole: 0, without_receipt: 0 };
    while let Some(delivery) = consumer.next_batch().await {
        let delivery = delivery?;
        for record in delivery.batch.view().records() {
            match acknowledged.get(&(delivery.place.partition(), record.offset)) {
                None => found.without_receipt += 1,
                Some(index) => {
                    let published = flights.rows.get(*index).map(|flight| flight.json.as_bytes());
                    found.whole += u64::from(published == record.payload);
                }
            }
        }
    }
    consumer.close().await?;
    Ok(found)
}

//! One worker of a service: takes messages, has them handled, settles them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use millstream_client::{Client, ConnectOptions, Url};
use tokio::sync::watch;

use crate::{
    Error,
    outbox::Done,
    service::{Failure, Service},
    tally::Tally,
    topics,
};

/// How a worker ended.
pub(crate) enum Ended {
    /// It was told to.
    Dismissed,
    /// In the middle of its work, with messages in its hands.
    Died,
}

/// Which of a service's workers dies, and when.
pub(crate) struct Fate {
    pub(crate) dies_at: Option<u64>,
    /// One is enough.
    pub(crate) struck: AtomicBool,
}

impl Fate {
    /// Whether the worker dies that has just done something, by message `number` of the service.
    fn strikes(&self, number: u64) -> bool {
        self.dies_at.is_some_and(|at| number >= at) && !self.struck.swap(true, Ordering::Relaxed)
    }
}

/// Works for the subscription `name` until `stop`, on a connection of its own as a process of its own would.
pub(crate) async fn run<S: Service>(
    name: &'static str,
    service: Arc<S>,
    url: Url,
    tally: Arc<Tally>,
    fate: Arc<Fate>,
    mut stop: watch::Receiver<bool>,
) -> Result<Ended, Error> {
    let client = Client::connect(&url, ConnectOptions::default()).await?;
    let mut worker = client.work(topics::work(name)).await?;
    loop {
        let message = tokio::select! {
            message = worker.next_message() => message,
            // An error is that the program is over.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some(message) = message.transpose()? else { break };
        let number = tally.delivered(message.deliveries() > 1);
        match service.handle(&message).await {
            Ok(Done::Now) if fate.strikes(number) => {
                // The worst moment: all is done, and the broker does not know. The connection ends without a word
                // about this message, or about those that wait here; they are for others now.
                client.close().await;
                return Ok(Ended::Died);
            }
            Ok(done) => {
                if done == Done::Before {
                    tally.without_change();
                }
                worker.ack(&message);
            }
            Err(Failure::Later(reason)) => {
                tally.retry();
                worker.nack(&message, reason);
            }
            Err(Failure::Broken(error)) => return Err(error),
        }
    }
    worker.close().await?;
    client.close().await;
    Ok(Ended::Dismissed)
}

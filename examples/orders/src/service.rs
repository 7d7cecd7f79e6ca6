//! A service: what handles messages, and the workers that it does so with.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicBool},
};

use millstream_client::{Leased, Url};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Error,
    outbox::Done,
    tally::Tally,
    worker::{self, Ended, Fate},
};

/// What handles the messages of a subscription.
pub(crate) trait Service: Send + Sync + 'static {
    /// Does what the message asks for, and returns once what follows from it is stored. May be called again with the
    /// same message, and must then change nothing.
    fn handle(&self, message: &Leased) -> impl Future<Output = Result<Done, Failure>> + Send;
}

/// Why a message could not be handled.
pub(crate) enum Failure {
    /// It may go better later.
    Later(String),
    /// The service cannot go on.
    Broken(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// The workers of a service.
pub(crate) struct Crew {
    /// Name of the subscription.
    pub(crate) name: &'static str,
    pub(crate) workers: usize,
    /// The worker dies that changes something by this message of the service, or by one that comes after.
    pub(crate) dies_at: Option<u64>,
    pub(crate) tally: Arc<Tally>,
}

impl Crew {
    /// Works until `stop`. A worker that dies is replaced by another.
    pub(crate) async fn run<S: Service>(
        &self,
        service: &Arc<S>,
        url: &Url,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let fate = Arc::new(Fate { dies_at: self.dies_at, struck: AtomicBool::new(false) });
        let mut workers = JoinSet::new();
        let start = |workers: &mut JoinSet<_>| {
            let (service, tally, fate) = (Arc::clone(service), Arc::clone(&self.tally), Arc::clone(&fate));
            workers.spawn(worker::run(self.name, service, url.clone(), tally, fate, stop.clone()));
        };
        (0..self.workers).for_each(|_| start(&mut workers));
        while let Some(ended) = workers.join_next().await {
            let panicked = |error: tokio::task::JoinError| Error::Worker {
                service: self.name,
                reason: error.to_string(),
            };
            match ended.map_err(panicked)?? {
                Ended::Dismissed => {}
                Ended::Died => {
                    self.tally.killed();
                    start(&mut workers);
                }
            }
        }
        Ok(())
    }
}

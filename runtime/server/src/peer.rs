//! What the streams of one connection share: what they may publish, and how many there may be.

use std::sync::Arc;

use millstream_broker::Allowance;
use millstream_wire::WireError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{limits::RETRY_AFTER_MS, session::Context};

/// One end of a connection.
pub(crate) struct Peer {
    pub(crate) allowance: Allowance,
    streams: Arc<Semaphore>,
    streams_max: usize,
}

impl Peer {
    pub(crate) fn new(context: &Context) -> Self {
        let streams_max = context.config.streams_max;
        Self {
            allowance: Allowance::new(&context.config.broker),
            streams: Arc::new(Semaphore::new(streams_max)),
            streams_max,
        }
    }

    /// A place for a stream that stays; requests need none, so that they are always answered.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, WireError> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let max = self.streams_max;
            let text = format!(
                "slow down: this connection has {max} publishers and consumers, its limit streams_max; close some, or use \
                 another connection"
            );
            WireError::slow_down(text, RETRY_AFTER_MS).with_value(max.to_string())
        })
    }
}

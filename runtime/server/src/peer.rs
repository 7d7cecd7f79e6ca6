//! A connection, and what its streams share: what they may publish, how many there may be, and whether the peer is there.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use millstream_broker::Allowance;
use millstream_wire::{CloseCode, WireError};
use quinn::{Connection, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{limits::RETRY_AFTER_MS, session::Context, vanished::Suspicion};

/// One end of a connection.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) allowance: Allowance,
    streams: Arc<Semaphore>,
    streams_max: usize,
    suspicion: Mutex<Suspicion>,
    /// How often it was asked whether it is there.
    probes: AtomicU32,
    vanished: AtomicBool,
}

impl Peer {
    pub(crate) fn new(connection: Connection, context: &Context) -> Self {
        let streams_max = context.config.streams_max;
        Self {
            connection,
            allowance: Allowance::new(&context.config.broker),
            streams: Arc::new(Semaphore::new(streams_max)),
            streams_max,
            suspicion: Mutex::default(),
            probes: AtomicU32::new(0),
            vanished: AtomicBool::new(false),
        }
    }

    /// Sends something that the peer answers if it is there.
    pub(crate) fn probe(&self) {
        millstream_quic::probe(
            &self.connection,
            self.probes.fetch_add(1, Ordering::Relaxed).saturating_add(1),
        );
    }

    /// Ends the connection of a peer that is gone: for its streams, it broke off.
    pub(crate) fn vanish(&self, code: CloseCode, reason: &str) {
        self.vanished.store(true, Ordering::Release);
        self.connection.close(VarInt::from_u32(code.code()), reason.as_bytes());
    }

    pub(crate) fn has_vanished(&self) -> bool {
        self.vanished.load(Ordering::Acquire)
    }

    pub(crate) fn suspicion(&self) -> MutexGuard<'_, Suspicion> {
        self.suspicion.lock().unwrap_or_else(PoisonError::into_inner)
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

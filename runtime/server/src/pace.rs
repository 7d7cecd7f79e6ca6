//! Holding a publisher back, and telling it so between its receipts.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use millstream_quic::FrameWriter;
use millstream_wire::{Pace, Receipts, SlowDown};
use tokio::sync::watch;

use crate::{session::Context, stream::StreamError};

/// Both ends of what a publisher is told.
pub(crate) fn pace(context: &Arc<Context>) -> (Brake, Notices) {
    let (sender, receiver) = watch::channel(None);
    (Brake { context: Arc::clone(context), sender }, Notices { receiver, told: None })
}

/// Where batches are taken: what holds them back is said here.
pub(crate) struct Brake {
    context: Arc<Context>,
    sender: watch::Sender<Option<SlowDown>>,
}

impl Brake {
    /// The publisher is held back.
    pub(crate) fn slow_down(&self, slow: SlowDown) {
        if self.sender.send_replace(Some(slow)).is_none() {
            self.context.slow_downs.fetch_add(1, Ordering::Relaxed);
            self.context.slowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It is not, or no longer.
    pub(crate) fn go_on(&self) {
        if self.sender.send_if_modified(|slow| slow.take().is_some()) {
            self.context.slowed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.sender.borrow().is_some()
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        self.go_on();
    }
}

/// Where receipts are written: what was said above goes out between them.
pub(crate) struct Notices {
    receiver: watch::Receiver<Option<SlowDown>>,
    told: Option<SlowDown>,
}

impl Notices {
    /// Waits for `wanted`, and writes what is to be told meanwhile. `None` when the publisher is held back and no longer
    /// listens.
    pub(crate) async fn until<T>(
        &mut self,
        wanted: impl Future<Output = T>,
        writer: &mut FrameWriter,
    ) -> Result<Option<T>, StreamError> {
        let mut wanted = std::pin::pin!(wanted);
        loop {
            let slowed = self.told.is_some();
            tokio::select! {
                biased;
                done = &mut wanted => return Ok(Some(done)),
                Ok(()) = self.receiver.changed() => {
                    let slow = *self.receiver.borrow_and_update();
                    // What was over before it could be told is not.
                    if slow != self.told {
                        self.told = slow;
                        let pace = Some(slow.map_or(Pace::GoOn, Pace::SlowDown));
                        writer.send(&Receipts { receipts: Vec::new(), pace }, Bytes::new()).await?;
                    }
                }
                () = writer.stopped(), if slowed => return Ok(None),
            }
        }
    }
}

//! The task behind a worker: takes records, sends what became of them, and opens the stream anew when it is lost.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::{Check, RecordBatch};
use millstream_wire::{Assignment, Joined, Open, Request, Work};
use tokio::time::{Instant, sleep_until};

use super::{options::WorkOptions, state::Arrived, worker::Shared};
use crate::{
    CallError, ConsumeError, Lost,
    client::request_on,
    connect::Link,
    keep::{Kept, keep},
    limits,
    place::Places,
    stream::{self, Opened},
};

/// Opens the stream, by one attempt. Cancel-safe.
pub(super) async fn open_stream(
    link: &Link,
    options: &WorkOptions,
    (records, bytes): (u32, u64),
) -> Result<Opened<Joined>, CallError> {
    for wasm in &options.uploads {
        request_on(link, Request::PutModule { name: None }, wasm.clone()).await?;
    }
    let connection = link.session().await?.connection;
    let open = Open::Work(Work {
        topic: options.topic.clone(),
        name: options.name.clone(),
        from: options.from.clone(),
        pipeline: options.pipeline.clone(),
        on_fault: options.on_fault,
        delivery: options.delivery.clone(),
        records,
        bytes,
    });
    let after = link.options().request_timeout;
    let opened = stream::open::<Joined>(&connection, &open, limits::DELIVERIES);
    tokio::time::timeout(after, opened).await.unwrap_or(Err(CallError::TimedOut { after }))
}

/// What the task keeps going.
struct Working {
    link: Arc<Link>,
    options: WorkOptions,
    shared: Arc<Shared>,
}

impl Kept for Working {
    type Answer = Joined;

    async fn open(&self) -> Result<Opened<Joined>, CallError> {
        let window = self.shared.state().window();
        open_stream(&self.link, &self.options, window).await
    }

    fn reopened(&self, _: &Joined) -> Result<(), CallError> {
        Ok(())
    }

    fn lost(&self, error: &CallError) {
        tracing::debug!(topic = %self.options.topic, %error, "worker stream lost");
        // The broker has given everything to others by now, or will soon.
        self.shared.state().reconnected();
        self.shared.settled.notify_waiters();
    }

    fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    async fn send(&self, writer: &mut FrameWriter, joined: &Joined) -> Result<(), ConsumeError> {
        send(&self.shared, writer, joined.lease_ms).await
    }

    async fn receive(&self, reader: &mut FrameReader) -> Result<(), ConsumeError> {
        receive(&self.shared, Places::of(&self.options.topic), reader).await
    }

    fn end(&self, error: ConsumeError) {
        self.shared.state().end(error);
        self.shared.settled.notify_waiters();
    }
}

/// Runs until the worker is dropped, the broker ends the subscription, or the broker is given up.
pub(super) async fn run(link: Arc<Link>, options: WorkOptions, shared: Arc<Shared>, first: Opened<Joined>) {
    let spell = link.spell();
    keep(Working { link, options, shared }, spell, first).await;
}

/// Sends what became of records; returns when the worker is dropped and all of that is stored.
async fn send(shared: &Shared, writer: &mut FrameWriter, lease_ms: u32) -> Result<(), ConsumeError> {
    let keep = Duration::from_millis(u64::from(lease_ms / 3).max(1));
    let mut looked = Instant::now();
    loop {
        let closing = shared.is_closed();
        if looked.elapsed() >= keep {
            looked = Instant::now();
            shared.state().keep_leases(lease_ms);
        }
        loop {
            let Some(control) = shared.state().next_message() else { break };
            let pushed = writer.push(&control, Bytes::new()).await;
            pushed.map_err(|error| CallError::from(Lost::from(error)))?;
        }
        writer.flush().await.map_err(|error| CallError::from(Lost::from(error)))?;
        if closing && shared.state().is_settled() {
            return Ok(());
        }
        tokio::select! {
            () = shared.wake.notified() => {}
            () = sleep_until(looked + keep) => {}
        }
    }
}

/// Takes records until the stream ends.
async fn receive(shared: &Shared, mut places: Places, reader: &mut FrameReader) -> Result<(), ConsumeError> {
    while let Some((frame, body)) = reader.next::<Assignment>().await.map_err(CallError::from)? {
        match frame {
            Assignment::Records { partition, of, lease, heard, more_follows, tried } => {
                let place = places.place(partition, of)?;
                let corrupt = |error| ConsumeError::Corrupt { place: place.clone(), error };
                let batch = RecordBatch::new(body, Check::Full)
                    .and_then(|batch| batch.decompressed())
                    .map_err(corrupt)?;
                let arrived =
                    Arrived { place, lease, more_follows, tried, batch, index: 0, left_out: BTreeSet::new() };
                shared.state().arrived(arrived, heard);
            }
            Assignment::Settled { number, stale } => {
                shared.state().settled(number, &stale);
                shared.settled.notify_waiters();
                shared.wake.notify_one();
            }
            Assignment::Faulted { fault } => drop(shared.faults.send_replace(fault)),
            Assignment::Ended(error) if error.retryable => return Err(CallError::Refused(error).into()),
            Assignment::Ended(error) => return Err(ConsumeError::Ended(error)),
        }
    }
    Err(CallError::from(Lost::new("the broker ended the stream")).into())
}

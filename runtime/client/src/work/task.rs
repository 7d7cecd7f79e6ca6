//! The task behind a worker: takes records, sends what became of them, and opens the stream anew when it is lost.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::{Check, RecordBatch};
use millstream_wire::{Assignment, CloseCode, ErrorCode, Joined, Open, Request, Work};
use tokio::time::{Instant, sleep_until};

use super::{options::WorkOptions, state::Arrived, worker::Shared};
use crate::{
    CallError, ConsumeError, Lost,
    backoff::{Spell, chance},
    client::request_on,
    connect::Link,
    limits,
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

/// Runs until the worker is dropped, the broker ends the subscription, or the broker is given up.
pub(super) async fn run(link: Arc<Link>, options: WorkOptions, shared: Arc<Shared>, first: Opened<Joined>) {
    let mut stream = first;
    let mut spell = link.spell();
    let error = loop {
        let opened = Instant::now();
        let error = match Box::pin(converse(&shared, stream)).await {
            Ok(()) => break ConsumeError::Closed,
            Err(ConsumeError::Open(error)) if error.is_retryable() => error,
            Err(error) => break error,
        };
        tracing::debug!(topic = %options.topic, %error, "worker stream lost");
        // The broker has given everything to others by now, or will soon.
        shared.state().reconnected();
        shared.settled.notify_waiters();
        spell.lost(opened, Instant::now());
        match Box::pin(reopen(&link, &options, &shared, &mut spell, error)).await {
            Ok(reopened) => stream = reopened,
            Err(error) => break error,
        }
    };
    shared.state().end(error);
    shared.settled.notify_waiters();
}

/// Tries until the stream is open again.
async fn reopen(
    link: &Link,
    options: &WorkOptions,
    shared: &Shared,
    spell: &mut Spell,
    error: CallError,
) -> Result<Opened<Joined>, ConsumeError> {
    let mut last = error;
    loop {
        if shared.is_closed() {
            return Err(ConsumeError::Closed);
        }
        match spell.failed(Instant::now(), chance()) {
            Ok(next) => sleep_until(next).await,
            Err(after) => return Err(ConsumeError::GaveUp { after, last: Box::new(last) }),
        }
        let window = shared.state().window();
        match open_stream(link, options, window).await {
            Ok(stream) => return Ok(stream),
            // The broker may not have noticed yet that our former stream is gone.
            Err(error) if error.is_retryable() || error.code() == Some(ErrorCode::SubscriptionBusy) => {
                last = error
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Uses the stream until it ends; `Ok` when the worker is dropped.
async fn converse(shared: &Shared, stream: Opened<Joined>) -> Result<(), ConsumeError> {
    let Opened { mut writer, mut reader, answer } = stream;
    let outcome = tokio::select! {
        sent = send(shared, &mut writer, answer.lease_ms) => sent,
        received = receive(shared, &mut reader) => received,
    };
    match outcome {
        Ok(()) => {
            // Fails only when the stream is over.
            let _ = writer.finish().await;
            // The broker ends its side once everything is given back; what it still delivers is of no use.
            let rest = async { while let Ok(Some(_)) = reader.next_frame().await {} };
            if tokio::time::timeout(limits::CLOSE_WAIT, rest).await.is_err() {
                reader.stop(CloseCode::Done.code());
            }
            Ok(())
        }
        // The broker may have said why it stopped reading.
        Err(ConsumeError::Open(CallError::Lost(lost))) => {
            let rest = tokio::time::timeout(limits::CLOSE_WAIT, receive(shared, &mut reader)).await;
            Err(match rest {
                Ok(Err(error @ (ConsumeError::Ended(_) | ConsumeError::Corrupt { .. }))) => error,
                _ => CallError::Lost(lost).into(),
            })
        }
        Err(error) => {
            reader.stop(CloseCode::Protocol.code());
            Err(error)
        }
    }
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
async fn receive(shared: &Shared, reader: &mut FrameReader) -> Result<(), ConsumeError> {
    while let Some((frame, body)) = reader.next::<Assignment>().await.map_err(CallError::from)? {
        match frame {
            Assignment::Records { partition, lease, heard, more_follows, tried } => {
                let corrupt = |error| ConsumeError::Corrupt { partition, error };
                let batch = RecordBatch::new(body, Check::Full)
                    .and_then(|batch| batch.decompressed())
                    .map_err(corrupt)?;
                let arrived = Arrived {
                    partition,
                    lease,
                    more_follows,
                    tried,
                    batch,
                    index: 0,
                    left_out: BTreeSet::new(),
                };
                shared.state().arrived(arrived, heard);
            }
            Assignment::Settled { number, stale } => {
                shared.state().settled(number, &stale);
                shared.settled.notify_waiters();
                shared.wake.notify_one();
            }
            Assignment::Ended(error) if error.retryable => return Err(CallError::Refused(error).into()),
            Assignment::Ended(error) => return Err(ConsumeError::Ended(error)),
        }
    }
    Err(CallError::from(Lost::new("the broker ended the stream")).into())
}

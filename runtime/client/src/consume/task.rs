//! The task behind a consumer: takes deliveries, sends acks and credit, and opens the stream anew when it is lost.

use std::sync::Arc;

use bytes::Bytes;
use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::{Check, Offset, RecordBatch, StartAt};
use millstream_wire::{
    CloseCode, Control, Delivery as Frame, ErrorCode, Open, Request, Subscribe, Subscribed,
};
use tokio::time::{Instant, sleep_until};

use super::{
    consumer::{Shared, cut},
    inbox::Delivery,
    options::SubscribeOptions,
};
use crate::{
    CallError, ConsumeError, Lost,
    backoff::{Spell, chance},
    client::request_on,
    connect::Link,
    limits,
    stream::{self, Opened},
};

/// Where a consumer goes on.
pub(super) struct Resume {
    /// Next offset wanted, each partition, where the broker keeps no place for us.
    from: Vec<Offset>,
    /// What the application has not taken yet: so much less may be sent.
    waiting_bytes: u64,
}

/// Opens the stream, by one attempt: as `options` say, or where it was left. Cancel-safe.
pub(super) async fn open_stream(
    link: &Link,
    options: &SubscribeOptions,
    resume: Option<Resume>,
) -> Result<Opened<Subscribed>, CallError> {
    for wasm in &options.uploads {
        request_on(link, Request::PutModule { name: None }, wasm.clone()).await?;
    }
    let connection = link.session().await?.connection;
    let waiting_bytes = resume.as_ref().map_or(0, |resume| resume.waiting_bytes);
    let from = match resume {
        Some(resume) if options.name.is_none() => StartAt::Offsets(resume.from),
        _ => options.from.clone(),
    };
    let open = Open::Subscribe(Subscribe {
        topic: options.topic.clone(),
        name: options.name.clone(),
        from,
        pipeline: options.pipeline.clone(),
        on_fault: options.on_fault,
        credit_bytes: options.credit_bytes.saturating_sub(waiting_bytes).max(1),
    });
    let after = link.options().request_timeout;
    let opened = stream::open::<Subscribed>(&connection, &open, limits::DELIVERIES);
    tokio::time::timeout(after, opened).await.unwrap_or(Err(CallError::TimedOut { after }))
}

/// Runs until the consumer is dropped, the broker ends the subscription, or the broker is given up.
pub(super) async fn run(
    link: Arc<Link>,
    options: SubscribeOptions,
    shared: Arc<Shared>,
    first: Opened<Subscribed>,
) {
    let mut stream = first;
    let mut spell = link.spell();
    let error = loop {
        let opened = Instant::now();
        let error = match Box::pin(converse(&shared, stream)).await {
            Ok(()) => break ConsumeError::Closed,
            Err(ConsumeError::Open(error)) if error.is_retryable() => error,
            Err(error) => break error,
        };
        tracing::debug!(topic = %options.topic, %error, "consumer stream lost");
        spell.lost(opened, Instant::now());
        match Box::pin(reopen(&link, &options, &shared, &mut spell, error)).await {
            Ok(reopened) => stream = reopened,
            Err(error) => break error,
        }
    };
    shared.inbox().end(error);
    shared.settled.notify_waiters();
}

/// Tries until the stream is open again.
async fn reopen(
    link: &Link,
    options: &SubscribeOptions,
    shared: &Shared,
    spell: &mut Spell,
    error: CallError,
) -> Result<Opened<Subscribed>, ConsumeError> {
    let mut last = error;
    loop {
        if shared.is_closed() {
            return Err(ConsumeError::Closed);
        }
        match spell.failed(Instant::now(), chance()) {
            Ok(next) => sleep_until(next).await,
            Err(after) => return Err(ConsumeError::GaveUp { after, last: Box::new(last) }),
        }
        let resume =
            Resume { from: shared.acks().all_received(), waiting_bytes: shared.inbox().reconnecting() };
        match open_stream(link, options, Some(resume)).await {
            Ok(stream) => {
                if !shared.acks().reconnected(&stream.answer.partitions) {
                    let text = "the topic has another number of partitions than before: subscribe anew";
                    return Err(CallError::Protocol(text.into()).into());
                }
                return Ok(stream);
            }
            // The broker may not have noticed yet that our former stream is gone.
            Err(error) if error.is_retryable() || error.code() == Some(ErrorCode::SubscriptionBusy) => {
                last = error;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Uses the stream until it ends; `Ok` when the consumer is dropped.
async fn converse(shared: &Shared, stream: Opened<Subscribed>) -> Result<(), ConsumeError> {
    let Opened { mut writer, mut reader, .. } = stream;
    let outcome = tokio::select! {
        sent = send(shared, &mut writer) => sent,
        received = receive(shared, &mut reader) => received,
    };
    match outcome {
        Ok(()) => {
            // Fails only when the stream is over.
            let _ = writer.finish().await;
            // The broker ends its side once the subscription is free; what it still delivers is of no use.
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

/// Sends acks and credit; returns when the consumer is dropped and its acks are sent.
async fn send(shared: &Shared, writer: &mut FrameWriter) -> Result<(), ConsumeError> {
    loop {
        let closing = shared.is_closed();
        let credit = shared.inbox().give_back(shared.credit_step);
        if let Some(bytes) = credit {
            push(writer, &Control::Credit { bytes }).await?;
        }
        let ack = shared.acks().next_message(closing);
        if let Some((ack, next)) = ack {
            push(writer, &Control::Ack { ack, next }).await?;
        }
        writer.flush().await.map_err(|error| CallError::from(Lost::from(error)))?;
        if closing {
            return Ok(());
        }
        shared.wake.notified().await;
    }
}

async fn push(writer: &mut FrameWriter, control: &Control) -> Result<(), CallError> {
    writer.push(control, Bytes::new()).await.map_err(|error| Lost::from(error).into())
}

/// Takes deliveries until the stream ends.
async fn receive(shared: &Shared, reader: &mut FrameReader) -> Result<(), ConsumeError> {
    while let Some((frame, body)) = reader.next::<Frame>().await.map_err(CallError::from)? {
        match frame {
            Frame::Batch { partition, next } => take_batch(shared, partition, next, body)?,
            Frame::Progress { partition, next } => {
                known(shared, partition)?;
                shared.acks().progress(partition, next);
                shared.inbox().progress(partition, next);
                shared.wake.notify_one();
            }
            Frame::Settled { ack } => {
                shared.acks().settled(ack);
                shared.settled.notify_waiters();
                shared.wake.notify_one();
            }
            Frame::Ended(error) if error.retryable => return Err(CallError::Refused(error).into()),
            Frame::Ended(error) => return Err(ConsumeError::Ended(error)),
        }
    }
    Err(CallError::from(Lost::new("the broker ended the stream")).into())
}

fn take_batch(shared: &Shared, partition: u32, next: Offset, body: Bytes) -> Result<(), ConsumeError> {
    let received = known(shared, partition)?;
    let bytes = body.len() as u64;
    // The last batch may exceed what was left, also that of a stream before.
    if shared.inbox().bytes()
        > shared.credit_bytes.saturating_add(2 * limits::DELIVERIES.body_bytes_max as u64)
    {
        return Err(CallError::Protocol("more was delivered than credit was given for".into()).into());
    }
    let corrupt = |error| ConsumeError::Corrupt { partition, error };
    let batch =
        RecordBatch::new(body, Check::Full).and_then(|batch| batch.decompressed()).map_err(corrupt)?;
    let delivery = Delivery { partition, next, batch };
    // After a reconnect a durable subscription starts at its last ack: what is here already is passed over.
    match cut(&delivery, received, Offset::MAX) {
        Some(batch) => {
            shared.acks().delivered(partition, delivery.next);
            shared.inbox().put(Delivery { batch, ..delivery }, bytes);
        }
        None => {
            shared.acks().progress(partition, delivery.next);
            let mut inbox = shared.inbox();
            inbox.discard(bytes);
            inbox.progress(partition, delivery.next.max(received));
            shared.wake.notify_one();
        }
    }
    Ok(())
}

fn known(shared: &Shared, partition: u32) -> Result<Offset, CallError> {
    let received = shared.acks().received(partition);
    received.ok_or_else(|| {
        CallError::Protocol(format!("a delivery came for partition {partition}, unknown here"))
    })
}

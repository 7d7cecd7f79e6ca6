//! The task behind a publisher: moves batches and receipts, and opens the stream anew when it is lost.

use std::sync::Arc;

use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::TopicName;
use millstream_wire::{CloseCode, Open, PublishHead, PublishReady, Receipts};
use tokio::time::{Instant, sleep_until};

use super::{publisher::Shared, queue::Next};
use crate::{
    CallError, Lost, PublishError,
    backoff::{Spell, chance},
    connect::Link,
    limits,
    stream::{self, Opened},
};

/// Opens the stream, by one attempt. Cancel-safe.
pub(super) async fn open_stream(link: &Link, topic: &TopicName) -> Result<Opened<PublishReady>, CallError> {
    let connection = link.session().await?.connection;
    let open = Open::Publish { topic: topic.clone() };
    let after = link.options().request_timeout;
    let opened = stream::open::<PublishReady>(&connection, &open, limits::RECEIPTS);
    let opened = tokio::time::timeout(after, opened).await.unwrap_or(Err(CallError::TimedOut { after }))?;
    if opened.answer.partitions == 0 || opened.answer.in_flight_max == 0 {
        return Err(CallError::Protocol("a topic without partitions, or without room for a batch".into()));
    }
    Ok(opened)
}

/// Runs until the publisher is dropped and all is answered, or the broker is given up.
pub(super) async fn run(link: Arc<Link>, topic: TopicName, shared: Arc<Shared>, first: Opened<PublishReady>) {
    let mut stream = first;
    let mut spell = link.spell();
    loop {
        let opened = Instant::now();
        let Err(error) = Box::pin(converse(&shared, stream)).await else { return };
        shared.queue().disconnected();
        tracing::debug!(%topic, %error, "publisher stream lost");
        spell.lost(opened, Instant::now());
        match Box::pin(reopen(&link, &topic, &shared, &mut spell, error)).await {
            Ok(reopened) => stream = reopened,
            Err(error) => {
                shared.queue().end(&error);
                shared.room.close();
                return;
            }
        }
    }
}

/// Tries until the stream is open again.
async fn reopen(
    link: &Link,
    topic: &TopicName,
    shared: &Shared,
    spell: &mut Spell,
    error: CallError,
) -> Result<Opened<PublishReady>, PublishError> {
    let mut last = error;
    loop {
        if !last.is_retryable() {
            return Err(last.into());
        }
        if shared.queue().is_empty() && shared.queue().check_open().is_err() {
            return Err(PublishError::Closed);
        }
        match spell.failed(Instant::now(), chance()) {
            Ok(next) => sleep_until(next).await,
            Err(after) => return Err(PublishError::GaveUp { after, last: Box::new(last) }),
        }
        match open_stream(link, topic).await {
            Ok(stream) if stream.answer.partitions == shared.partitions => return Ok(stream),
            Ok(stream) => {
                let (now, before) = (stream.answer.partitions, shared.partitions);
                let text =
                    format!("the topic has {now} partitions where it had {before}: open a new publisher");
                return Err(CallError::Protocol(text).into());
            }
            Err(error) => last = error,
        }
    }
}

/// Uses the stream until it ends; `Ok` when the publisher is done with it.
async fn converse(shared: &Shared, stream: Opened<PublishReady>) -> Result<(), CallError> {
    let Opened { mut writer, mut reader, .. } = stream;
    let outcome = tokio::select! {
        sent = send(shared, &mut writer) => sent,
        received = receive(shared, &mut reader) => received,
    };
    match outcome {
        // The broker may have said why it stopped reading.
        Err(CallError::Lost(lost)) => {
            let rest = tokio::time::timeout(limits::CLOSE_WAIT, receive(shared, &mut reader)).await;
            Err(match rest {
                Ok(Err(error @ (CallError::Refused(_) | CallError::Protocol(_)))) => error,
                _ => CallError::Lost(lost),
            })
        }
        Err(error) => {
            reader.stop(CloseCode::Protocol.code());
            Err(error)
        }
        Ok(()) => {
            // Fails only when the stream is over, and all is answered.
            let _ = writer.finish().await;
            Ok(())
        }
    }
}

/// Sends batches as the queue gives them; returns when the publisher is closed and all is answered.
async fn send(shared: &Shared, writer: &mut FrameWriter) -> Result<(), CallError> {
    loop {
        let next = shared.queue().next(Instant::now());
        match next {
            Next::Send(unsent) => {
                // No await between taking and keeping it, so that it is never in neither place.
                let sealed = match unsent.seal() {
                    Ok(sealed) => sealed,
                    Err(failed) => {
                        let cost = shared.queue().failed(failed);
                        shared.room.add_permits(cost);
                        continue;
                    }
                };
                let head = PublishHead { partition: sealed.partition };
                let body = sealed.batch.as_bytes().clone();
                shared.queue().sent(sealed);
                writer.push(&head, body).await.map_err(Lost::from)?;
            }
            Next::At(time) => {
                writer.flush().await.map_err(Lost::from)?;
                tokio::select! {
                    () = shared.wake.notified() => {}
                    () = sleep_until(time) => {}
                }
            }
            Next::Idle => {
                writer.flush().await.map_err(Lost::from)?;
                shared.wake.notified().await;
            }
            Next::Done => return writer.flush().await.map_err(|error| Lost::from(error).into()),
        }
    }
}

/// Takes receipts until the stream ends.
async fn receive(shared: &Shared, reader: &mut FrameReader) -> Result<(), CallError> {
    while let Some((Receipts { receipts }, _)) = reader.next::<Receipts>().await? {
        let now = Instant::now();
        for answer in receipts {
            let Some(cost) = shared.queue().answer(answer, now, chance) else {
                return Err(CallError::Protocol("a receipt came for a batch that was not sent".into()));
            };
            shared.room.add_permits(cost);
        }
        shared.wake.notify_one();
    }
    Err(Lost::new("the broker ended the stream").into())
}

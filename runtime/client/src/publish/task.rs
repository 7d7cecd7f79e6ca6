//! The task behind a publisher: moves batches and receipts, and opens the stream anew when it is lost.

use std::sync::Arc;

use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::{ProducerId, ProducerName, TopicName};
use millstream_wire::{Answer, CloseCode, ErrorCode, Open, Pace, PublishHead, PublishReady, Receipts};
use tokio::time::{Instant, sleep_until};

use super::{publisher::Shared, queue::Next};
use crate::{
    CallError, Lost, PublishError,
    backoff::{Spell, chance},
    connect::Link,
    limits,
    stream::{self, Opened},
};

/// Where a publisher publishes, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) topic: TopicName,
    pub(super) producer: Option<ProducerName>,
}

/// Opens the stream, by one attempt. Cancel-safe.
pub(super) async fn open_stream(
    link: &Link,
    target: &Target,
    identity: Option<(ProducerId, bool)>,
) -> Result<Opened<PublishReady>, CallError> {
    let connection = link.session().await?.connection;
    let (resume, anew) = identity.unzip();
    let open = Open::Publish {
        topic: target.topic.clone(),
        producer: target.producer.clone(),
        resume,
        anew: anew.unwrap_or_default(),
    };
    let after = link.options().request_timeout;
    let opened = stream::open::<PublishReady>(&connection, &open, limits::RECEIPTS);
    let opened = tokio::time::timeout(after, opened).await.unwrap_or(Err(CallError::TimedOut { after }))?;
    if opened.answer.partitions == 0 || opened.answer.in_flight_max == 0 {
        return Err(CallError::Protocol("a topic without partitions, or without room for a batch".into()));
    }
    Ok(opened)
}

/// Runs until the publisher is dropped and all is answered, or the broker is given up.
pub(super) async fn run(link: Arc<Link>, target: Target, shared: Arc<Shared>, first: Opened<PublishReady>) {
    let mut stream = first;
    let mut spell = link.spell();
    loop {
        let opened = Instant::now();
        let ended = Box::pin(converse(&shared, stream)).await;
        // Whatever held it back is of the former stream.
        shared.slow_down(None);
        let error = match ended {
            Ok(End::Done) => return,
            Ok(End::Renew) => None,
            Err(error) => {
                shared.queue().disconnected();
                tracing::debug!(topic = %target.topic, %error, "publisher stream lost");
                spell.lost(opened, Instant::now());
                Some(error)
            }
        };
        match Box::pin(reopen(&link, &target, &shared, &mut spell, error)).await {
            Ok(reopened) => {
                shared.queue().opened(reopened.answer.producer);
                stream = reopened;
            }
            Err(error) => {
                shared.queue().end(&error);
                shared.room.close();
                return;
            }
        }
    }
}

/// Tries until the stream is open again: at once, unless it was lost by `error`.
async fn reopen(
    link: &Link,
    target: &Target,
    shared: &Shared,
    spell: &mut Spell,
    error: Option<CallError>,
) -> Result<Opened<PublishReady>, PublishError> {
    let mut last = error;
    loop {
        if let Some(error) = last {
            if !error.is_retryable() {
                return Err(error.into());
            }
            if shared.queue().is_empty() && shared.queue().check_open().is_err() {
                return Err(PublishError::Closed);
            }
            match spell.failed(Instant::now(), chance()) {
                Ok(next) => sleep_until(next.max(error.not_before())).await,
                Err(after) => return Err(PublishError::GaveUp { after, last: Box::new(error) }),
            }
        }
        let identity = shared.queue().identity();
        match open_stream(link, target, Some(identity)).await {
            Ok(stream) if stream.answer.partitions == shared.partitions => return Ok(stream),
            Ok(stream) => {
                let (now, before) = (stream.answer.partitions, shared.partitions);
                let text =
                    format!("the topic has {now} partitions where it had {before}: open a new publisher");
                return Err(CallError::Protocol(text).into());
            }
            Err(error) => last = Some(error),
        }
    }
}

/// Why a publisher is done with a stream.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It is closed, and all is answered.
    Done,
    /// It begins anew on another.
    Renew,
}

/// Uses the stream until it ends; `Ok` when the publisher is done with it.
async fn converse(shared: &Shared, stream: Opened<PublishReady>) -> Result<End, CallError> {
    let Opened { mut writer, mut reader, .. } = stream;
    let outcome = tokio::select! {
        sent = send(shared, &mut writer) => sent,
        Err(error) = receive(shared, &mut reader) => Err(error),
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
        Ok(end) => {
            // Fails only when the stream is over, and all is answered.
            let _ = writer.finish().await;
            Ok(end)
        }
    }
}

/// Sends batches as the queue gives them, until the publisher is done with the stream.
async fn send(shared: &Shared, writer: &mut FrameWriter) -> Result<End, CallError> {
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
            end @ (Next::Done | Next::Renew) => {
                writer.flush().await.map_err(Lost::from)?;
                return Ok(if matches!(end, Next::Done) { End::Done } else { End::Renew });
            }
        }
    }
}

/// Takes receipts until the stream ends.
async fn receive(shared: &Shared, reader: &mut FrameReader) -> Result<(), CallError> {
    while let Some((Receipts { receipts, pace }, _)) = reader.next::<Receipts>().await? {
        match pace {
            Some(Pace::SlowDown(slow)) => shared.slow_down(Some(slow)),
            Some(Pace::GoOn) => shared.slow_down(None),
            None => {}
        }
        let now = Instant::now();
        if let Some(last) = receipts.last() {
            // Before those that wait for the receipts.
            shared.refused_by(match last {
                Answer::Err(error) if error.retryable => Some(error.clone()),
                _ => None,
            });
        }
        for answer in receipts {
            if let Answer::Err(error) = &answer
                && error.code == ErrorCode::ProducerFenced
            {
                return Err(CallError::Refused(error.clone()));
            }
            let Some(cost) = shared.queue().answer(answer, now, chance) else {
                return Err(CallError::Protocol("a receipt came for a batch that was not sent".into()));
            };
            shared.room.add_permits(cost);
        }
        shared.wake.notify_one();
    }
    Err(Lost::new("the broker ended the stream").into())
}

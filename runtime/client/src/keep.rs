//! A stream to the broker that is opened anew whenever it is lost: what consumers and workers have in common.

use millstream_quic::{FrameReader, FrameWriter};
use millstream_wire::{CloseCode, ErrorCode};
use tokio::time::{Instant, sleep_until};

use crate::{
    CallError, ConsumeError,
    backoff::{Spell, chance},
    limits,
    stream::Opened,
};

/// What goes over the stream.
pub(crate) trait Kept: Send + Sync {
    /// What the broker answers when the stream opens.
    type Answer: Send + Sync;

    /// Opens the stream, by one attempt. Cancel-safe.
    fn open(&self) -> impl Future<Output = Result<Opened<Self::Answer>, CallError>> + Send;
    /// A stream was opened in place of the one that was lost.
    fn reopened(&self, answer: &Self::Answer) -> Result<(), CallError>;
    /// The stream is lost.
    fn lost(&self, error: &CallError);
    /// Whether nobody wants it any more.
    fn is_closed(&self) -> bool;
    /// Sends; returns once nobody wants the stream any more and everything is said.
    fn send(
        &self,
        writer: &mut FrameWriter,
        answer: &Self::Answer,
    ) -> impl Future<Output = Result<(), ConsumeError>> + Send;
    /// Takes what comes until the stream ends.
    fn receive(&self, reader: &mut FrameReader) -> impl Future<Output = Result<(), ConsumeError>> + Send;
    /// Nothing more comes.
    fn end(&self, error: ConsumeError);
}

/// Runs until nobody wants the stream any more, the broker ends it, or the broker is given up.
pub(crate) async fn keep<K: Kept>(kept: K, mut spell: Spell, first: Opened<K::Answer>) {
    let mut stream = first;
    let error = loop {
        let opened = Instant::now();
        let error = match Box::pin(converse(&kept, stream)).await {
            Ok(()) => break ConsumeError::Closed,
            Err(ConsumeError::Open(error)) if error.is_retryable() => error,
            Err(error) => break error,
        };
        kept.lost(&error);
        spell.lost(opened, Instant::now());
        match Box::pin(reopen(&kept, &mut spell, error)).await {
            Ok(reopened) => stream = reopened,
            Err(error) => break error,
        }
    };
    kept.end(error);
}

/// Tries until the stream is open again.
async fn reopen<K: Kept>(
    kept: &K,
    spell: &mut Spell,
    error: CallError,
) -> Result<Opened<K::Answer>, ConsumeError> {
    let mut last = error;
    loop {
        if kept.is_closed() {
            return Err(ConsumeError::Closed);
        }
        match spell.failed(Instant::now(), chance()) {
            Ok(next) => sleep_until(next.max(last.not_before())).await,
            Err(after) => return Err(ConsumeError::GaveUp { after, last: Box::new(last) }),
        }
        match kept.open().await {
            Ok(stream) => {
                kept.reopened(&stream.answer)?;
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

/// Uses the stream until it ends; `Ok` when nobody wants it any more.
async fn converse<K: Kept>(kept: &K, stream: Opened<K::Answer>) -> Result<(), ConsumeError> {
    let Opened { mut writer, mut reader, answer } = stream;
    let outcome = tokio::select! {
        sent = kept.send(&mut writer, &answer) => sent,
        received = kept.receive(&mut reader) => received,
    };
    match outcome {
        Ok(()) => {
            // Fails only when the stream is over.
            let _ = writer.finish().await;
            // The broker ends its side once it has given up what was ours; what it still delivers is of no use.
            let rest = async { while let Ok(Some(_)) = reader.next_frame().await {} };
            if tokio::time::timeout(limits::CLOSE_WAIT, rest).await.is_err() {
                reader.stop(CloseCode::Done.code());
            }
            Ok(())
        }
        // The broker may have said why it stopped reading.
        Err(ConsumeError::Open(CallError::Lost(lost))) => {
            let rest = tokio::time::timeout(limits::CLOSE_WAIT, kept.receive(&mut reader)).await;
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

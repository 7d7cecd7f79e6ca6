//! Opening a stream: the first frame up, the first answer down.

use bytes::Bytes;
use millstream_quic::{FrameReader, FrameWriter};
use millstream_wire::{Answer, FrameLimits, Open};
use serde::de::DeserializeOwned;

use crate::{CallError, Lost, limits};

/// A long-lived stream, and the broker's answer to its opening.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    pub(crate) writer: FrameWriter,
    pub(crate) reader: FrameReader,
    pub(crate) answer: T,
}

/// Opens a long-lived stream. Cancel-safe: the stream is reset.
pub(crate) async fn open<T: DeserializeOwned>(
    connection: &quinn::Connection,
    open: &Open,
    limits: FrameLimits,
) -> Result<Opened<T>, CallError> {
    let (send, receive) = connection.open_bi().await.map_err(Lost::from)?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive, limits));
    let sent = writer.send(open, Bytes::new()).await;
    let (answer, _) = answer(&mut reader, sent.map_err(Lost::from)).await?;
    Ok(Opened { writer, reader, answer })
}

/// One question, one answer with its body. Cancel-safe in that nothing here breaks; what was asked for may still be done.
pub(crate) async fn call<T: DeserializeOwned>(
    connection: &quinn::Connection,
    open: &Open,
    body: Bytes,
) -> Result<(T, Bytes), CallError> {
    let (send, receive) = connection.open_bi().await.map_err(Lost::from)?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive, limits::ANSWERS));
    let sent = match writer.push(open, body).await {
        Ok(()) => writer.finish().await,
        Err(error) => Err(error),
    };
    answer(&mut reader, sent.map_err(Lost::from)).await
}

/// Reads the answer even when the question was cut short: a broker that refuses a large body stops reading it.
async fn answer<T: DeserializeOwned>(
    reader: &mut FrameReader,
    sent: Result<(), Lost>,
) -> Result<(T, Bytes), CallError> {
    match (reader.next::<Answer<T>>().await, sent) {
        (Ok(Some((answer, body))), _) => Ok((Result::from(answer)?, body)),
        (_, Err(lost)) => Err(lost.into()),
        (Ok(None), Ok(())) => Err(CallError::Protocol("the stream ended without an answer".into())),
        (Err(error), Ok(())) => Err(error.into()),
    }
}

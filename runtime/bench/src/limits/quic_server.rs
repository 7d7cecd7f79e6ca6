//! The server of raw QUIC. The first byte of a stream says what it does.

use bytes::Bytes;
use quinn::{Endpoint, Incoming, RecvStream, SendStream};

use crate::{Error, payload};

/// Reads and drops; answers with the number of bytes (`u64`, little-endian) once the client has finished.
pub(super) const SINK: u8 = b's';
/// Writes until stopped, in chunks of the size (`u32`, little-endian) that follows.
pub(super) const SOURCE: u8 = b'o';
/// Sends everything back.
pub(super) const ECHO: u8 = b'e';

/// Chunks that a read returns at most: far above a packet.
pub(super) const CHUNK_BYTES_MAX: usize = 1 << 20;
const SOURCE_BYTES_MAX: usize = 16 << 20;

/// Serves for ever.
pub(crate) async fn serve(endpoint: &Endpoint) -> Result<(), Error> {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(serve_connection(incoming));
    }
    Ok(())
}

async fn serve_connection(incoming: Incoming) {
    // A client that goes away ends its connection; that is how every measurement ends.
    let Ok(connection) = incoming.await else { return };
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            let _ = serve_stream(send, recv).await;
        });
    }
}

async fn serve_stream(send: SendStream, mut recv: RecvStream) -> Result<(), Error> {
    let mut kind = [0];
    recv.read_exact(&mut kind).await.map_err(Error::quic("read what to do"))?;
    match kind {
        [SINK] => sink(send, recv).await,
        [SOURCE] => source(send, recv).await,
        [ECHO] => echo(send, recv).await,
        _ => Ok(()),
    }
}

async fn sink(mut send: SendStream, mut recv: RecvStream) -> Result<(), Error> {
    let mut total = 0;
    while let Some(chunk) = recv.read_chunk(CHUNK_BYTES_MAX, true).await.map_err(Error::quic("read"))? {
        total += chunk.bytes.len() as u64;
    }
    send.write_all(&total.to_le_bytes()).await.map_err(Error::quic("answer"))?;
    let _ = send.finish();
    Ok(())
}

async fn source(mut send: SendStream, mut recv: RecvStream) -> Result<(), Error> {
    let mut bytes = [0; 4];
    recv.read_exact(&mut bytes).await.map_err(Error::quic("read the chunk size"))?;
    let chunk = payload::noise((u32::from_le_bytes(bytes) as usize).min(SOURCE_BYTES_MAX), 1);
    loop {
        send.write_chunk(Bytes::clone(&chunk)).await.map_err(Error::quic("write"))?;
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> Result<(), Error> {
    while let Some(chunk) = recv.read_chunk(CHUNK_BYTES_MAX, true).await.map_err(Error::quic("read"))? {
        send.write_chunk(chunk.bytes).await.map_err(Error::quic("echo"))?;
    }
    Ok(())
}

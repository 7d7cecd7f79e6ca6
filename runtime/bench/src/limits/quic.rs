//! The clients of raw QUIC.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};

use super::quic_server::{CHUNK_BYTES_MAX, ECHO, SINK, SOURCE};
use crate::{
    Error,
    child::Child,
    payload, quic,
    stats::{self, Latencies},
};

/// MB/s of one stream up.
pub(crate) async fn quic_up(server: &Child, chunk_bytes: usize, duration: Duration) -> Result<f64, Error> {
    let (_endpoint, _connection, mut send, mut recv) = open(server, SINK).await?;
    let chunk = payload::noise(chunk_bytes, 1);
    let start = Instant::now();
    while start.elapsed() < duration {
        send.write_chunk(Bytes::clone(&chunk)).await.map_err(Error::quic("write"))?;
    }
    send.finish().map_err(Error::quic("finish"))?;
    let mut total = [0; 8];
    recv.read_exact(&mut total).await.map_err(Error::quic("read the total"))?;
    Ok(stats::mb_per_s(u64::from_le_bytes(total), start.elapsed()))
}

/// MB/s of one stream down.
pub(crate) async fn quic_down(server: &Child, chunk_bytes: usize, duration: Duration) -> Result<f64, Error> {
    let (_endpoint, _connection, mut send, mut recv) = open(server, SOURCE).await?;
    let size = u32::try_from(chunk_bytes).unwrap_or(u32::MAX);
    let start = Instant::now();
    send.write_all(&size.to_le_bytes()).await.map_err(Error::quic("ask"))?;
    let mut total = 0;
    while start.elapsed() < duration {
        let Some(chunk) = recv.read_chunk(CHUNK_BYTES_MAX, true).await.map_err(Error::quic("read"))? else {
            break;
        };
        total += chunk.bytes.len() as u64;
    }
    let took = start.elapsed();
    let _ = recv.stop(VarInt::from_u32(0));
    Ok(stats::mb_per_s(total, took))
}

/// Echoes until the way is warm: the congestion window, the MTU, the caches.
const WARM_UP: usize = 50;

/// Echoes of one message of `bytes` after the other.
pub(crate) async fn echo(server: &Child, bytes: usize, duration: Duration) -> Result<Latencies, Error> {
    let (_endpoint, _connection, mut send, mut recv) = open(server, ECHO).await?;
    let message = payload::noise(bytes, 1);
    let mut latencies = Latencies::default();
    let mut warm_up = WARM_UP;
    let start = Instant::now();
    while start.elapsed() < duration {
        let sent = Instant::now();
        send.write_chunk(Bytes::clone(&message)).await.map_err(Error::quic("write"))?;
        let mut missing = message.len();
        while missing > 0 {
            let chunk = recv.read_chunk(missing, true).await.map_err(Error::quic("read"))?;
            missing -= chunk.map_or(missing, |chunk| chunk.bytes.len());
        }
        let took = sent.elapsed();
        if warm_up > 0 {
            warm_up -= 1;
        } else {
            latencies.record(took);
        }
    }
    Ok(latencies)
}

/// The endpoint and the connection must live as long as the stream is used.
async fn open(
    server: &Child,
    kind: u8,
) -> Result<(quinn::Endpoint, quinn::Connection, SendStream, RecvStream), Error> {
    let (endpoint, connection) = quic::connect(server.address, server.certificate.clone()).await?;
    let (mut send, recv) = connection.open_bi().await.map_err(Error::quic("open a stream"))?;
    send.write_all(&[kind]).await.map_err(Error::quic("ask"))?;
    Ok((endpoint, connection, send, recv))
}

//! The skeleton: frames (`u32` length, bytes) up, the number of committed frames (`u64`) down, both little-endian. The
//! first byte of a stream says how durable its frames are when they are counted.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use millstream_client::Durability;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{
    committer::{self, Frame},
    fjall_log::{Entry, FjallLog},
    quic_server::CHUNK_BYTES_MAX,
};
use crate::Error;

pub(super) const SYNC: u8 = b's';
pub(super) const INTERVAL: u8 = b'i';

const QUEUED_FRAMES_MAX: usize = 4_096;

/// Serves for ever.
pub(crate) async fn serve(endpoint: &Endpoint, dir: &Path, sync_interval: Duration) -> Result<(), Error> {
    let (frames, mut queue) = mpsc::channel(QUEUED_FRAMES_MAX);
    let log = FjallLog::create(dir)?;
    let runtime = Handle::current();
    let committer =
        tokio::task::spawn_blocking(move || committer::run(&log, &mut queue, sync_interval, &runtime));
    let accept = async {
        let streams = Arc::new(AtomicU32::new(0));
        while let Some(incoming) = endpoint.accept().await {
            let (frames, streams) = (frames.clone(), Arc::clone(&streams));
            tokio::spawn(async move {
                // A client that goes away ends its connection; that is how every measurement ends.
                if let Ok(connection) = incoming.await {
                    serve_connection(&connection, &frames, &streams).await;
                }
            });
        }
    };
    tokio::select! {
        result = committer => result?,
        () = accept => Ok(()),
    }
}

async fn serve_connection(connection: &Connection, frames: &mpsc::Sender<Frame>, streams: &AtomicU32) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        let partition = streams.fetch_add(1, Ordering::Relaxed);
        let (committed, count) = watch::channel(0);
        let frames = frames.clone();
        tokio::spawn(async move {
            let _ = receive(recv, partition, &frames, Arc::new(committed)).await;
        });
        tokio::spawn(async move {
            let _ = answer(send, count).await;
        });
    }
}

async fn receive(
    stream: RecvStream,
    partition: u32,
    frames: &mpsc::Sender<Frame>,
    committed: Arc<watch::Sender<u64>>,
) -> Result<(), Error> {
    let mut input = Input { stream, chunk: Bytes::new() };
    let durability = match input.take(1).await?.as_deref() {
        Some([SYNC]) => Durability::Sync,
        Some([INTERVAL]) => Durability::Interval,
        _ => return Ok(()),
    };
    for offset in 0.. {
        let Some(mut length) = input.take(4).await? else { return Ok(()) };
        let Some(value) = input.take(length.get_u32_le() as usize).await? else { return Ok(()) };
        let entry = Entry { partition, offset, value };
        let frame = Frame { entry, durability, committed: Arc::clone(&committed) };
        if frames.send(frame).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn answer(mut send: SendStream, mut committed: watch::Receiver<u64>) -> Result<(), Error> {
    while committed.changed().await.is_ok() {
        let count = *committed.borrow_and_update();
        send.write_all(&count.to_le_bytes()).await.map_err(Error::quic("answer"))?;
    }
    let _ = send.finish();
    Ok(())
}

/// A stream read in pieces of known length.
struct Input {
    stream: RecvStream,
    chunk: Bytes,
}

impl Input {
    /// The next `len` bytes in memory of their own; `None` at the end.
    async fn take(&mut self, len: usize) -> Result<Option<Bytes>, Error> {
        let mut out = BytesMut::with_capacity(len);
        while out.len() < len {
            if self.chunk.is_empty() {
                match self.stream.read_chunk(CHUNK_BYTES_MAX, true).await.map_err(Error::quic("read"))? {
                    Some(chunk) => self.chunk = chunk.bytes,
                    None => return Ok(None),
                }
            }
            let part = self.chunk.len().min(len - out.len());
            out.extend_from_slice(&self.chunk.split_to(part));
        }
        Ok(Some(out.freeze()))
    }
}

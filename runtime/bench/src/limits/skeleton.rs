//! The clients of the skeleton.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use millstream_client::Durability;
use quinn::{ReadExactError, RecvStream, SendStream};
use tokio::{sync::Semaphore, task::JoinSet};

use super::skeleton_server::{INTERVAL, SYNC};
use crate::{
    Error,
    child::{Child, ChildCommand},
    payload, quic, stats,
};

/// What producers send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Each on a connection of its own.
    pub(crate) producers: usize,
    pub(crate) frame_bytes: usize,
    /// Frames that a producer has unanswered at most.
    pub(crate) in_flight: usize,
    pub(crate) durability: Durability,
    pub(crate) duration: Duration,
}

/// What was committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SkeletonRun {
    pub(crate) frames_per_s: f64,
    pub(crate) mb_per_s: f64,
    /// CPU time of the server, if the system tells.
    pub(crate) server_cpu_s_per_gb: Option<f64>,
}

/// Starts a skeleton in the empty directory `dir`, puts `load` on it, and stops it. Counts to the last answer.
pub(crate) async fn skeleton(dir: &Path, sync_interval_ms: u64, load: Load) -> Result<SkeletonRun, Error> {
    let command = ChildCommand::Skeleton { data: dir.to_owned(), sync_interval_ms };
    let server = Arc::new(Child::start(command.to_args()).await?);
    let value = payload::noise(load.frame_bytes, 1);
    let mut producers = JoinSet::new();
    let start = Instant::now();
    for _ in 0..load.producers {
        producers.spawn(produce(Arc::clone(&server), value.clone(), load, start + load.duration));
    }
    let mut frames = 0;
    while let Some(produced) = producers.join_next().await {
        frames += produced??;
    }
    let took = start.elapsed();
    let bytes = frames * load.frame_bytes as u64;
    Ok(SkeletonRun {
        frames_per_s: stats::per_s(frames, took),
        mb_per_s: stats::mb_per_s(bytes, took),
        server_cpu_s_per_gb: server.cpu_seconds().map(|seconds| stats::per_gb(seconds, bytes)),
    })
}

async fn produce(server: Arc<Child>, value: Bytes, load: Load, until: Instant) -> Result<u64, Error> {
    let (_endpoint, connection) = quic::connect(server.address, server.certificate.clone()).await?;
    let (send, recv) = connection.open_bi().await.map_err(Error::quic("open a stream"))?;
    let window = Arc::new(Semaphore::new(load.in_flight));
    let answers = tokio::spawn(count_answers(recv, Arc::clone(&window)));
    let sent = write_frames(send, &value, load, &window, until).await?;
    match answers.await?? {
        committed if committed == sent => Ok(sent),
        committed => Err(Error::Unanswered { sent, committed }),
    }
}

/// Small frames are written together up to so many bytes, as Millstream's writer does.
const COALESCE_BYTES: usize = 16 << 10;

async fn write_frames(
    mut send: SendStream,
    value: &Bytes,
    load: Load,
    window: &Semaphore,
    until: Instant,
) -> Result<u64, Error> {
    let durability = match load.durability {
        Durability::Sync => SYNC,
        Durability::Interval => INTERVAL,
    };
    send.write_all(&[durability]).await.map_err(Error::quic("say the durability"))?;
    let mut sent = 0;
    let mut pending = BytesMut::new();
    while Instant::now() < until {
        let permit = match window.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                if !pending.is_empty() {
                    send.write_chunk(pending.split().freeze()).await.map_err(Error::quic("write"))?;
                }
                let Ok(permit) = window.acquire().await else { break };
                permit
            }
        };
        permit.forget();
        sent += 1;
        pending.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
        if value.len() >= COALESCE_BYTES {
            let head = pending.split().freeze();
            send.write_all_chunks(&mut [head, value.clone()]).await.map_err(Error::quic("write"))?;
        } else {
            pending.extend_from_slice(value);
            if pending.len() >= COALESCE_BYTES {
                send.write_chunk(pending.split().freeze()).await.map_err(Error::quic("write"))?;
            }
        }
    }
    if !pending.is_empty() {
        send.write_chunk(pending.split().freeze()).await.map_err(Error::quic("write"))?;
    }
    Ok(sent)
}

/// The number of frames committed when the server has no more to say.
async fn count_answers(recv: RecvStream, window: Arc<Semaphore>) -> Result<u64, Error> {
    let counted = read_counts(recv, &window).await;
    // Nothing is answered any more: whoever waits for room must not wait for ever.
    window.close();
    counted
}

async fn read_counts(mut recv: RecvStream, window: &Semaphore) -> Result<u64, Error> {
    let mut committed = 0;
    loop {
        let mut bytes = [0; 8];
        match recv.read_exact(&mut bytes).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(0)) => return Ok(committed),
            Err(error) => return Err(Error::quic("read an answer")(error)),
        }
        let count = u64::from_le_bytes(bytes);
        window.add_permits(usize::try_from(count - committed).unwrap_or(0));
        committed = count;
    }
}

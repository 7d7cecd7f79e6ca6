//! A connection: handshake, greeting, then a task for each stream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use millstream_broker::Broker;
use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::{Timestamp, limits::BATCH_BYTES_MAX};
use millstream_wire::{
    Answer, CloseCode, ErrorCode, FrameLimits, Hello, Open, PROTOCOL_VERSION, ServerInfo, Welcome, WireError,
};
use quinn::{Connecting, Connection, VarInt};
use tokio_util::task::TaskTracker;

use crate::{
    ServerConfig,
    error::of_frame,
    limits::{GREETING, RETRY_AFTER_MS},
    peer::Peer,
    stream,
    vanished::Peers,
};

/// A greeting is small.
const GREETING_LIMITS: FrameLimits = FrameLimits { head_bytes_max: 16 << 10, body_bytes_max: 0 };

/// What all sessions share.
pub(crate) struct Context {
    pub(crate) broker: Broker,
    pub(crate) config: ServerConfig,
    pub(crate) connections: AtomicUsize,
    /// Connections beyond the limit that are being told so.
    pub(crate) turned_away: AtomicUsize,
    /// Publishers that are held back, and how often one was told so.
    pub(crate) slowed: AtomicU64,
    pub(crate) slow_downs: AtomicU64,
    pub(crate) peers: Peers,
    /// Connections that were given up since their peer was gone.
    pub(crate) vanished: AtomicU64,
    /// Sessions and streams: a shutdown waits for them.
    pub(crate) tasks: TaskTracker,
    started_ms: Timestamp,
}

impl Context {
    pub(crate) fn new(broker: Broker, config: ServerConfig) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let started_ms = Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX);
        Self {
            broker,
            config,
            connections: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            slowed: AtomicU64::new(0),
            slow_downs: AtomicU64::new(0),
            peers: Peers::default(),
            vanished: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            started_ms,
        }
    }

    pub(crate) fn info(&self) -> ServerInfo {
        ServerInfo {
            node: self.broker.node().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            topics: self.broker.topic_count() as u64,
            subscriptions: self.broker.subscription_count() as u64,
            connections: self.connections.load(Ordering::Relaxed) as u64,
            slowed: self.slowed.load(Ordering::Relaxed),
            slow_downs: self.slow_downs.load(Ordering::Relaxed),
            vanished: self.vanished.load(Ordering::Relaxed),
            disk_bytes: self.broker.disk_bytes(),
        }
    }
}

/// Serves a connection until it ends.
pub(crate) async fn run(context: &Arc<Context>, connecting: Connecting) {
    let peer = connecting.remote_address();
    let connection = match tokio::time::timeout(GREETING, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%peer, "handshake took too long"),
    };
    let hello = match tokio::time::timeout(GREETING, greet(context, &connection)).await {
        Ok(Some(hello)) => hello,
        Ok(None) => return,
        Err(_) => return close(&connection, CloseCode::HelloTimeout, "no Hello came in time"),
    };
    tracing::debug!(%peer, client = hello.client, "connected");
    let own = Arc::new(Peer::new(connection.clone(), context));
    let _present = context.peers.enter(&own);
    while let Ok((send, receive)) = connection.accept_bi().await {
        let (context, own) = (Arc::clone(context), Arc::clone(&own));
        // As many as quinn allows the peer to open at once.
        let tasks = context.tasks.clone();
        tasks.spawn(async move { stream::serve(&context, own, send, receive).await });
    }
    tracing::debug!(%peer, client = hello.client, "disconnected");
}

/// Reads the greeting and answers it; `None` when the connection was closed over it.
async fn greet(context: &Context, connection: &Connection) -> Option<Hello> {
    let (send, receive) = connection.accept_bi().await.ok()?;
    let mut writer = FrameWriter::new(send);
    let refusal = match FrameReader::new(receive, GREETING_LIMITS).next::<Open>().await {
        Ok(Some((Open::Hello(hello), _))) if hello.protocol >= PROTOCOL_VERSION => {
            let welcome = Welcome {
                protocol: PROTOCOL_VERSION,
                node: context.broker.node().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                batch_bytes_max: BATCH_BYTES_MAX as u64,
                module_bytes_max: context.config.modules.module_bytes as u64,
                features: Vec::new(),
            };
            writer.send(&Answer::Ok(welcome), Bytes::new()).await.ok()?;
            writer.finish().await.ok()?;
            return Some(hello);
        }
        Ok(Some((Open::Hello(hello), _))) => {
            let found = hello.protocol;
            let text = format!("protocol version {found} is not spoken here, version {PROTOCOL_VERSION} is");
            (
                CloseCode::Version,
                WireError::refused(ErrorCode::UnsupportedVersion, text).with_value(found.to_string()),
            )
        }
        Ok(_) => {
            let text = "the first stream of a connection must start with Hello";
            (CloseCode::Protocol, WireError::refused(ErrorCode::BadRequest, text))
        }
        Err(error) => (CloseCode::Protocol, of_frame(&error)),
    };
    let (code, error) = refusal;
    turn_away(connection, &mut writer, code, error).await;
    None
}

/// Serves a connection beyond the limit: says so, and ends it.
pub(crate) async fn refuse(context: &Context, connecting: Connecting) {
    let connections_max = context.config.connections_max;
    let refused = async {
        let connection = connecting.await.ok()?;
        let (send, _receive) = connection.accept_bi().await.ok()?;
        let text = format!(
            "slow down: the broker has {connections_max} connections, its limit connections_max; try again later, or \
             have it raised"
        );
        let error = WireError::slow_down(text, RETRY_AFTER_MS).with_value(connections_max.to_string());
        turn_away(&connection, &mut FrameWriter::new(send), CloseCode::Busy, error).await;
        Some(())
    };
    // Who does not listen is not told.
    let _ = tokio::time::timeout(GREETING, refused).await;
}

async fn turn_away(connection: &Connection, writer: &mut FrameWriter, code: CloseCode, error: WireError) {
    tracing::debug!(peer = %connection.remote_address(), %error, "greeting refused");
    // The answer for those who read it, the close reason for those who don't.
    if writer.send(&Answer::<Welcome>::Err(error.clone()), Bytes::new()).await.is_ok() {
        writer.end();
        let _ = tokio::time::timeout(Duration::from_secs(1), writer.stopped()).await;
    }
    close(connection, code, &error.message);
}

fn close(connection: &Connection, code: CloseCode, reason: &str) {
    connection.close(VarInt::from_u32(code.code()), reason.as_bytes());
}

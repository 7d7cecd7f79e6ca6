//! The server: starts on a data directory, takes connections, ends in good order.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use millstream_broker::Broker;
use millstream_quic::{TransportSettings, Unreachable};
use millstream_wire::CloseCode;
use quinn::{Endpoint, Incoming, VarInt};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    ServerConfig,
    certificate::{Certificate, CertificateError},
    limits::{GOODBYE, INCOMING_MAX, REQUESTS_MAX, RETRY_FROM, TURNED_AWAY_MAX},
    metrics,
    session::{self, Context},
    vanished,
};

/// Opens the broker on a thread of its own, which takes the memory that recovery needed with it.
async fn open(settings: millstream_broker::Settings) -> Result<Broker, StartError> {
    let (sender, opened) = oneshot::channel();
    let work = move || {
        // Fails only when starting was given up.
        let _ = sender.send(Broker::open(settings));
    };
    let failed = |error: &dyn std::fmt::Display| StartError::Internal(format!("recovery: {error}"));
    std::thread::Builder::new().name("recovery".into()).spawn(work).map_err(|error| failed(&error))?;
    Ok(opened.await.map_err(|error| failed(&error))??)
}

/// Stands for a peer that is not on this machine.
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The broker does not open.
    #[error(transparent)]
    Broker(#[from] millstream_broker::OpenError),
    /// There is no certificate.
    #[error("TLS: {0}")]
    Certificate(String),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {cause}; {}choose another with --listen", in_use(cause))]
    Listen {
        /// As asked.
        address: SocketAddr,
        /// The system's words.
        cause: io::Error,
    },
    /// The address for metrics cannot be had.
    #[error("cannot serve metrics on {address}: {cause}; {}choose another with --metrics", in_use(cause))]
    Metrics {
        /// As asked.
        address: SocketAddr,
        /// The system's words.
        cause: io::Error,
    },
    /// A file of the data directory cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// Starting was interrupted.
    #[error("internal error: {0}")]
    Internal(String),
}

fn in_use(cause: &io::Error) -> &'static str {
    if cause.kind() == io::ErrorKind::AddrInUse { "is another broker running there? " } else { "" }
}

impl From<CertificateError> for StartError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// A server that takes connections. Dropping it without [`shutdown`](Self::shutdown) cuts them off.
pub struct Server {
    endpoint: Endpoint,
    context: Arc<Context>,
    url: String,
    accepting: tokio::task::JoinHandle<()>,
    watching: Option<tokio::task::JoinHandle<()>>,
    metrics: Option<(SocketAddr, tokio::task::JoinHandle<()>)>,
}

impl Server {
    /// Opens the broker and takes connections; then writes `client.url` into the data directory. Not cancel-safe.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way and what to do.
    pub async fn start(config: ServerConfig) -> Result<Self, StartError> {
        let settings = millstream_broker::Settings {
            data_dir: config.data_dir.clone(),
            store: millstream_store::Options {
                accept_data_loss: config.accept_data_loss,
                ..millstream_store::Options::default()
            },
            limits: config.broker.clone(),
            module_limits: config.modules.clone(),
            module_compiler: config.module_compiler.clone(),
            trust: config.trust.clone(),
            stock: config.stock.clone(),
        };
        let broker = open(settings).await?;
        let certificate = Certificate::load_or_make(&config.data_dir.join("tls"))?;
        let pin = certificate.pin();
        let (endpoint, near, unreachable) = listen(&config, certificate)?;
        let metrics = listen_for_metrics(config.metrics_listen).await?;
        let address =
            endpoint.local_addr().map_err(|cause| StartError::Listen { address: config.listen, cause })?;
        let url = format!("millstream://{}?pin=sha256:{pin}", reachable(address));
        let path = config.data_dir.join("client.url");
        let draft = config.data_dir.join("client.url.new");
        let written = fs::write(&draft, format!("{url}\n")).and_then(|()| fs::rename(&draft, &path));
        written.map_err(|cause| StartError::File { path, cause })?;
        broker.start_processors();
        let context = Arc::new(Context::new(broker, config));
        let accepting = tokio::spawn(accept(endpoint.clone(), near, Arc::clone(&context)));
        let watching =
            unreachable.map(|watched| tokio::spawn(vanished::watch(watched, Arc::clone(&context))));
        let metrics = metrics.map(|(address, listener)| {
            (address, tokio::spawn(metrics::serve(listener, Arc::clone(&context))))
        });
        Ok(Self { endpoint, context, url, accepting, watching, metrics })
    }

    /// What clients connect to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where metrics are, if they are served: a URL.
    pub fn metrics_url(&self) -> Option<String> {
        let (address, _) = self.metrics.as_ref()?;
        Some(format!("http://{}/metrics", reachable(*address)))
    }

    /// Resolves, with the cause, when the store is in doubt and the process must stop. Cancel-safe.
    pub async fn failed(&self) -> String {
        self.context.broker.failed().await
    }

    /// Takes no more connections, tells the clients, commits what was handed in, and closes the store.
    pub async fn shutdown(self, code: CloseCode, reason: &str) {
        self.accepting.abort();
        if let Some(watching) = &self.watching {
            watching.abort();
        }
        if let Some((_, metrics)) = &self.metrics {
            metrics.abort();
        }
        self.endpoint.close(VarInt::from_u32(code.code()), reason.as_bytes());
        self.context.tasks.close();
        // A client that does not answer is not waited for.
        let _ = tokio::time::timeout(GOODBYE, self.endpoint.wait_idle()).await;
        let _ = tokio::time::timeout(GOODBYE, self.context.tasks.wait()).await;
        let broker = self.context.broker.clone();
        let closed = tokio::task::spawn_blocking(move || broker.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the broker did not close in good order");
        }
    }
}

/// The endpoint, the settings of connections over loopback, and who is told to be gone.
fn listen(
    config: &ServerConfig,
    certificate: Certificate,
) -> Result<(Endpoint, Arc<quinn::ServerConfig>, Option<Unreachable>), StartError> {
    let failed = |cause| StartError::Listen { address: config.listen, cause };
    let socket = millstream_quic::bind_udp(config.listen).map_err(failed)?;
    let settings = millstream_quic::server_endpoint_config(&certificate.secret());
    let mut server = quinn::ServerConfig::with_crypto(certificate.crypto()?);
    let streams = u32::try_from(config.streams_max).unwrap_or(u32::MAX).saturating_add(REQUESTS_MAX);
    let transport = |peer| {
        let settings = TransportSettings { streams, ..TransportSettings::default() };
        millstream_quic::transport_with(peer, &settings)
    };
    server.transport_config(transport(FAR)).max_incoming(INCOMING_MAX);
    // Over loopback larger packets halve the cost of a byte.
    let mut near = server.clone();
    near.transport_config(transport(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let unreachable = Unreachable::watch(&socket).inspect_err(
        |error| tracing::warn!(%error, "peers that are gone are noticed by their idle time-out alone"),
    );
    let endpoint = millstream_quic::endpoint(settings, Some(server), socket);
    Ok((endpoint.map_err(failed)?, Arc::new(near), unreachable.ok()))
}

async fn listen_for_metrics(
    address: Option<SocketAddr>,
) -> Result<Option<(SocketAddr, TcpListener)>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        Ok((listener.local_addr()?, listener))
    };
    bound.await.map(Some).map_err(|cause| StartError::Metrics { address, cause })
}

async fn accept(endpoint: Endpoint, near: Arc<quinn::ServerConfig>, context: Arc<Context>) {
    while let Some(incoming) = endpoint.accept().await {
        let connections = context.connections.load(Ordering::Relaxed);
        let full = connections >= context.config.connections_max;
        if full {
            tracing::warn!(connections, "connection refused: as many as may be are open");
        }
        if full && context.turned_away.load(Ordering::Relaxed) >= TURNED_AWAY_MAX {
            incoming.refuse();
            continue;
        }
        if connections >= RETRY_FROM && !incoming.remote_address_validated() && incoming.may_retry() {
            // Fails only for one that is validated already.
            let _ = incoming.retry();
            continue;
        }
        let Ok(connecting) = connect(incoming, &near) else { continue };
        let context = Arc::clone(&context);
        let tasks = context.tasks.clone();
        if full {
            context.turned_away.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(async move {
                session::refuse(&context, connecting).await;
                context.turned_away.fetch_sub(1, Ordering::Relaxed);
            });
        } else {
            context.connections.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(async move {
                session::run(&context, connecting).await;
                context.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

fn connect(
    incoming: Incoming,
    near: &Arc<quinn::ServerConfig>,
) -> Result<quinn::Connecting, quinn::ConnectionError> {
    if incoming.remote_address().ip().is_loopback() {
        return incoming.accept_with(Arc::clone(near));
    }
    incoming.accept()
}

fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

//! One attempt at a connection: addresses, handshake, Hello and Welcome.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use millstream_quic::{TransportSettings, bind_udp, endpoint, endpoint_config, transport_with};
use millstream_wire::{ErrorCode, Hello, Open, PROTOCOL_VERSION, Welcome};

use tokio::time::Instant;

use crate::{CallError, ConnectError, Lost, Reconnect, Url, backoff::Spell, limits, stream, tls::Tls};

/// TLS alerts about certificates, and `no_application_protocol`, as QUIC error codes (RFC 9001, section 4.8).
const CERTIFICATE_ALERTS: std::ops::RangeInclusive<u64> = 0x100 + 42..=0x100 + 49;
const HANDSHAKE_FAILURE: u64 = 0x100 + 40;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// What the broker's log calls this client.
    pub client_name: String,
    /// Longest wait for a connection, each address of the host.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to a request.
    pub request_timeout: Duration,
    /// How a lost connection is taken up again.
    pub reconnect: Reconnect,
    /// A connection over which nothing was heard for so long is lost; the broker may ask for less. Shorter than 30 s, a
    /// machine that is gone is noticed sooner, and a network that fails for a while costs the connection.
    pub idle_timeout: Duration,
    /// A sign of life is sent after so long without one; `None`: 10 s, or a third of the idle time-out if that is less.
    pub keep_alive: Option<Duration>,
}

impl ConnectOptions {
    fn transport(&self) -> TransportSettings {
        let default = TransportSettings::default();
        let keep_alive = self.keep_alive.unwrap_or(default.keep_alive.min(self.idle_timeout / 3));
        TransportSettings { idle_timeout: self.idle_timeout, keep_alive, ..default }
    }

    /// Whether a connection can last so.
    fn check(&self) -> Result<(), ConnectError> {
        let TransportSettings { idle_timeout, keep_alive, .. } = self.transport();
        let wrong = |what, found: Duration, remedy| {
            Err(ConnectError::Local(format!("{what} of {found:?} makes no sense: {remedy}")))
        };
        if idle_timeout < limits::IDLE_TIMEOUT_MIN || idle_timeout > limits::IDLE_TIMEOUT_MAX {
            return wrong("an idle time-out", idle_timeout, "set 1 s to 1 h");
        }
        if keep_alive.is_zero() || keep_alive >= idle_timeout {
            return wrong("a keep-alive", keep_alive, "set less than the idle time-out, best a third of it");
        }
        Ok(())
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            client_name: concat!("millstream-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            reconnect: Reconnect::default(),
            idle_timeout: TransportSettings::default().idle_timeout,
            keep_alive: None,
        }
    }
}

/// A connection that was greeted.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) connection: quinn::Connection,
    pub(crate) welcome: Arc<Welcome>,
    endpoint: quinn::Endpoint,
}

impl Session {
    /// Tells the broker that we leave, and waits a little for it to hear that. Cancel-safe.
    pub(crate) async fn close(&self) {
        self.connection.close(millstream_wire::CloseCode::Done.code().into(), b"");
        // A peer that is gone never confirms; nothing is lost by leaving then.
        let _ = tokio::time::timeout(limits::CLOSE_WAIT, self.endpoint.wait_idle()).await;
    }
}

/// Connects to the first address of the URL's host that answers; where the broker asks to slow down, as often as the time for
/// a connection allows. Cancel-safe: a connection half made is dropped.
pub(crate) async fn connect(url: &Url, options: &ConnectOptions, tls: &Tls) -> Result<Session, ConnectError> {
    let started = Instant::now();
    loop {
        let error = match Box::pin(connect_once(url, options, tls)).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let left = options.connect_timeout.saturating_sub(started.elapsed());
        match CallError::from(error.clone()).slow_down(left) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(error),
        }
    }
}

async fn connect_once(url: &Url, options: &ConnectOptions, tls: &Tls) -> Result<Session, ConnectError> {
    let unresolved = |reason: String| ConnectError::Resolve { host: url.host().to_owned(), reason };
    let addresses = tokio::net::lookup_host((url.host(), url.port()))
        .await
        .map_err(|error| unresolved(error.to_string()))?;
    let mut failure = unresolved("the name has no address".to_owned());
    for address in addresses {
        match attempt(url, options, tls, address).await {
            Ok(session) => return Ok(session),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn attempt(
    url: &Url,
    options: &ConnectOptions,
    tls: &Tls,
    address: SocketAddr,
) -> Result<Session, ConnectError> {
    let after = options.connect_timeout;
    let handshake = Box::pin(greet(url, options, tls, address));
    tokio::select! {
        timed = tokio::time::timeout(after, handshake) => {
            timed.unwrap_or(Err(ConnectError::TimedOut { address, after }))
        }
        () = refused(address) => Err(ConnectError::Unreachable { address }),
    }
}

async fn greet(
    url: &Url,
    options: &ConnectOptions,
    tls: &Tls,
    address: SocketAddr,
) -> Result<Session, ConnectError> {
    let endpoint = local_endpoint(address)?;
    let mut config = quinn::ClientConfig::new(tls.quic());
    config.transport_config(transport_with(address.ip(), &options.transport()));
    let connecting = endpoint
        .connect_with(config, address, url.host())
        .map_err(|error| ConnectError::Local(format!("cannot connect to {address}: {error}")))?;
    let connection = connecting.await.map_err(|error| explain(error, address, tls))?;

    let hello = Open::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        client: options.client_name.clone(),
        features: Vec::new(),
    });
    let greeted = stream::call::<Welcome>(&connection, &hello, Bytes::new()).await;
    let (welcome, _) = greeted.map_err(|error| match error {
        CallError::Refused(error) if error.code == ErrorCode::UnsupportedVersion => {
            ConnectError::Protocol { address, reason: error.message }
        }
        CallError::Refused(error) => ConnectError::Refused(error),
        CallError::Lost(lost) => ConnectError::Lost { address, lost },
        CallError::Connect(error) => error,
        CallError::TimedOut { after } => ConnectError::TimedOut { address, after },
        CallError::Protocol(reason) => ConnectError::Protocol { address, reason },
    })?;
    if welcome.protocol != PROTOCOL_VERSION {
        let reason =
            format!("it chose protocol version {}, known here is {PROTOCOL_VERSION}", welcome.protocol);
        return Err(ConnectError::Protocol { address, reason });
    }
    tracing::debug!(%address, node = welcome.node, version = welcome.version, "connected");
    Ok(Session { connection, welcome: Arc::new(welcome), endpoint })
}

fn local_endpoint(peer: SocketAddr) -> Result<quinn::Endpoint, ConnectError> {
    let any = unspecified(peer.ip());
    let failed = |error: std::io::Error| ConnectError::Local(format!("no UDP socket for {peer}: {error}"));
    let socket = bind_udp(any).map_err(failed)?;
    endpoint(endpoint_config(), None, socket).map_err(failed)
}

fn unspecified(peer: IpAddr) -> SocketAddr {
    match peer {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Returns when the peer's system says that nobody listens there; never otherwise. QUIC ignores such messages, since
/// anyone could forge them, and would wait for the time-out: so a second, connected socket asks.
async fn refused(address: SocketAddr) {
    let asked = async {
        let socket = tokio::net::UdpSocket::bind(unspecified(address.ip())).await?;
        socket.connect(address).await?;
        // One zero byte is no QUIC packet: a broker drops it.
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    match asked.await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
        _ => std::future::pending().await,
    }
}

fn explain(error: quinn::ConnectionError, address: SocketAddr, tls: &Tls) -> ConnectError {
    let (code, reason) = match &error {
        quinn::ConnectionError::VersionMismatch => {
            return ConnectError::Protocol { address, reason: "it speaks another version of QUIC".into() };
        }
        quinn::ConnectionError::TransportError(error) => (u64::from(error.code), error.reason.clone()),
        quinn::ConnectionError::ConnectionClosed(close) => {
            (u64::from(close.error_code), String::from_utf8_lossy(&close.reason).into_owned())
        }
        _ => return ConnectError::Lost { address, lost: Lost::from(error) },
    };
    match code {
        NO_APPLICATION_PROTOCOL => {
            let reason = "it is a QUIC server of another protocol (no common ALPN)".to_owned();
            ConnectError::Protocol { address, reason }
        }
        code if CERTIFICATE_ALERTS.contains(&code) => {
            ConnectError::Untrusted { address, shown: tls.shown(), reason: plain(&reason) }
        }
        HANDSHAKE_FAILURE => ConnectError::Protocol { address, reason: format!("TLS failed: {reason}") },
        _ => ConnectError::Lost { address, lost: Lost::from(error) },
    }
}

/// rustls's words without the names of its types.
fn plain(reason: &str) -> String {
    let reason = reason.strip_prefix("invalid peer certificate: ").unwrap_or(reason);
    match reason {
        "UnknownIssuer" => "no certificate in the CA file has signed it".to_owned(),
        text if text.contains("NotPinned") => "it is not the one that the URL pins".to_owned(),
        text => text.to_owned(),
    }
}

/// Keeps the one connection of a client, and makes it anew when it is lost.
#[derive(Debug)]
pub(crate) struct Link {
    url: Url,
    options: ConnectOptions,
    tls: Tls,
    current: tokio::sync::Mutex<Option<Session>>,
}

impl Link {
    /// A link with its first connection. Cancel-safe.
    pub(crate) async fn open(url: Url, options: ConnectOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let tls = Tls::new(url.trust())?;
        let session = Box::pin(connect(&url, &options, &tls)).await?;
        Ok(Self { url, options, tls, current: tokio::sync::Mutex::new(Some(session)) })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// The connection; a new one, by one attempt, when the last is gone. Cancel-safe.
    pub(crate) async fn session(&self) -> Result<Session, ConnectError> {
        let mut current = self.current.lock().await;
        let Some(session) = current.as_ref() else { return Err(ConnectError::Closed) };
        if session.connection.close_reason().is_none() {
            return Ok(session.clone());
        }
        let session = Box::pin(connect(&self.url, &self.options, &self.tls)).await?;
        *current = Some(session.clone());
        Ok(session)
    }

    /// A spell without the broker begins.
    pub(crate) fn spell(&self) -> Spell {
        Spell::new(self.options.reconnect, tokio::time::Instant::now())
    }

    /// Ends the connection for good. Cancel-safe, except that the broker may not hear of it.
    pub(crate) async fn close(&self) {
        let session = self.current.lock().await.take();
        if let Some(session) = session {
            session.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_there_is_said_at_once() {
        // A port that was free a moment ago.
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = Url::new("127.0.0.1", port, crate::Trust::Pin([0; 32]));
        let started = std::time::Instant::now();
        let error = Link::open(url, ConnectOptions::default()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn times_with_which_no_connection_lasts_are_refused() {
        let times = |idle, keep_alive| ConnectOptions {
            idle_timeout: Duration::from_secs(idle),
            keep_alive,
            ..ConnectOptions::default()
        };
        assert!(times(1, None).check().is_ok() && times(3_600, None).check().is_ok());
        for (options, found) in [
            (times(0, None), "0ns"),
            (times(86_400, None), "86400s"),
            (times(5, Some(Duration::ZERO)), "0ns"),
            (times(5, Some(Duration::from_secs(5))), "5s"),
        ] {
            let url = Url::new("127.0.0.1", 1, crate::Trust::Pin([0; 32]));
            let error = Link::open(url, options).await.unwrap_err().to_string();
            assert!(error.contains(found) && error.contains("set "), "{error}");
        }
    }

    #[tokio::test]
    async fn silence_is_a_timeout() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = Url::new("127.0.0.1", silent.local_addr().unwrap().port(), crate::Trust::Pin([0; 32]));
        let options = ConnectOptions { connect_timeout: Duration::from_millis(200), ..Default::default() };
        let error = Link::open(url, options).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    }
}

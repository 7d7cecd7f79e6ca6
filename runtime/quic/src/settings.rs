//! quinn's settings, each for a measured reason (`shared/facts.md`, QUIC).

use std::{net::IpAddr, sync::Arc, time::Duration};

use quinn::{Connection, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::RandomConnectionIdGenerator;

/// Largest UDP payload over loopback: above it, segmentation offload of ten segments exceeds 64 KiB and fails silently.
const LOOPBACK_MTU: u16 = 6_500;
/// Largest UDP payload towards everybody else.
const WAN_MTU: u16 = 1_452;
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Unacknowledged bytes in flight: more makes a small message wait behind bulk on the same connection.
const SEND_WINDOW_BYTES: u64 = 1 << 20;

/// Settings of an endpoint, for either side.
pub fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(LOOPBACK_MTU + 28).expect("within QUIC's bounds of 1,200 to 65,527");
    config
}

/// Settings of a broker's endpoint. With the same `secret` after a restart, peers of connections that the former process
/// had are told at once that those are gone, and need not wait for the idle time-out.
pub fn server_endpoint_config(secret: &[u8; 32]) -> EndpointConfig {
    let mut config = endpoint_config();
    config.reset_key(Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret)));
    // Not the default ids: only 24 bits of those are random, and the one that a Retry gives is not compared with those in
    // use. With some thousand connections one in a thousand new ones then meets an older one, and never gets an answer.
    config.cid_generator(|| Box::new(RandomConnectionIdGenerator::new(8)));
    config
}

/// What can be set of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportSettings {
    /// After so long without a datagram from the peer it is gone. The smaller of both ends' holds.
    pub idle_timeout: Duration,
    /// A sign of life is sent after so long without one.
    pub keep_alive: Duration,
    /// Streams that the peer may have open; quinn preallocates their slots, 100 cost 40 KB a connection.
    pub streams: u32,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(30), keep_alive: Duration::from_secs(10), streams: 100 }
    }
}

/// A connection with `peer` as it is by default.
pub fn transport(peer: IpAddr) -> Arc<TransportConfig> {
    transport_with(peer, &TransportSettings::default())
}

/// A connection with `peer`.
///
/// # Panics
/// When the idle time-out exceeds 2^62 ms.
pub fn transport_with(peer: IpAddr, settings: &TransportSettings) -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(if peer.is_loopback() { LOOPBACK_MTU } else { WAN_MTU });
    let idle = IdleTimeout::try_from(settings.idle_timeout).expect("no idle time-out is as long as that");
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .keep_alive_interval(Some(settings.keep_alive))
        .max_idle_timeout(Some(idle))
        .max_concurrent_bidi_streams(VarInt::from_u32(settings.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

/// Has the peer of `connection` answer: it is allowed a byte more than before, and must acknowledge that. `nth` counts from 1.
pub fn probe(connection: &Connection, nth: u32) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES.saturating_add(nth)));
}

/// ring, with AES-128-GCM first: the fastest of those measured.
pub fn crypto_provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

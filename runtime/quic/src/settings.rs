//! quinn's settings, each for a measured reason (`shared/facts.md`, QUIC).

use std::{net::IpAddr, sync::Arc, time::Duration};

use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::RandomConnectionIdGenerator;

/// Largest UDP payload over loopback: above it, segmentation offload of ten segments exceeds 64 KiB and fails silently.
const LOOPBACK_MTU: u16 = 6_500;
/// Largest UDP payload towards everybody else.
const WAN_MTU: u16 = 1_452;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
/// Streams a peer may have open; quinn preallocates their slots, 100 cost 40 KB a connection.
const STREAMS_MAX: u32 = 100;
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

/// Settings of a connection with `peer`.
pub fn transport(peer: IpAddr) -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(if peer.is_loopback() { LOOPBACK_MTU } else { WAN_MTU });
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).expect("30 s is a valid idle time")))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

/// ring, with AES-128-GCM first: the fastest of those measured.
pub fn crypto_provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

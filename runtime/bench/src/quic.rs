//! Bare QUIC endpoints for the limits: Millstream's settings, a certificate that is thrown away, no protocol.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use millstream_quic::{bind_udp, crypto_provider, endpoint_config, transport};
use quinn::{
    ClientConfig, Connection, Endpoint, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

const ALPN: &[u8] = b"millstream-limit";
const SERVER_NAME: &str = "localhost";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A listening endpoint on a free port of the loopback interface, and the certificate that its clients must trust.
pub(crate) fn listen() -> Result<(Endpoint, CertificateDer<'static>), Error> {
    const DOING: &str = "listen";
    let pair = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).map_err(Error::quic(DOING))?;
    let certificate = pair.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
    let mut tls = rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::quic(DOING))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .map_err(Error::quic(DOING))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).map_err(Error::quic(DOING))?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(transport(LOCALHOST));
    Ok((endpoint(Some(server))?, certificate))
}

/// A connection from an endpoint of its own.
pub(crate) async fn connect(
    server: SocketAddr,
    certificate: CertificateDer<'static>,
) -> Result<(Endpoint, Connection), Error> {
    const DOING: &str = "connect";
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).map_err(Error::quic(DOING))?;
    let mut tls = rustls::ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::quic(DOING))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(Error::quic(DOING))?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(transport(server.ip()));
    let endpoint = endpoint(None)?;
    let connection = endpoint
        .connect_with(client, server, SERVER_NAME)
        .map_err(Error::quic(DOING))?
        .await
        .map_err(Error::quic(DOING))?;
    Ok((endpoint, connection))
}

fn endpoint(server: Option<ServerConfig>) -> Result<Endpoint, Error> {
    let socket = bind_udp(SocketAddr::new(LOCALHOST, 0)).map_err(Error::io("bind a UDP socket"))?;
    millstream_quic::endpoint(endpoint_config(), server, socket).map_err(Error::io("make a QUIC endpoint"))
}

//! TLS towards the broker: 1.3 only, our ALPN, and trust as the URL says.

use std::sync::{Arc, Mutex, PoisonError};

use millstream_quic::crypto_provider;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use sha2::{Digest, Sha256};

use crate::{ConnectError, Trust};

/// The TLS side of a connection, reusable for reconnects.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<QuicClientConfig>,
    shown: Arc<Shown>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads what `trust` names and prepares the handshake.
    pub(crate) fn new(trust: &Trust) -> Result<Self, ConnectError> {
        let provider = crypto_provider();
        let shown = Arc::new(Shown::default());
        let verifier = Verifier {
            trust: match trust {
                Trust::CaFile(path) => Roots::Ca(read_ca(path, &provider)?),
                Trust::Pin(digest) => Roots::Pin(*digest),
            },
            provider: provider.clone(),
            shown: shown.clone(),
        };
        let setup =
            |error: &dyn std::fmt::Display| ConnectError::Local(format!("TLS set-up failed: {error}"));
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| setup(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![millstream_wire::ALPN.to_vec()];
        let config = QuicClientConfig::try_from(config).map_err(|error| setup(&error))?;
        Ok(Self { config: Arc::new(config), shown })
    }

    /// For quinn.
    pub(crate) fn quic(&self) -> Arc<QuicClientConfig> {
        self.config.clone()
    }

    /// `sha256:HEX` of the certificate that the broker showed last, if any.
    pub(crate) fn shown(&self) -> Option<String> {
        let digest = *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        digest.map(|digest| format!("sha256:{}", hex::encode(digest)))
    }
}

/// Digest of the last certificate seen, for the error message when it is not trusted.
#[derive(Debug, Default)]
struct Shown(Mutex<Option<[u8; 32]>>);

/// Checks the certificate by CA or by pin, and the handshake's signature in both cases.
#[derive(Debug)]
struct Verifier {
    trust: Roots,
    provider: Arc<CryptoProvider>,
    shown: Arc<Shown>,
}

#[derive(Debug)]
enum Roots {
    Ca(Arc<WebPkiServerVerifier>),
    Pin([u8; 32]),
}

#[derive(Debug, thiserror::Error)]
#[error("it is not the pinned one")]
struct NotPinned;

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest: [u8; 32] = Sha256::digest(end_entity).into();
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
        match &self.trust {
            Roots::Ca(roots) => {
                roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            // Both are public: nothing is learnt from how long the comparison takes.
            Roots::Pin(pin) if *pin == digest => Ok(ServerCertVerified::assertion()),
            Roots::Pin(_) => Err(CertificateError::Other(OtherError(Arc::new(NotPinned))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn read_ca(
    path: &std::path::Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, ConnectError> {
    let fault = |reason: String| ConnectError::CaFile { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("it holds no certificate in PEM form".into()));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| fault(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_ca_file_is_named() {
        let missing = Tls::new(&Trust::CaFile("/no/such/ca.pem".into())).unwrap_err().to_string();
        assert!(missing.contains("/no/such/ca.pem"), "{missing}");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let error = Tls::new(&Trust::CaFile(empty.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
    }

    #[test]
    fn only_the_pinned_certificate_passes() {
        let certificate = CertificateDer::from(b"der".to_vec());
        let check = |pin: [u8; 32]| {
            let verifier = Verifier {
                trust: Roots::Pin(pin),
                provider: crypto_provider(),
                shown: Arc::new(Shown::default()),
            };
            let name = ServerName::try_from("localhost").unwrap();
            verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(check(Sha256::digest(b"der").into()));
        assert!(!check([0; 32]));
    }
}

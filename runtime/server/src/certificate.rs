//! The broker's certificate: made on first start, kept in the data directory, trusted by clients by file or by pin.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use millstream_wire::ALPN;
use quinn::crypto::rustls::QuicServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CertificateError {
    #[error("cannot {what} {}: {cause}", path.display())]
    File { what: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("{} is not a PEM certificate or key: {cause}; delete the folder to have new ones made", path.display())]
    Pem { path: PathBuf, cause: rustls_pki_types::pem::Error },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the certificate cannot be used: {0}; delete the folder `tls` to have a new one made")]
    Use(String),
}

/// The certificate and its key.
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Reads the certificate in `dir`, or makes one for this host and keeps it there.
    pub(crate) fn load_or_make(dir: &Path) -> Result<Self, CertificateError> {
        let (cert_path, key_path) = (dir.join("cert.pem"), dir.join("key.pem"));
        if !cert_path.exists() {
            make(dir, &cert_path, &key_path)?;
        }
        let pem = |path: &Path, cause| CertificateError::Pem { path: path.to_owned(), cause };
        Ok(Self {
            der: CertificateDer::from_pem_file(&cert_path).map_err(|cause| pem(&cert_path, cause))?,
            key: PrivateKeyDer::from_pem_file(&key_path).map_err(|cause| pem(&key_path, cause))?,
        })
    }

    /// SHA-256 of the certificate, hexadecimal: what clients pin.
    pub(crate) fn pin(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }

    /// A secret that stays the same as long as the key does.
    pub(crate) fn secret(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update("millstream endpoint")
            .chain_update(self.key.secret_der())
            .finalize()
            .into()
    }

    /// TLS 1.3 with this certificate, and our protocol alone.
    pub(crate) fn crypto(self) -> Result<Arc<QuicServerConfig>, CertificateError> {
        let used = |error: rustls::Error| CertificateError::Use(error.to_string());
        let mut config = rustls::ServerConfig::builder_with_provider(millstream_quic::crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(used)?
            .with_no_client_auth()
            .with_single_cert(vec![self.der], self.key)
            .map_err(used)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let config = QuicServerConfig::try_from(config);
        config.map(Arc::new).map_err(|error| CertificateError::Use(error.to_string()))
    }
}

fn make(dir: &Path, cert_path: &Path, key_path: &Path) -> Result<(), CertificateError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from).into_iter().chain(host_name());
    let made = rcgen::generate_simple_self_signed(names.collect::<Vec<_>>())?;
    let file = |what, path: &Path| {
        let path = path.to_owned();
        move |cause| CertificateError::File { what, path, cause }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file("make the folder", dir))?;
    let mut key = fs::OpenOptions::new();
    let key = key.write(true).create(true).truncate(true).mode(0o600).open(key_path);
    let mut key = key.map_err(file("write", key_path))?;
    key.write_all(made.signing_key.serialize_pem().as_bytes()).map_err(file("write", key_path))?;
    key.sync_all().map_err(file("sync", key_path))?;
    // The certificate last, by renaming: where it is, the key is.
    let draft = cert_path.with_extension("new");
    fs::write(&draft, made.cert.pem()).map_err(file("write", &draft))?;
    fs::rename(&draft, cert_path).map_err(file("write", cert_path))
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty() && name.is_ascii()).then(|| name.to_owned())
}

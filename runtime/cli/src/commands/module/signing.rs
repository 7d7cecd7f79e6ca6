//! `millstream module keygen`, `sign`, `verify`: who vouches for a module. No broker is needed.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use millstream_engine::{PrivateKey, PublicKey, SignatureError, signature};
use serde_json::json;

use crate::{cli::Common, failure::Failure, output};

const KEYGEN_EXAMPLES: &str = "Both files are PEM, as OpenSSL reads and makes them:
  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub.pem

Example:
  millstream module keygen -o key.pem";

const SIGN_EXAMPLES: &str = "The signature is appended to the module, which gets another SHA-256 with it: sign before you push. Several may sign, one
after the other.

Example:
  millstream module sign my-filter.wasm --key key.pem";

const VERIFY_EXAMPLES: &str =
    "The exit code is 1 unless the module is signed by this key and all its signatures hold.

Example:
  millstream module verify my-filter.wasm --key key.pub.pem";

/// `millstream module keygen`.
#[derive(Debug, Args)]
#[command(after_help = KEYGEN_EXAMPLES)]
pub(crate) struct Keygen {
    /// Where the private key goes, readable by its owner alone; the public key goes beside it, as NAME.pub.pem
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// `millstream module sign`.
#[derive(Debug, Args)]
#[command(after_help = SIGN_EXAMPLES)]
pub(crate) struct Sign {
    /// The module
    file: PathBuf,
    /// Private key of who signs, PEM (PKCS #8, Ed25519)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signed module goes; in place of the other, if it is not said
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// `millstream module verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(crate) struct Verify {
    /// The module
    file: PathBuf,
    /// Public key of who should have signed it, PEM (SubjectPublicKeyInfo, Ed25519)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Keygen {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let public_path = self.output.with_extension("pub.pem");
        let (key, pem) = PrivateKey::generate().map_err(|error| Failure::new(error.to_string()))?;
        let public = key.public();
        write_new(&public_path, 0o644, &public.to_pem())?;
        if let Err(failure) = write_new(&self.output, 0o600, &pem) {
            let _ = fs::remove_file(&public_path);
            return Err(failure);
        }
        if common.json {
            return output::json(
                &json!({ "key": public.id(), "private": self.output, "public": public_path }),
            );
        }
        let (private, public_path) = (self.output.display(), public_path.display());
        output::line(format!("key {}: private in {private}, public in {public_path}", public.id()))
    }
}

impl Sign {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let (wasm, pem) = (read(&self.file)?, text(&self.key)?);
        let key = PrivateKey::from_pem(&pem).map_err(|error| refused(&self.key, &error))?;
        let signed = signature::sign(&wasm, &key).map_err(|error| refused(&self.file, &error))?;
        let output = self.output.unwrap_or(self.file);
        // Never half of it in place of the module.
        let mut draft = output.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        let written = fs::write(&draft, &signed).and_then(|()| fs::rename(&draft, &output));
        written.map_err(|error| Failure::file("write", &output, &error))?;
        let (id, sha256) = (key.public().id(), hex::encode(millstream_engine::digest(&signed)));
        if common.json {
            return output::json(&json!({ "file": output, "key": id, "sha256": sha256 }));
        }
        output::line(format!("{} is signed by key {id}, sha256:{sha256}", output.display()))
    }
}

impl Verify {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let (wasm, pem) = (read(&self.file)?, text(&self.key)?);
        let key = PublicKey::from_pem(&pem).map_err(|error| refused(&self.key, &error))?;
        let signers = signature::signers(&wasm).map_err(|error| refused(&self.file, &error))?;
        let ids: Vec<_> = signers.iter().map(PublicKey::id).collect();
        if !signers.contains(&key) {
            let by = if ids.is_empty() {
                "not signed".to_owned()
            } else {
                format!("signed by {}", ids.join(", "))
            };
            let text = format!("{} is {by}, and key {} was asked for", self.file.display(), key.id());
            return Err(Failure::new(text).with("signers", ids));
        }
        if common.json {
            return output::json(&json!({ "file": self.file, "key": key.id(), "signers": ids }));
        }
        output::line(format!("{} is signed by {}", self.file.display(), ids.join(", ")))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::file("read", path, &error))
}

fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))
}

fn refused(path: &Path, error: &SignatureError) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// Never over another file: a key that is lost cannot be had again.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        let failure = Failure::file("write", path, &error);
        match error.kind() {
            io::ErrorKind::AlreadyExists => failure.and("keys are not written over: choose another name"),
            _ => failure,
        }
    })
}

//! Compiled modules on disk, so that a restart compiles nothing.
//!
//! One directory, readable by this user alone. `key` holds 32 random bytes. `SHA256-ENGINE.cwasm` holds the compiled form
//! of the module with that digest for the engine with that compatibility hash, behind a 32-byte HMAC-SHA-256, under the
//! key, of digest, hash and compiled form. A file that does not match is as good as none. Who writes holds a lock on the file
//! `lock`, since several processes may have one cache.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::module::ModuleDigest;
use crate::{EngineError, compiled};

const KEY_FILE: &str = "key";
const LOCK_FILE: &str = "lock";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
const EXTENSION: &str = "cwasm";

/// The compiled modules of one engine version in one directory.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
    engine_hash: [u8; 32],
}

impl Cache {
    /// Opens the cache in `dir`, making it if missing; removes what other engine versions left there.
    pub(crate) fn open(dir: &Path, engine: &Engine) -> Result<Self, EngineError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| EngineError::Cache { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed(dir))?;
        let key_file = dir.join(KEY_FILE);
        let _lock = lock(dir).map_err(failed(dir))?;
        let key = key(dir, &key_file).map_err(failed(&key_file))?;
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self { dir: dir.to_owned(), key, engine_hash: hasher.0.finalize().into() };
        cache.remove_others();
        Ok(cache)
    }

    /// The compiled form of the module, if it is here and as it was written.
    pub(crate) fn read(&self, digest: &ModuleDigest, engine: &Engine) -> Option<Component> {
        let file = self.file(digest);
        let bytes = fs::read(&file).ok()?;
        let (mac, compiled) = bytes.split_at_checked(MAC_BYTES)?;
        if self.mac(digest, compiled).verify_slice(mac).is_err() {
            tracing::warn!(file = %file.display(), "a cached module was changed; it is compiled anew");
            return None;
        }
        compiled::load(engine, compiled)
            .inspect_err(|error| tracing::warn!(%error, "a cached module does not load; it is compiled anew"))
            .ok()
    }

    /// Keeps the compiled form of the module. The cache may go without it, so a failure is only logged.
    pub(crate) fn write(&self, digest: &ModuleDigest, compiled: &[u8]) {
        if let Err(error) = self.write_file(&self.file(digest), digest, compiled) {
            tracing::warn!(%error, dir = %self.dir.display(), "cannot cache a compiled module");
        }
    }

    fn write_file(&self, file: &Path, digest: &ModuleDigest, compiled: &[u8]) -> io::Result<()> {
        let mac = self.mac(digest, compiled).finalize().into_bytes();
        let _lock = lock(&self.dir)?;
        write_atomically(&self.dir, file, &[mac.as_slice(), compiled])
    }

    fn mac(&self, digest: &ModuleDigest, compiled: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(digest);
        mac.update(&self.engine_hash);
        mac.update(compiled);
        mac
    }

    fn file(&self, digest: &ModuleDigest) -> PathBuf {
        self.dir.join(format!("{}-{}.{EXTENSION}", hex::encode(digest), self.suffix()))
    }

    fn suffix(&self) -> String {
        hex::encode(self.engine_hash.first_chunk::<8>().expect("a SHA-256 has 32 bytes"))
    }

    /// Files of other engine versions can never be used again; neither can half-written ones.
    fn remove_others(&self) {
        let ours = format!("-{}.{EXTENSION}", self.suffix());
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let theirs = name.ends_with(EXTENSION) && !name.ends_with(&ours);
            if (theirs || name.ends_with(TEMPORARY))
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::debug!(%error, %name, "cannot remove an old file from the module cache");
            }
        }
    }
}

const TEMPORARY: &str = ".tmp";

/// Waits for others that write to `dir`, and keeps them out until it is dropped.
fn lock(dir: &Path) -> io::Result<File> {
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK_FILE))?;
    lock.lock()?;
    Ok(lock)
}

/// The key in `file`, or a new one written there.
fn key(dir: &Path, file: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if let Ok(found) = fs::read(file)
        && let Ok(key) = found.try_into()
    {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    write_atomically(dir, file, &[&key])?;
    Ok(key)
}

fn write_atomically(dir: &Path, file: &Path, parts: &[&[u8]]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!("{}-{count}{TEMPORARY}", std::process::id()));
    let write = || {
        let mut out: File =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        parts.iter().try_for_each(|part| out.write_all(part))?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    };
    write().inspect_err(|_| {
        // The error of the write is the one to report.
        let _ = fs::remove_file(&temporary);
    })
}

/// Feeds what is hashed to SHA-256: the standard hasher differs from one compiler to the next.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest.first_chunk().map_or(0, |start| u64::from_le_bytes(*start))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

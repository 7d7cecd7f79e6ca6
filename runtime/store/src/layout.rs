//! The data directory: which files are in it, the lock, the format version, and the file operations recovery needs.
//!
//! | name        | what |
//! |-------------|------|
//! | `lock`      | held while a process has the store open |
//! | `format`    | `millstream store format N` |
//! | `progress`  | the side file (`progress.rs`) |
//! | `db/`       | the fjall database |
//! | `creating`  | there until the store is complete: nothing was written to it yet |
//! | `*.torn`    | bytes cut off journals by recovery |

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::error::OpenError;

/// Newest version of the on-disk format that this build reads, and the one it writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
const FORMAT_TEXT: &str = "millstream store format ";

/// Paths in a data directory, and the lock on it for as long as this lives.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) db: PathBuf,
    pub(crate) creating: PathBuf,
    pub(crate) progress: PathBuf,
    format: PathBuf,
    _lock: File,
}

/// What a data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// No store yet, or one whose creation was interrupted before anything could be written to it.
    Nothing,
    /// A store.
    Store,
}

impl Layout {
    /// Makes the directory if need be and locks it.
    pub(crate) fn lock(dir: &Path) -> Result<Self, OpenError> {
        if fs::metadata(dir).is_ok_and(|found| !found.is_dir()) {
            return Err(OpenError::NotADirectory { path: dir.to_owned() });
        }
        create_durably(dir).map_err(|error| io_error("create", dir, error))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| io_error("open", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path, error)),
        }
        Ok(Self {
            dir: dir.to_owned(),
            db: dir.join("db"),
            creating: dir.join("creating"),
            progress: dir.join("progress"),
            format: dir.join("format"),
            _lock: lock,
        })
    }

    /// Looks what is there, and refuses what this build must not touch.
    pub(crate) fn contents(&self) -> Result<Contents, OpenError> {
        if exists(&self.creating)? {
            return self.check_unused().map(|()| Contents::Nothing);
        }
        let db_exists = exists(&self.db)?;
        match fs::read_to_string(&self.format) {
            Ok(text) => self.check_format(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !db_exists => {
                return Ok(Contents::Nothing);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.incomplete("the file `format` is missing"));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.check_format("")?,
            Err(error) => return Err(io_error("read", &self.format, error)),
        }
        if db_exists { Ok(Contents::Store) } else { Err(self.incomplete("the directory `db` is missing")) }
    }

    /// Refuses to take for an interrupted creation what has seen a commit.
    fn check_unused(&self) -> Result<(), OpenError> {
        match crate::progress::read(&self.progress) {
            Ok(history) if history.as_ref().is_none_or(|history| history.synced() == 0) => Ok(()),
            Ok(_) => Err(self.incomplete("the file `creating` is there, although the store was in use")),
            Err(error) => Err(io_error("read", &self.progress, error)),
        }
    }

    /// Says that the directory holds a store of this build's format.
    pub(crate) fn write_format(&self) -> Result<(), OpenError> {
        let text = format!("{FORMAT_TEXT}{FORMAT_VERSION}\n");
        write_atomically(&self.format, text.as_bytes())
            .map_err(|error| io_error("write", &self.format, error))
    }

    pub(crate) fn incomplete(&self, what: impl Into<String>) -> OpenError {
        OpenError::Incomplete { dir: self.dir.clone(), what: what.into() }
    }

    fn check_format(&self, text: &str) -> Result<(), OpenError> {
        let version = text.trim_end().strip_prefix(FORMAT_TEXT).and_then(|version| version.parse().ok());
        match version {
            Some(FORMAT_VERSION) => Ok(()),
            Some(found) if found > FORMAT_VERSION => {
                Err(OpenError::NewerVersion { dir: self.dir.clone(), found, supported: FORMAT_VERSION })
            }
            _ => Err(self.incomplete("the file `format` does not name a format version")),
        }
    }
}

/// Names what was tried on which path.
pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::Permission { action, path }
        }
        io::ErrorKind::NotADirectory => OpenError::NotADirectory { path },
        _ => OpenError::Io { action, path, source },
    }
}

/// Makes the directory `dir` and those above it that are missing, each with its name durable: a store whose directory
/// is gone with all that is in it cannot even tell that something is missing.
fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_durably(parent)?;
    }
    match fs::create_dir(dir) {
        // Somebody else was faster, or it is no directory.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        created => created?,
    }
    sync_parent(dir)
}

/// Replaces the file at `path` so that after a crash either the old or the new content is there, in full.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Makes durable that `path` exists, or no longer does.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Makes durable which names `dir` holds.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|error| io_error("look for", path, error))
}

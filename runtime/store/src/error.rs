//! What can go wrong: one enum an operation.

use std::{fmt, io, path::PathBuf, sync::Arc};

use millstream_types::{Offset, PartitionId};

use crate::recovery::MissingRange;

/// Why a store did not open. Nothing was changed, except where a variant says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error(
        "the data directory {} is in use by another process; stop that process or choose another directory",
        dir.display()
    )]
    Locked {
        /// The directory asked for.
        dir: PathBuf,
    },
    /// The path is something else than a directory.
    #[error("{} is not a directory; name a directory, or a path that does not exist yet", path.display())]
    NotADirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// The process may not read or write there.
    #[error("no permission to {action} {}; make it readable and writable for the user that runs millstream", path.display())]
    Permission {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
    },
    /// The data was written in a format this build does not know.
    #[error(
        "the data in {} has format version {found}, this build knows versions up to {supported}; \
         run a newer millstream, or restore a copy made by this version", dir.display()
    )]
    NewerVersion {
        /// The directory asked for.
        dir: PathBuf,
        /// Version found on disk.
        found: u32,
        /// Newest version this build reads.
        supported: u32,
    },
    /// A file that must be there is missing or unreadable: not a store, or only part of one.
    #[error("{} is not a complete store: {what}; restore the directory from a copy, or name an empty one", dir.display())]
    Incomplete {
        /// The directory asked for.
        dir: PathBuf,
        /// What is missing or damaged.
        what: String,
    },
    /// Data that was acknowledged is not there.
    #[error(transparent)]
    DataLoss(#[from] DataLoss),
    /// The operating system refused something else.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// fjall refused its files.
    #[error("the database in {} does not open: {source}; restore the directory from a copy", dir.display())]
    Database {
        /// The directory asked for.
        dir: PathBuf,
        /// fjall's answer.
        source: DatabaseError,
    },
    /// A stored row cannot be decoded.
    #[error("the database in {} does not open: {source}; restore the directory from a copy", dir.display())]
    Read {
        /// The directory asked for.
        dir: PathBuf,
        /// What could not be read.
        source: ReadError,
    },
    /// The repair of an accepted loss could not be written.
    #[error("the database in {} could not be repaired: {source}", dir.display())]
    Repair {
        /// The directory asked for.
        dir: PathBuf,
        /// Why the write failed.
        source: WriteError,
    },
}

/// Acknowledged data that is missing, and how that was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataLoss {
    /// The directory asked for.
    pub dir: PathBuf,
    /// Newest commit that is there.
    pub recovered: u64,
    /// Newest commit that was acknowledged as durable.
    pub acknowledged: u64,
    /// How it was noticed: which file, where.
    pub evidence: String,
    /// What is missing, by partition. May be empty if only metadata is lost.
    pub missing: Vec<MissingRange>,
}

impl std::error::Error for DataLoss {}

impl fmt::Display for DataLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "acknowledged data is missing in {}: commits {} to {} are damaged or gone ({})",
            self.dir.display(),
            self.recovered + 1,
            self.acknowledged.max(self.recovered + 1),
            self.evidence
        )?;
        match self.missing.as_slice() {
            [] => write!(f, "; no records are known to be among them")?,
            ranges => {
                write!(f, "; missing: ")?;
                for (index, range) in ranges.iter().enumerate() {
                    write!(f, "{}{range}", if index == 0 { "" } else { ", " })?;
                }
            }
        }
        write!(
            f,
            "; restore the directory from a copy, or start once with --accept-data-loss to go on without it"
        )
    }
}

/// Why a write did not happen, or may not have happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A write or an fsync failed, now or earlier. What was being written may or may not be there after the next open,
    /// and so may everything since the last sync. The store takes no more writes; reads still work.
    #[error(
        "the outcome of a write is unknown: {cause}; the store takes no more writes until it is opened again"
    )]
    Unknown {
        /// The first failure.
        cause: DatabaseError,
    },
    /// The workers have stopped writing memtables to disk. The store takes no more writes; reads still work.
    #[error(
        "the store has not written a memtable to disk for {stalled_s} s while {waiting_bytes} bytes wait; \
         check the disk, then start again"
    )]
    FlushStalled {
        /// Seconds without progress.
        stalled_s: u64,
        /// Bytes that wait in memory.
        waiting_bytes: u64,
    },
    /// The batch appends below what the partition already holds. Nothing was written.
    #[error(
        "an append to partition {partition} at offsets {base_offset}..{next_offset} does not follow its end {end}"
    )]
    OutOfOrder {
        /// The partition written to.
        partition: PartitionId,
        /// First offset of the batch.
        base_offset: Offset,
        /// Offset after the batch.
        next_offset: Offset,
        /// Offset that the partition would have given next.
        end: Offset,
    },
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// fjall failed to read.
    #[error("the database cannot be read: {0}")]
    Database(#[from] DatabaseError),
    /// A row is not what its kind says.
    #[error("a stored {kind} is damaged (key {key})")]
    Damaged {
        /// What kind of row.
        kind: &'static str,
        /// Its key, in hexadecimal.
        key: String,
    },
}

impl ReadError {
    pub(crate) fn damaged(kind: &'static str, key: &[u8]) -> Self {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::Damaged { kind, key }
    }
}

impl From<fjall::Error> for ReadError {
    fn from(error: fjall::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A failure below the store: of fjall, or of the file system under it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct DatabaseError(Arc<str>);

impl From<fjall::Error> for DatabaseError {
    fn from(error: fjall::Error) -> Self {
        // fjall's own text is the debug form of the enum; the operating system's is for people.
        let text = match &error {
            fjall::Error::Io(error) => error.to_string(),
            fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
            fjall::Error::Poisoned => "an earlier write or flush failed".to_owned(),
            other => other.to_string(),
        };
        Self(text.into())
    }
}

impl From<io::Error> for DatabaseError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string().into())
    }
}

//! Why a bench failed.

use std::io;

/// Why a bench could not be run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense.
    #[error("{setting} is {value}, but {why}")]
    Setting {
        /// The option as it is typed.
        setting: &'static str,
        /// The value given.
        value: String,
        /// What it should be.
        why: &'static str,
    },
    /// The operating system refused something.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A QUIC connection to one of the limits failed.
    #[error("raw QUIC failed while trying to {doing}: {source}")]
    Quic {
        /// What was tried.
        doing: &'static str,
        /// What quinn or rustls said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker that is measured, or its client, failed.
    #[error("Millstream failed while trying to {doing}: {source}")]
    Millstream {
        /// What was tried.
        doing: &'static str,
        /// What the client said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The module engine refused what it should run.
    #[error("the module engine failed while trying to {doing}: {source}")]
    Engine {
        /// What was tried.
        doing: &'static str,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A subscription delivered another number of records than was published for it.
    #[error("{expected} records should have come, but {found} did")]
    WrongCount {
        /// How many match.
        expected: u64,
        /// How many came.
        found: u64,
    },
    /// Another record was delivered than the one just published.
    #[error("the record at offset {expected} was published, but the one at offset {found} was delivered")]
    WrongRecord {
        /// Offset of what was published.
        expected: u64,
        /// Offset of what came.
        found: u64,
    },
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// fjall failed in one of the limits.
    #[error("raw fjall failed: {0}")]
    Fjall(#[from] fjall::Error),
    /// A child process did not say what it should.
    #[error("the process `{command}` {what}")]
    Child {
        /// The command line.
        command: String,
        /// What it did instead.
        what: String,
    },
    /// Frames or records were sent that were never answered.
    #[error("{sent} were sent, but only {committed} were answered")]
    Unanswered {
        /// How many were sent.
        sent: u64,
        /// How many were answered.
        committed: u64,
    },
    /// A task of the bench itself panicked.
    #[error("a measurement panicked: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn millstream<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Millstream { doing, source: source.into() }
    }

    pub(crate) fn engine<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Engine { doing, source: source.into() }
    }

    pub(crate) fn quic<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Quic { doing, source: source.into() }
    }
}

//! Why the demo could not go on.

use std::{io, path::PathBuf};

use millstream_client::{CallError, ConnectError, ConsumeError, PublishError};

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no {}: build it with `cargo build -p millstream`, or name the binary", .0.display())]
    NoBinary(PathBuf),
    #[error("cannot {what}: {cause}")]
    Io { what: String, cause: io::Error },
    #[error("the broker {what}; its log is {}", log.display())]
    Broker { what: String, log: PathBuf },
    #[error("a message cannot be read: {0}")]
    Message(#[from] serde_json::Error),
    #[error("a worker of {service} ended: {reason}")]
    Worker { service: &'static str, reason: String },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Error {
    /// `cannot WHAT: the system's words`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }
}

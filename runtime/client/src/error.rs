//! Why a connection, a call, a publish or a subscription failed. Each operation has its own enum.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use millstream_types::{BatchError, SlowDown};
use millstream_wire::{CloseCode, ErrorCode, WireError};
use tokio::time::Instant;

use crate::limits;

use crate::Place;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The CA file of the URL cannot be used.
    #[error("CA file {} cannot be used: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The host name has no address.
    #[error("host {host:?} cannot be resolved: {reason}")]
    Resolve {
        /// As in the URL.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Nothing listens there.
    #[error("no broker listens at {address} (UDP): start one with `millstream serve`, or correct the URL")]
    Unreachable {
        /// Where it was tried.
        address: SocketAddr,
    },
    /// No answer in time.
    #[error("no answer from {address} (UDP) within {}: is a broker there, and does the network let UDP through?", seconds(.after))]
    TimedOut {
        /// Where it was tried.
        address: SocketAddr,
        /// How long.
        after: Duration,
    },
    /// The broker's certificate is not the one that the URL trusts.
    #[error(
        "the certificate of {address} ({}) is not trusted: {reason}; take the URL that this broker \
         wrote to its DIR/client.url", shown.as_deref().unwrap_or("unknown"))]
    Untrusted {
        /// Who showed it.
        address: SocketAddr,
        /// `sha256:HEX` of what was shown.
        shown: Option<String>,
        /// What is wrong with it.
        reason: String,
    },
    /// The peer does not speak `millstream/1`.
    #[error("{address} does not speak millstream/1: {reason}")]
    Protocol {
        /// Who answered.
        address: SocketAddr,
        /// What is wrong.
        reason: String,
    },
    /// The broker answered and refused.
    #[error("the broker refused the connection: {0}")]
    Refused(WireError),
    /// The broker closed the connection during the handshake.
    #[error("the connection to {address} failed: {lost}")]
    Lost {
        /// With whom.
        address: SocketAddr,
        /// Why.
        lost: Lost,
    },
    /// Something on this machine: no socket, no TLS.
    #[error("{0}")]
    Local(String),
    /// [`Client::close`](crate::Client::close) was called.
    #[error("the client is closed")]
    Closed,
}

impl ConnectError {
    /// Whether the same attempt may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Lost { lost, .. } => lost.is_retryable(),
            Self::Refused(error) => error.retryable,
            Self::CaFile { .. }
            | Self::Untrusted { .. }
            | Self::Protocol { .. }
            | Self::Local(_)
            | Self::Closed => false,
        }
    }
}

/// A connection or stream that ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct Lost {
    /// Application code of the broker, where it gave one.
    pub code: Option<u64>,
    /// For people.
    pub reason: String,
}

impl Lost {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { code: None, reason: reason.into() }
    }

    fn with_code(code: u64, text: &str) -> Self {
        let meaning = match code {
            code if code == CloseCode::Done as u64 => "the broker ended it",
            code if code == CloseCode::Protocol as u64 => "the broker says that the protocol was broken",
            code if code == CloseCode::Version as u64 => "the broker speaks another protocol version",
            code if code == CloseCode::TooLarge as u64 => "a frame was above the broker's limit",
            code if code == CloseCode::HelloTimeout as u64 => "the broker had no greeting in time",
            code if code == CloseCode::Busy as u64 => "the broker has too many connections or streams",
            code if code == CloseCode::ShuttingDown as u64 => "the broker is shutting down",
            code if code == CloseCode::StoreUnsure as u64 => "the broker's store is in doubt and it stops",
            code if code == CloseCode::Vanished as u64 => "the broker took this client for gone",
            _ => "the broker closed it",
        };
        let reason = match text {
            "" => format!("{meaning} (code {code})"),
            text => format!("{meaning} (code {code}: {text})"),
        };
        Self { code: Some(code), reason }
    }

    /// Whether a new connection may do better.
    pub fn is_retryable(&self) -> bool {
        let ours = [CloseCode::Protocol, CloseCode::Version, CloseCode::TooLarge];
        !self.code.is_some_and(|code| ours.iter().any(|ours| u64::from(ours.code()) == code))
    }
}

impl From<quinn::ConnectionError> for Lost {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self::with_code(
                close.error_code.into_inner(),
                &String::from_utf8_lossy(&close.reason).chars().take(300).collect::<String>(),
            ),
            quinn::ConnectionError::TimedOut => Self::new("nothing was heard from the broker for too long"),
            quinn::ConnectionError::Reset => Self::new("the broker was restarted"),
            other => Self::new(other.to_string()),
        }
    }
}

impl From<quinn::ReadError> for Lost {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::ConnectionLost(error) => error.into(),
            quinn::ReadError::Reset(code) => Self::with_code(code.into_inner(), ""),
            other => Self::new(other.to_string()),
        }
    }
}

impl From<quinn::WriteError> for Lost {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::ConnectionLost(error) => error.into(),
            quinn::WriteError::Stopped(code) => Self::with_code(code.into_inner(), ""),
            other => Self::new(other.to_string()),
        }
    }
}

impl From<millstream_quic::WriteError> for Lost {
    fn from(error: millstream_quic::WriteError) -> Self {
        match error {
            millstream_quic::WriteError::Stream(error) => error.into(),
            other => Self::new(other.to_string()),
        }
    }
}

/// Why a request, or the opening of a stream, failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker refused.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The connection ended before the answer came: what was asked for may have been done.
    #[error("the connection ended before the answer came: {0}")]
    Lost(#[from] Lost),
    /// No answer in time: what was asked for may have been done.
    #[error("no answer within {}", seconds(.after))]
    TimedOut {
        /// How long.
        after: Duration,
    },
    /// The answer is not one that the protocol allows here.
    #[error("the broker's answer makes no sense: {0}; are both ends of the same version?")]
    Protocol(String),
}

impl CallError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Refused(error) => error.retryable,
            Self::Lost(lost) => lost.is_retryable(),
            Self::TimedOut { .. } => true,
            Self::Protocol(_) => false,
        }
    }

    /// How long the broker asks to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        Some(self.refusal()?.retry_after()?.min(limits::RETRY_AFTER_MAX))
    }

    /// When that is.
    pub(crate) fn not_before(&self) -> Instant {
        Instant::now() + self.retry_after().unwrap_or_default()
    }

    /// Nothing was done, since it is too much at once: how long to wait before the next attempt, if that still is in the time
    /// `left`.
    pub(crate) fn slow_down(&self, left: Duration) -> Option<Duration> {
        let wait = self.retry_after().unwrap_or_default();
        (self.code() == Some(ErrorCode::SlowDown) && wait < left).then_some(wait)
    }

    /// The broker's code, where it refused.
    pub fn code(&self) -> Option<ErrorCode> {
        self.refusal().map(|error| error.code)
    }

    fn refusal(&self) -> Option<&WireError> {
        match self {
            Self::Refused(error) | Self::Connect(ConnectError::Refused(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<millstream_quic::ReadError> for CallError {
    fn from(error: millstream_quic::ReadError) -> Self {
        match error {
            millstream_quic::ReadError::Frame(error) => Self::Protocol(error.to_string()),
            millstream_quic::ReadError::Stream(error) => Self::Lost(error.into()),
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// Why a record has no receipt.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The publisher's stream could not be opened.
    #[error(transparent)]
    Open(#[from] CallError),
    /// The broker refused the record's batch; nothing of it is stored.
    #[error("the broker refused the batch: {0}")]
    Refused(WireError),
    /// A module on the topic's ingest rejected the record; others of its batch are stored.
    #[error("module {module} rejected the record: {reason}")]
    Rejected {
        /// As it is bound: `NAME@VERSION` or `sha256:HEX`.
        module: String,
        /// In the module's words.
        reason: String,
    },
    /// A module on the topic's ingest failed on the record, which is not stored; others of its batch are.
    #[error("module {module} failed on the record, which is not stored: {cause}")]
    Faulted {
        /// As it is bound: `NAME@VERSION` or `sha256:HEX`.
        module: String,
        /// The kind of fault, and of a panic its message, file and line.
        cause: String,
    },
    /// A module on a topic's ingest did not let a record of an atomic publish in: nothing is stored.
    #[error("record {index}, counted from 0, is refused: {refused}")]
    RefusedAt {
        /// Which of the records, from 0.
        index: usize,
        /// The module and its reason.
        refused: WireError,
    },
    /// The record cannot be put in a batch.
    #[error("the record cannot be published: {0}")]
    Record(#[from] BatchError),
    /// The record, or the batch, is larger than the broker takes.
    #[error(
        "{what} takes {bytes} bytes with its key, headers and some 100 bytes of framing, above the limit of {max} bytes for a \
         batch: make it smaller, or split it"
    )]
    TooLarge {
        /// `a record` or `a batch`.
        what: &'static str,
        /// Its size in a batch of its own.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The topic has no such partition.
    #[error("partition {partition} does not exist: the topic has {partitions}, counted from 0")]
    UnknownPartition {
        /// As given.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The broker was away for too long. Whether the record is stored is unknown.
    #[error("given up after {}: {last}", seconds(.after))]
    GaveUp {
        /// How long it was tried.
        after: Duration,
        /// The last failure.
        last: Box<CallError>,
    },
    /// The publisher holds as much as it may; nothing of the record was taken.
    #[error(
        "the publisher holds {in_flight_bytes} bytes without a receipt, as many as it may{}; wait for receipts, or raise \
         in_flight_bytes",
        told(slow_down)
    )]
    Full {
        /// The publisher's limit.
        in_flight_bytes: usize,
        /// What the broker says, where it holds the publisher back.
        slow_down: Option<SlowDown>,
    },
    /// The publisher is closed.
    #[error("the publisher is closed")]
    Closed,
}

impl PublishError {
    /// Whether this is of a single record, whose batch was accepted.
    pub fn is_of_record(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Faulted { .. })
    }
}

fn told(slow_down: &Option<SlowDown>) -> String {
    slow_down.map(|slow| format!("; the broker asks to slow down: {slow}")).unwrap_or_default()
}

/// Why a subscription ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The consumer's stream could not be opened, or not opened again.
    #[error(transparent)]
    Open(#[from] CallError),
    /// The broker ended the subscription.
    #[error("the subscription ended: {0}")]
    Ended(WireError),
    /// A delivered batch contradicts itself.
    #[error("a batch delivered for {place} cannot be read: {error}")]
    Corrupt {
        /// Which partition of which topic.
        place: Place,
        /// What is wrong.
        error: BatchError,
    },
    /// The broker was away for too long.
    #[error("given up after {}: {last}", seconds(.after))]
    GaveUp {
        /// How long it was tried.
        after: Duration,
        /// The last failure.
        last: Box<CallError>,
    },
    /// The consumer is closed.
    #[error("the consumer is closed")]
    Closed,
}

fn seconds(duration: &Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

//! The broker's errors as they cross the wire: the only mapping.

use millstream_broker::Error;
use millstream_quic::ReadError;
use millstream_wire::{ErrorCode, FrameError, WireError};

use crate::limits::RETRY_AFTER_MS;

/// `error` as it crosses the wire.
pub(crate) fn to_wire(error: &Error) -> WireError {
    let (code, value) = match error {
        Error::UnknownTopic(topic) | Error::TopicDeleted(topic) => {
            (ErrorCode::UnknownTopic, Some(topic.to_string()))
        }
        Error::TopicExists(topic) => (ErrorCode::TopicExists, Some(topic.to_string())),
        Error::Partitions { partitions, .. } => (ErrorCode::BadRequest, Some(partitions.to_string())),
        Error::UnknownPartition { partition, .. } => {
            (ErrorCode::UnknownPartition, Some(partition.to_string()))
        }
        Error::BadFrame(_) => (ErrorCode::BadRequest, None),
        Error::Batch(_) | Error::SparseBatch => (ErrorCode::CorruptBatch, None),
        Error::ScheduledTooFar { deliver_at, .. } => (ErrorCode::BadRequest, Some(deliver_at.to_string())),
        Error::WrongProducer { found, .. } => (ErrorCode::BadRequest, Some(found.to_string())),
        Error::ProducerFenced { found, .. } => (ErrorCode::ProducerFenced, Some(found.to_string())),
        Error::DuplicateGone { sequence, .. } => (ErrorCode::DuplicateGone, Some(sequence.to_string())),
        Error::OutOfSequence { found, .. } => (ErrorCode::OutOfSequence, Some(found.to_string())),
        Error::TooLarge { bytes, .. } => (ErrorCode::TooLarge, Some(bytes.to_string())),
        Error::OffsetOutOfRange { offset, .. } => (ErrorCode::OffsetOutOfRange, Some(offset.to_string())),
        Error::StartByOffset => (ErrorCode::BadRequest, None),
        Error::StartOffsets { found, .. } => (ErrorCode::BadRequest, Some(found.to_string())),
        Error::UnknownSubscription(name)
        | Error::UnknownProcessor(name)
        | Error::SubscriptionDeleted(name) => (ErrorCode::UnknownSubscription, Some(name.to_string())),
        Error::SubscriptionExists { name, .. } => (ErrorCode::SubscriptionExists, Some(name.to_string())),
        Error::NotDurable(name) | Error::NoShadow(name) => (ErrorCode::BadRequest, Some(name.to_string())),
        Error::NoSuchRevision { wanted, .. } => {
            (ErrorCode::BadRequest, wanted.map(|wanted| wanted.to_string()))
        }
        Error::SubscriptionBusy(name) => (ErrorCode::SubscriptionBusy, Some(name.to_string())),
        Error::IsProcessor(_) => (ErrorCode::WrongMode, Some("processor".into())),
        Error::NoProcessor(name) | Error::Processor { name, .. } => {
            (ErrorCode::BadRequest, Some(name.to_string()))
        }
        Error::NotExclusive { mode, .. } => (ErrorCode::WrongMode, Some(mode.to_string())),
        Error::TooManyConsumers { consumers, .. } => (ErrorCode::SlowDown, Some(consumers.to_string())),
        Error::TooManySubscriptions { found } => (ErrorCode::SlowDown, Some(found.to_string())),
        Error::SlowDown(slow) => (ErrorCode::SlowDown, Some(slow.value.to_string())),
        Error::Rate(error) => (ErrorCode::BadRequest, Some(error.found.to_string())),
        Error::WorkerNeedsName => (ErrorCode::BadRequest, None),
        Error::Account(name) | Error::IngestName(name) => (ErrorCode::BadName, Some(name.to_string())),
        Error::NameTooLong { name } => (ErrorCode::BadName, Some(name.to_string())),
        Error::Delivery(_) => (ErrorCode::BadDelivery, None),
        Error::DeadLettersToSource(name) | Error::NoDeadLetters(name) => {
            (ErrorCode::BadDelivery, Some(name.to_string()))
        }
        Error::Gone => (ErrorCode::UnknownTopic, None),
        Error::AckBeyond { next, .. } => (ErrorCode::OffsetOutOfRange, Some(next.to_string())),
        Error::UnknownModule(module) => (ErrorCode::UnknownModule, Some(module.clone())),
        Error::ModuleExists(name) | Error::ModuleDeleted { name, .. } => {
            (ErrorCode::ModuleExists, Some(name.to_string()))
        }
        Error::ModuleBound { name, .. } => (ErrorCode::ModuleBound, Some(name.to_string())),
        Error::AmbiguousModule { name, .. } | Error::DeleteByDigest(name) => {
            (ErrorCode::BadName, Some(name.clone()))
        }
        Error::StockModule(name) => (ErrorCode::BadName, Some(name.to_string())),
        Error::ReservedName(name) => (ErrorCode::BadName, Some(name.to_string())),
        Error::ModuleRefused(_) => (ErrorCode::ModuleRefused, None),
        Error::ModuleUntrusted { module, .. } => (ErrorCode::ModuleUntrusted, module.clone()),
        Error::ConfigRefused { module, .. } => (ErrorCode::ConfigRefused, Some(module.clone())),
        Error::ModuleFault(_) => (ErrorCode::ModuleFault, None),
        Error::IngestFaulted { topic, .. } => (ErrorCode::ModuleFault, Some(topic.to_string())),
        Error::NotForIngest { module, .. } => (ErrorCode::NotForIngest, Some(module.clone())),
        Error::RecordRefused { part, record, .. } => {
            (ErrorCode::RecordRefused, Some(format!("{part}:{record}")))
        }
        Error::LimitReached { found, .. } => (ErrorCode::LimitReached, Some(found.to_string())),
        Error::CorruptBatch { offset, .. } => (ErrorCode::CorruptStore, Some(offset.to_string())),
        Error::DamagedRow { .. } | Error::Read(_) => (ErrorCode::CorruptStore, None),
        Error::OutcomeUnknown(_) => (ErrorCode::OutcomeUnknown, None),
        Error::Stopping | Error::InstancesBusy | Error::CompilerUnavailable(_) => {
            (ErrorCode::Unavailable, None)
        }
        _ => (ErrorCode::Internal, None),
    };
    let retryable = matches!(
        code,
        ErrorCode::SubscriptionBusy
            | ErrorCode::OutOfSequence
            | ErrorCode::Unavailable
            | ErrorCode::SlowDown
            | ErrorCode::OutcomeUnknown
    ) || matches!(error, Error::IngestFaulted { .. });
    let retry_after_ms = match error {
        Error::SlowDown(slow) => slow.after_ms.or(Some(RETRY_AFTER_MS)),
        Error::IngestFaulted { after_ms, .. } => Some(*after_ms),
        _ if code == ErrorCode::SlowDown => Some(RETRY_AFTER_MS),
        _ => None,
    };
    WireError { code, message: error.to_string(), value, retryable, retry_after_ms }
}

/// A frame that could not be read, as far as the peer can be told.
pub(crate) fn of_frame(error: &ReadError) -> WireError {
    match error {
        ReadError::Frame(FrameError::TooLarge { found, .. }) => {
            WireError::refused(ErrorCode::TooLarge, error.to_string()).with_value(found.to_string())
        }
        other => WireError::refused(ErrorCode::BadRequest, other.to_string()),
    }
}

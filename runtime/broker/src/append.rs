//! An append on its way: from being handed in to its receipt.

use millstream_store::Store;
use millstream_types::{Check, PartitionId, ProducerStamp, RecordBatch};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    Error,
    command::{Appended, Outcome, Reply},
    committer::answer,
};

/// An append that was handed in.
#[derive(Debug)]
pub struct PendingAppend {
    pub(crate) store: Store,
    pub(crate) answer: PendingAnswer,
}

/// What an append waits for.
#[derive(Debug)]
pub(crate) enum PendingAnswer {
    Commit(oneshot::Receiver<Reply>),
    /// It was appended before, longer ago than the shard remembers where.
    Search(JoinHandle<Result<Appended, Error>>),
}

impl PendingAppend {
    /// Waits until the batch is as durable as its topic asks; a duplicate is told where the original stands. Cancel-safe:
    /// cancelling gives up the receipt alone.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the write failed, [`Error::Gone`] when the topic was deleted meanwhile,
    /// [`Error::OutOfSequence`] and [`Error::ProducerFenced`] for batches of idempotent producers.
    pub async fn receipt(self) -> Result<Appended, Error> {
        let searching = match self.answer {
            PendingAnswer::Commit(reply) => match self::settle(&self.store, answer(reply).await) {
                Ok(settled) => return settled,
                Err(searching) => searching,
            },
            PendingAnswer::Search(searching) => searching,
        };
        searching.await.map_err(|error| Error::Internal(error.to_string()))?
    }

    /// The receipt if it is there by now; nothing more comes after it.
    pub fn try_receipt(&mut self) -> Option<Result<Appended, Error>> {
        let PendingAnswer::Commit(reply) = &mut self.answer else { return None };
        let reply = match reply.try_recv() {
            Ok(reply) => reply,
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => Err(Error::Stopping),
        };
        match settle(&self.store, reply) {
            Ok(settled) => Some(settled),
            Err(searching) => {
                self.answer = PendingAnswer::Search(searching);
                None
            }
        }
    }
}

/// What `reply` says; or the search that will tell.
fn settle(
    store: &Store,
    reply: Reply,
) -> Result<Result<Appended, Error>, JoinHandle<Result<Appended, Error>>> {
    match reply {
        Ok(Outcome::Appended(appended)) => Ok(Ok(appended)),
        Ok(Outcome::Duplicate { partition, stamp, records }) => {
            let store = store.clone();
            Err(tokio::task::spawn_blocking(move || search(&store, partition, stamp, records)))
        }
        Ok(other) => Ok(Err(Error::Internal(format!("an append was answered by {other:?}")))),
        Err(error) => Ok(Err(error)),
    }
}

/// Where the batch that `stamp` marks stands, looked for from the end of the log.
fn search(
    store: &Store,
    partition: PartitionId,
    stamp: ProducerStamp,
    records: usize,
) -> Result<Appended, Error> {
    let row = store.partition(partition).ok_or(Error::Gone)?;
    let mut end = row.next_offset;
    while let Some(last) = end.checked_sub(1)
        && last >= row.low_watermark
        && let Some(stored) = store.batch_at(partition, last)?
    {
        let batch = RecordBatch::new(stored.bytes, Check::Header)?;
        let view = batch.view();
        let found = view.producer();
        if found == stamp {
            // Cut otherwise than it was, or some of it was left out by its message ids.
            if view.len() != records {
                break;
            }
            return Ok(Appended {
                base_offset: stored.base_offset,
                records: u32::try_from(view.len()).unwrap_or(u32::MAX),
                timestamp: view.timestamp(),
                offsets: [].into(),
            });
        }
        end = stored.base_offset;
    }
    Err(Error::DuplicateGone { id: stamp.id, sequence: stamp.sequence })
}

//! Processors: created, paused, looked into. They are listed, described, rebound and deleted as subscriptions.

use bytes::Bytes;
use millstream_types::{
    Binding, Check, DeadLetters, OnFault, ProcessorChange, ProcessorConfig, RecordBatch, StartAt,
    SubscriptionInfo, SubscriptionName,
};
use millstream_wire::{Request, Response};

use crate::{CallError, Client, admin::mismatch};

/// A processor to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProcessor {
    /// Its name, among those of subscriptions.
    pub name: SubscriptionName,
    /// What it reads, where what it makes goes, and how much it remembers.
    pub config: ProcessorConfig,
    /// Where it starts.
    pub from: StartAt,
    /// What it does to its records, in order; one of the modules may keep a state.
    pub pipeline: Vec<Binding>,
    /// What happens when a module fails.
    pub on_fault: OnFault,
    /// Where records go that a module rejects or fails on.
    pub dead_letters: DeadLetters,
}

impl Client {
    /// Creates a processor, which runs from then on; one that exists with the same settings is left as it is. If cancelled, it
    /// may still be created.
    ///
    /// # Errors
    /// [`CallError::Refused`] when it exists with other settings, reads its own sink, or a module or its configuration is
    /// refused.
    pub async fn create_processor(&self, new: NewProcessor) -> Result<SubscriptionInfo, CallError> {
        let NewProcessor { name, config, from, pipeline, on_fault, dead_letters } = new;
        let request = Request::CreateProcessor { name, config, from, pipeline, on_fault, dead_letters };
        self.processor(request).await
    }

    /// Has a processor pause: nothing more of it counts then. If cancelled, it may pause all the same.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none of that name.
    pub async fn pause_processor(&self, name: SubscriptionName) -> Result<SubscriptionInfo, CallError> {
        self.processor(Request::ChangeProcessor { name, change: ProcessorChange::Paused(true) }).await
    }

    /// Has a processor go on, and try again what it failed on. If cancelled, it may go on all the same.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none of that name.
    pub async fn resume_processor(&self, name: SubscriptionName) -> Result<SubscriptionInfo, CallError> {
        self.processor(Request::ChangeProcessor { name, change: ProcessorChange::Paused(false) }).await
    }

    /// Sets how many bytes a processor may remember, and unless it is paused has it try again what it failed on. One that holds more already keeps
    /// it, and may not grow. If cancelled, it may be set all the same.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is none of that name, or the limit is 0.
    pub async fn set_processor_state_limit(
        &self,
        name: SubscriptionName,
        bytes_max: u64,
    ) -> Result<SubscriptionInfo, CallError> {
        self.processor(Request::ChangeProcessor { name, change: ProcessorChange::StateBytesMax(bytes_max) })
            .await
    }

    /// Entries of a processor's state as it is committed, as key and value: those whose keys start with `prefix` and come after
    /// `after`, in the order of their keys, at most `limit` and about 1 MiB of them. If cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is no processor of that name.
    pub async fn processor_state(
        &self,
        name: SubscriptionName,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: u32,
    ) -> Result<Vec<(Bytes, Bytes)>, CallError> {
        let (response, body) = self.fetch(Request::ProcessorState { name, prefix, after, limit }).await?;
        let Response::Done = response else { return Err(mismatch(&response)) };
        if body.is_empty() {
            return Ok(Vec::new());
        }
        let page =
            RecordBatch::new(body, Check::Full).map_err(|error| CallError::Protocol(error.to_string()))?;
        let entries = page.view().records().map(|record| {
            let record = record.to_record();
            (record.key.unwrap_or_default(), record.payload.unwrap_or_default())
        });
        Ok(entries.collect())
    }

    async fn processor(&self, request: Request) -> Result<SubscriptionInfo, CallError> {
        match self.request(request, Bytes::new()).await? {
            Response::Subscription(info) => Ok(*info),
            other => Err(mismatch(&other)),
        }
    }
}

//! Processors as they are asked for: created, paused, looked into.

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::Bound;
use millstream_store::{StateEntriesOf, StateEntry};
use millstream_types::{
    BatchBuilder, ProcessorChange, ProcessorConfig, Record, RecordBatch, SubscriptionName, TopicName,
};

use crate::{
    Broker, Error, NewSubscription, Subscription,
    broker::blocking,
    command::Command,
    limits::{PROCESSOR_SOURCES_MAX, STATE_PAGE_BYTES},
    processing,
    rows::{ProcessorRow, SubscriptionRow},
    subscribing::check_own,
};

const NO_STATE: &str = "its state may have 0 bytes; give it more, such as 64 MiB";

impl Broker {
    /// Creates a processor, or finds it there with the same settings. It runs from then on. Its modules are bound once, so
    /// that a bad configuration is refused here. Not cancel-safe: it may be created all the same.
    ///
    /// # Errors
    /// Those of [`create_subscription`](Self::create_subscription); [`Error::Processor`].
    pub async fn create_processor(
        &self,
        name: SubscriptionName,
        config: ProcessorConfig,
        wanted: NewSubscription,
    ) -> Result<Arc<Subscription>, Error> {
        check_own(&name)?;
        let row = self.processor_row(name, config, &wanted)?;
        let subscription = self.create_row(row, &wanted.from).await?;
        self.start_processor(&subscription);
        Ok(subscription)
    }

    fn processor_row(
        &self,
        name: SubscriptionName,
        config: ProcessorConfig,
        wanted: &NewSubscription,
    ) -> Result<SubscriptionRow, Error> {
        let refused = |why: String| Err(Error::Processor { name: name.clone(), why });
        let ProcessorConfig { mut sources, sink, state_bytes_max } = config;
        if sources.is_empty() || sources.len() > PROCESSOR_SOURCES_MAX {
            let found = sources.len();
            return refused(format!("it has {found} sources; name 1 to {PROCESSOR_SOURCES_MAX}"));
        }
        let into_itself = |sink: &TopicName| sources.iter().any(|source| source.matches(sink));
        if let Some(sink) = sink.as_ref().filter(|sink| into_itself(sink)) {
            return refused(format!("it would read its own sink {sink}; name another one"));
        }
        if state_bytes_max == 0 {
            return refused(NO_STATE.to_owned());
        }
        if wanted.pipeline.as_ref().is_none_or(Vec::is_empty) {
            return refused("it has no module; name one".into());
        }
        let topic = sources.remove(0);
        let wanted = NewSubscription { topic, ..wanted.clone() };
        let row = self.row(name, &wanted)?;
        let processor = ProcessorRow { also: sources, sink, state_bytes_max, paused: false };
        Ok(SubscriptionRow { processor: Some(processor), ..row })
    }

    /// Changes a processor: once it is told to pause, nothing more of it counts. Not cancel-safe: it may be done all the same.
    ///
    /// # Errors
    /// [`Error::UnknownProcessor`], [`Error::NoProcessor`], [`Error::Processor`].
    pub async fn change_processor(
        &self,
        name: &SubscriptionName,
        change: ProcessorChange,
    ) -> Result<(), Error> {
        if change == ProcessorChange::StateBytesMax(0) {
            return Err(Error::Processor { name: name.clone(), why: NO_STATE.to_owned() });
        }
        let command = Command::ChangeProcessor { name: name.clone(), change };
        self.execute(command).await.map(drop).map_err(of_processor)
    }

    /// Entries of a processor's state as it is committed: those whose keys start with `prefix` and come after `after`, at most
    /// `limit` and about 1 MiB of them, as records with their keys and values. `None` where there are none. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::UnknownProcessor`], [`Error::NoProcessor`]; a failing store.
    pub async fn processor_state(
        &self,
        name: &SubscriptionName,
        prefix: Bytes,
        after: Option<Bytes>,
        limit: u32,
    ) -> Result<Option<RecordBatch>, Error> {
        let subscription = self.subscription(name).map_err(of_processor)?;
        let processor = subscription.id().filter(|_| subscription.processing().is_some());
        let processor = processor.ok_or_else(|| Error::NoProcessor(name.clone()))?;
        let store = self.shared.store.clone();
        blocking(move || {
            let entries = StateEntriesOf { processor, prefix };
            let rows = match after {
                Some(key) => store.scan_after(&entries, &StateEntry { processor, key }),
                None => store.scan_prefix(&entries),
            };
            let mut page = BatchBuilder::new();
            for row in rows.take(limit as usize) {
                let (entry, value) = row?;
                page.push(&Record::new(value).with_key(entry.key))?;
                if page.bytes_len() >= STATE_PAGE_BYTES {
                    break;
                }
            }
            Ok(if page.is_empty() { None } else { Some(page.build()?) })
        })
        .await?
    }

    /// Starts the processors that are stored. To be called once, within a runtime.
    pub fn start_processors(&self) {
        for subscription in self.shared.catalog.subscriptions() {
            if subscription.processing().is_some() {
                self.start_processor(&subscription);
            }
        }
    }

    fn start_processor(&self, subscription: &Arc<Subscription>) {
        let Some(id) = subscription.id() else { return };
        let mut tasks = self.shared.processors();
        tasks.retain(|_, task| !task.is_finished());
        tasks.entry(id).or_insert_with(|| {
            tokio::spawn(processing::run(Arc::clone(&self.shared), Arc::clone(subscription)))
        });
    }
}

/// `error`, said of what can only be meant as a processor.
fn of_processor(error: Error) -> Error {
    match error {
        Error::UnknownSubscription(name) => Error::UnknownProcessor(name),
        other => other,
    }
}

/// Whether these modules can be a processor's.
///
/// # Errors
/// [`Error::Processor`].
pub(crate) fn check(subscription: &Subscription, modules: &[Bound]) -> Result<(), Error> {
    let refused = |why: String| Err(Error::Processor { name: subscription.name().clone(), why });
    let with_state = modules.iter().filter(|bound| bound.module().needs_state()).count();
    if with_state > 1 {
        return refused(format!(
            "{with_state} of its modules keep a state, and one may; make a processor of each, one behind the other"
        ));
    }
    let to_topics = modules.iter().any(|bound| !bound.spec().topics.is_empty());
    if !subscription.has_sink() && !to_topics {
        return refused(
            "nothing would come out of it: its modules announce no topics, so name one with --to".into(),
        );
    }
    Ok(())
}

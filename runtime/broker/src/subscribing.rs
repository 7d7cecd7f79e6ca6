//! The broker's subscriptions: made and found again, read and worked on, told of, and deleted.

use std::sync::Arc;

use millstream_store::Store;
use millstream_types::{
    DeadLetters, DeliveryConfig, DeliveryMode, Offset, PartitionId, RecordBatch, StartAt, SubscriptionInfo,
    SubscriptionName, Timestamp,
};

use crate::{
    Broker, Error, Member, NewSubscription, Reading, Subscription, Window,
    bindings::{Bindings, PinnedBinding},
    broker::{blocking, now, random_hex},
    command::{Command, Settlement},
    dead_letter,
    ingest::INGEST_PREFIX,
    reading::Ending,
    rows::{CursorRow, SubscriptionRow},
    sources::Sources,
    start_at::start_positions,
};

impl Broker {
    /// All subscriptions, by name, ephemeral ones included, without their positions, earlier modules and what those used.
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        self.survey(|info| SubscriptionInfo { modules: Vec::new(), ..info })
    }

    /// All subscriptions, by name, ephemeral ones included, with what their modules have used, without the modules themselves
    /// and their positions.
    pub fn subscriptions_in_use(&self) -> Vec<SubscriptionInfo> {
        self.survey(|info| SubscriptionInfo { pipeline: Vec::new(), ..info })
    }

    fn survey(&self, cut: impl Fn(SubscriptionInfo) -> SubscriptionInfo) -> Vec<SubscriptionInfo> {
        let subscriptions = self.shared.catalog.subscriptions();
        let infos = subscriptions.iter().map(|subscription| subscription.info());
        infos
            .map(|info| cut(SubscriptionInfo { positions: Vec::new(), earlier: Vec::new(), ..info }))
            .collect()
    }

    /// Number of subscriptions, ephemeral ones included.
    pub fn subscription_count(&self) -> usize {
        self.shared.catalog.subscription_count()
    }

    /// The subscription called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownSubscription`].
    pub fn subscription(&self, name: &SubscriptionName) -> Result<Arc<Subscription>, Error> {
        self.shared.catalog.subscription(name)
    }

    /// How a subscription stands, with the age of what is oldest in its backlog. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::UnknownSubscription`]; a failing store.
    pub async fn describe_subscription(&self, name: &SubscriptionName) -> Result<SubscriptionInfo, Error> {
        let subscription = self.subscription(name)?;
        let (store, mut info) = (self.shared.store.clone(), subscription.info());
        let behind = subscription.places().into_iter().filter(|(place, settled)| *settled < place.end());
        let behind: Vec<_> = behind.map(|(place, settled)| (place.id, settled)).collect();
        if !behind.is_empty() {
            info.oldest_unsettled_ms = blocking(move || oldest(&store, &behind)).await??;
        }
        Ok(info)
    }

    /// Creates a durable subscription, or finds it there with the same settings. Its modules are bound once, so that a
    /// bad configuration is refused here. Not cancel-safe: it may be created all the same.
    ///
    /// # Errors
    /// Those of [`subscribe`](Self::subscribe) but [`Error::SubscriptionBusy`].
    pub async fn create_subscription(
        &self,
        name: SubscriptionName,
        wanted: NewSubscription,
    ) -> Result<Arc<Subscription>, Error> {
        check_own(&name)?;
        self.create_row(self.row(name, &wanted)?, &wanted.from).await
    }

    /// Creates what `row` says, tried out before, or finds it there.
    pub(crate) async fn create_row(
        &self,
        row: SubscriptionRow,
        from: &StartAt,
    ) -> Result<Arc<Subscription>, Error> {
        self.check_delivery(&row)?;
        let (sources, cursors) = self.start(&row, from).await?;
        let trial = Arc::new(Subscription::ephemeral(row.clone(), sources, &cursors));
        self.try_out(&trial, &row.bindings.current.pipeline).await?;
        let name = row.name.clone();
        self.execute(Command::CreateSubscription { row: Box::new(row), cursors }).await?;
        self.subscription(&name)
    }

    /// Deletes a durable subscription; its reader is told.
    ///
    /// # Errors
    /// [`Error::UnknownSubscription`].
    pub async fn delete_subscription(&self, name: &SubscriptionName) -> Result<(), Error> {
        check_own(name)?;
        self.execute(Command::DeleteSubscription { name: name.clone() }).await?;
        Ok(())
    }

    /// Takes a subscription for one reader: the durable one named, created if there is none, or an ephemeral one.
    /// Not cancel-safe: a durable one may be created all the same.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::OffsetOutOfRange`], [`Error::SubscriptionExists`], [`Error::SubscriptionBusy`],
    /// [`Error::UnknownModule`], [`Error::ModuleRefused`], [`Error::ConfigRefused`], [`Error::LimitReached`].
    pub async fn subscribe(&self, wanted: NewSubscription) -> Result<Reading, Error> {
        let durable = match wanted.name.clone() {
            Some(name) => match self.subscription(&name) {
                Ok(found) => self.same(found, &wanted)?,
                Err(_) => self.create_subscription(name, wanted).await?,
            },
            None => return Reading::start(self.create_ephemeral(wanted).await?).await,
        };
        Reading::start(Ending::of(&self.shared, &durable)).await
    }

    /// Joins the consumers of a durable subscription, created, `shared` unless told otherwise, if there is none, as one that leases its records. Not
    /// cancel-safe: the subscription may be created all the same.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe); [`Error::WorkerNeedsName`], [`Error::TooManyConsumers`].
    pub async fn join(&self, wanted: NewSubscription, window: Window) -> Result<Member, Error> {
        let name = wanted.name.clone().ok_or(Error::WorkerNeedsName)?;
        check_own(&name)?;
        let subscription = match self.subscription(&name) {
            Ok(found) => self.same(found, &wanted)?,
            Err(_) => {
                let delivery = wanted.delivery.clone().unwrap_or(DeliveryConfig::of(DeliveryMode::Shared));
                self.create_subscription(name, NewSubscription { delivery: Some(delivery), ..wanted }).await?
            }
        };
        Member::join(Arc::clone(&self.shared), subscription, window)
    }

    /// Moves a subscription's settled positions forward: per partition, as consumers know it, everything below the offset
    /// is done.
    ///
    /// # Errors
    /// [`Error::AckBeyond`], [`Error::UnknownPartition`]; earlier positions of `next` may have been moved.
    pub async fn ack(&self, subscription: &Subscription, next: Vec<(u32, Offset)>) -> Result<(), Error> {
        let mut settlements = Vec::new();
        for (number, offset) in next {
            let index = subscription.sources().index_of(number)?;
            let done = subscription.settle(index, offset)?;
            let settlement = Settlement { done, tried: Vec::new() };
            settlements.extend(subscription.sources().id(index).map(|partition| (partition, settlement)));
        }
        if let Some(id) = subscription.id() {
            self.shared.submitter.execute(Command::Settle { subscription: id, settlements }).await?;
        }
        Ok(())
    }

    fn same(&self, found: Arc<Subscription>, wanted: &NewSubscription) -> Result<Arc<Subscription>, Error> {
        let row = found.to_row();
        let wanted_delivery = wanted.delivery.as_ref().unwrap_or(&row.delivery);
        if found.processing().is_some() {
            return Err(Error::IsProcessor(row.name));
        }
        let wanted_row =
            SubscriptionRow { topic: wanted.topic.clone(), delivery: wanted_delivery.clone(), ..row.clone() };
        let exists = |what| Err(Error::SubscriptionExists { kind: row.kind(), name: row.name.clone(), what });
        if let Some(what) = row.differs_from(&wanted_row) {
            return exists(what);
        }
        if let Some(pipeline) = &wanted.pipeline {
            let same = |(a, b): (&PinnedBinding, &PinnedBinding)| {
                a.sha256 == b.sha256 && same_json(&a.config, &b.config)
            };
            let pinned = self.pin(pipeline)?;
            // Others may have been bound since: who subscribed before that, and comes again, gets what they leave.
            let bound = row.bindings.earlier.iter().chain([&row.bindings.current]).rev();
            let mut bound = bound.filter(|bound| {
                pinned.len() == bound.pipeline.len() && pinned.iter().zip(&bound.pipeline).all(same)
            });
            match bound.next() {
                None => return exists("pipeline"),
                Some(first) if ![first].into_iter().chain(bound).any(|it| it.on_fault == wanted.on_fault) => {
                    return exists("fault policy");
                }
                Some(_) => {}
            }
        }
        Ok(found)
    }

    async fn create_ephemeral(&self, wanted: NewSubscription) -> Result<Ending, Error> {
        let name = SubscriptionName::new(format!("ephemeral-{}", random_hex::<8>()?));
        let row = self.row(name.map_err(|error| Error::Internal(error.to_string()))?, &wanted)?;
        let (sources, cursors) = self.start(&row, &wanted.from).await?;
        let subscription = Arc::new(Subscription::ephemeral(row, sources, &cursors));
        let ending = Ending::of(&self.shared, &subscription);
        let pipeline = subscription.revision().pipeline.clone();
        if self.shared.registry.keeps_any(&pipeline) {
            let holder = subscription.name().clone();
            self.execute(Command::HoldModules { holder, pipeline }).await?;
        }
        self.shared.catalog.add_ephemeral(subscription, self.shared.limits.subscriptions_max)?;
        Ok(ending)
    }

    pub(crate) fn row(
        &self,
        name: SubscriptionName,
        wanted: &NewSubscription,
    ) -> Result<SubscriptionRow, Error> {
        let pipeline = self.pin(wanted.pipeline.as_deref().unwrap_or_default())?;
        let now = now();
        Ok(SubscriptionRow {
            name,
            topic: wanted.topic.clone(),
            bindings: Bindings::new(pipeline, wanted.on_fault, now),
            delivery: wanted.delivery.clone().unwrap_or_default(),
            created_ms: now,
            processor: None,
        })
    }

    fn check_delivery(&self, row: &SubscriptionRow) -> Result<(), Error> {
        row.delivery.check()?;
        if let Some(letters) = dead_letter::topic_of(&row.name, &row.delivery)? {
            if row.only_topic().as_ref() == Some(&letters) {
                return Err(Error::DeadLettersToSource(row.name.clone()));
            }
            if matches!(row.delivery.dead_letters, DeadLetters::Topic(_)) {
                self.topic(&letters)?;
            }
        }
        Ok(())
    }

    /// What a subscription reads, and where it starts.
    async fn start(
        &self,
        row: &SubscriptionRow,
        from: &StartAt,
    ) -> Result<(Sources, Vec<(PartitionId, CursorRow)>), Error> {
        let sources = self.shared.catalog.sources(row)?;
        let (store, from) = (self.shared.store.clone(), from.clone());
        blocking(move || start_positions(&store, &sources, &from).map(|cursors| (sources, cursors))).await?
    }
}

/// When the oldest of the records at these places was appended.
fn oldest(store: &Store, places: &[(PartitionId, Offset)]) -> Result<Option<Timestamp>, Error> {
    let mut oldest = None;
    for (partition, offset) in places {
        // What retention deleted is no backlog any more.
        let Some(row) = store.partition(*partition) else { continue };
        let from = (*offset).max(row.low_watermark);
        if let Some(stored) = store.read(*partition, from, Offset::MAX, 0)?.into_iter().next() {
            let batch = RecordBatch::new(stored.bytes, millstream_types::Check::Header)?;
            let view = batch.view();
            let appended =
                view.record(view.index_of(from)).map_or(view.timestamp(), |record| record.timestamp);
            oldest = Some(oldest.map_or(appended, |oldest: Timestamp| oldest.min(appended)));
        }
    }
    Ok(oldest)
}

/// Whether a subscription is for its users to touch.
pub(crate) fn check_own(name: &SubscriptionName) -> Result<(), Error> {
    match name.as_str() {
        account if account.starts_with(dead_letter::ACCOUNT_PREFIX) => Err(Error::Account(name.clone())),
        ingest if ingest.starts_with(INGEST_PREFIX) => Err(Error::IngestName(name.clone())),
        _ => Ok(()),
    }
}

fn same_json(a: &str, b: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || parse(a).is_some_and(|a| parse(b).is_some_and(|b| a == b))
}

//! Other modules for a subscription that is in use: tried out first, then taking over, and back.

use std::sync::Arc;

use millstream_types::{Binding, ModuleLogFilter, OnFault, Rebinding, SubscriptionName};

use crate::{
    Broker, Error, ModuleLog, Subscription,
    bindings::{Bindings, PinnedBinding},
    broker::{blocking, now},
    command::Command,
    subscribing::check_own,
};

/// Somebody else may bind at the same time; what is bound then is asked for again, but not for ever.
const TRIES: usize = 5;

impl Broker {
    /// Has other modules judge the records of a durable subscription, or run beside, while it is in use. They are bound once
    /// before, so that what does not load, or a bad configuration, is refused here. Records that are being judged are
    /// judged to their end by those before. Not cancel-safe: they may take over all the same.
    ///
    /// # Errors
    /// [`Error::UnknownSubscription`], [`Error::NotDurable`], [`Error::UnknownModule`], [`Error::ModuleRefused`],
    /// [`Error::ConfigRefused`], [`Error::NoSuchRevision`], [`Error::NoShadow`], [`Error::Processor`].
    pub async fn rebind(&self, name: &SubscriptionName, rebinding: Rebinding) -> Result<(), Error> {
        check_own(name)?;
        let subscription = self.subscription(name)?;
        if !subscription.is_durable() {
            return Err(Error::NotDurable(name.clone()));
        }
        match rebinding {
            Rebinding::Shadow { .. } if subscription.processing().is_some() => Err(Error::Processor {
                name: name.clone(),
                why: "what runs beside would need a state of its own; compare versions with `millstream module replay`"
                    .into(),
            }),
            Rebinding::Shadow { pipeline } => {
                let pipeline = self.pin(&pipeline)?;
                self.try_out(&subscription, &pipeline).await?;
                self.set_shadow(name, Some(pipeline)).await
            }
            Rebinding::EndShadow => self.set_shadow(name, None).await,
            Rebinding::To { pipeline, on_fault } => {
                let pipeline = pipeline.map(|pipeline| self.pin(&pipeline)).transpose()?;
                let wanted = |now: &Bindings| {
                    let pipeline = pipeline.clone().unwrap_or_else(|| now.current.pipeline.clone());
                    Ok((pipeline, on_fault.unwrap_or(now.current.on_fault)))
                };
                self.take_over(&subscription, wanted).await
            }
            Rebinding::Back { to } => {
                let wanted = |now: &Bindings| {
                    let back = now.back(to).ok_or_else(|| Error::NoSuchRevision {
                        kind: if subscription.processing().is_some() { "processor" } else { "subscription" },
                        name: name.clone(),
                        wanted: to,
                        known: now.earlier.iter().map(|revision| revision.number).collect(),
                    })?;
                    Ok((back.pipeline.clone(), back.on_fault))
                };
                self.take_over(&subscription, wanted).await
            }
            Rebinding::Promote => {
                let wanted = |now: &Bindings| {
                    let shadow = now.shadow.clone().ok_or_else(|| Error::NoShadow(name.clone()))?;
                    Ok((shadow, now.current.on_fault))
                };
                self.take_over(&subscription, wanted).await
            }
        }
    }

    /// The last `last` lines of modules that `filter` lets through, and those that come.
    pub fn module_log(&self, filter: ModuleLogFilter, last: usize) -> ModuleLog {
        self.shared.tail.follow(filter, last)
    }

    async fn take_over(
        &self,
        subscription: &Arc<Subscription>,
        wanted: impl Fn(&Bindings) -> Result<(Vec<PinnedBinding>, OnFault), Error>,
    ) -> Result<(), Error> {
        let name = subscription.name();
        let mut tries = TRIES;
        loop {
            let bindings = subscription.bindings();
            let (pipeline, on_fault) = wanted(&bindings)?;
            if pipeline.is_empty() && subscription.processing().is_some() {
                let why = format!(
                    "without modules nothing comes of it: name one, have it stop with `millstream processor pause {name}`, or \
                     delete it with `millstream processor delete {name}`"
                );
                return Err(Error::Processor { name: name.clone(), why });
            }
            self.try_out(subscription, &pipeline).await?;
            let expected = bindings.current.number;
            let command = Command::Rebind { name: name.clone(), expected, pipeline, on_fault, now: now() };
            tries -= 1;
            match self.execute(command).await {
                Ok(_) => return Ok(()),
                Err(Error::Overtaken) if tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn set_shadow(
        &self,
        name: &SubscriptionName,
        pipeline: Option<Vec<PinnedBinding>>,
    ) -> Result<(), Error> {
        self.execute(Command::SetShadow { name: name.clone(), pipeline }).await.map(drop)
    }

    pub(crate) fn pin(&self, pipeline: &[Binding]) -> Result<Vec<PinnedBinding>, Error> {
        pipeline.iter().map(|binding| self.shared.registry.pin(binding)).collect()
    }

    /// Binds modules once, so that what is wrong with them is told to who wants them.
    pub(crate) async fn try_out(
        &self,
        subscription: &Arc<Subscription>,
        pipeline: &[PinnedBinding],
    ) -> Result<(), Error> {
        let (shared, subscription, pipeline) =
            (Arc::clone(&self.shared), Arc::clone(subscription), pipeline.to_vec());
        blocking(move || shared.registry.bind(&subscription, &pipeline).map(drop)).await?
    }
}

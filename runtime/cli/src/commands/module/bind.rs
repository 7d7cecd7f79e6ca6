//! `millstream module bind`, `shadow`, `rollback`: other modules for a subscription that is in use.

use clap::{ArgGroup, Args};
use millstream_client::{Rebinding, ShadowInfo, SubscriptionInfo, SubscriptionName};

use crate::{
    bindings::Pipeline, broker::connect, cli::Common, commands::subscription::Fault, failure::Failure,
    output, progress,
};

const BIND: &str = "The modules are tried out first; what does not load, or a bad configuration, changes nothing. Records that are being
judged are judged to their end by the modules before; each record is judged by one version. Readers need not do anything.

Example:
  millstream module bind invoices --module enrich@1.3.0 --config @enrich.json";

const SHADOW: &str = "Nothing comes of the shadow's verdicts, and nobody waits for it: where it is too slow, records are left out and counted.

Example:
  millstream module shadow invoices --module enrich@1.4.0-rc1 --config @enrich.json
  millstream module shadow invoices              what would be different so far
  millstream module shadow invoices --promote    it takes over";

const ROLLBACK: &str = "The last ten revisions are kept: `millstream subscription describe` shows them. Going back is a revision of its own,
so going back twice is going forth again.

Example:
  millstream module rollback invoices";

/// `millstream module bind`.
#[derive(Debug, Args)]
#[command(after_help = BIND)]
pub(crate) struct Bind {
    /// Name of the subscription or processor
    subscription: SubscriptionName,
    #[command(flatten)]
    pipeline: Pipeline,
    /// The subscription has no modules any more; a processor has at least one
    #[arg(long)]
    none: bool,
    /// What happens when a module fails on a record; as it is, if it is not said
    #[arg(long, value_enum)]
    on_fault: Option<Fault>,
}

/// `millstream module shadow`.
#[derive(Debug, Args)]
#[command(after_help = SHADOW, group(ArgGroup::new("end").args(["promote", "stop"])))]
pub(crate) struct Shadow {
    /// Name of the subscription
    subscription: SubscriptionName,
    #[command(flatten)]
    pipeline: Pipeline,
    /// The shadow takes over
    #[arg(long)]
    promote: bool,
    /// Nothing is compared any more
    #[arg(long)]
    stop: bool,
}

/// `millstream module rollback`.
#[derive(Debug, Args)]
#[command(after_help = ROLLBACK)]
pub(crate) struct Rollback {
    /// Name of the subscription
    subscription: SubscriptionName,
    /// Which revision; the last that had other modules, if it is not said
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
}

impl Bind {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let Self { subscription, pipeline, none, on_fault } = self;
        let client = connect(common).await?;
        let to = match (pipeline.is_empty(), none) {
            (false, true) => return Err(Failure::usage("--none stands beside --module: write one of them")),
            (true, false) if on_fault.is_none() => {
                return Err(Failure::usage(
                    "nothing is to be changed: name modules with --module REF, have none with --none, or give --on-fault",
                ));
            }
            // The policy alone.
            (true, false) => None,
            (false, false) | (true, true) => Some(pipeline.upload(&client).await?),
        };
        let rebinding = Rebinding::To { pipeline: to, on_fault: on_fault.map(Into::into) };
        let bound = rebind(&client, subscription, rebinding).await?;
        client.close().await;
        show_bound(common, &bound)
    }
}

impl Shadow {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let Self { subscription, pipeline, promote, stop } = self;
        let client = connect(common).await?;
        if !pipeline.is_empty() && (promote || stop) {
            return Err(Failure::usage(
                "--module starts a shadow: it cannot stand beside --promote or --stop",
            ));
        }
        let found = if promote {
            rebind(&client, subscription, Rebinding::Promote).await?
        } else if stop {
            rebind(&client, subscription, Rebinding::EndShadow).await?
        } else if pipeline.is_empty() {
            client.describe_subscription(subscription).await?
        } else {
            let pipeline = pipeline.upload(&client).await?;
            rebind(&client, subscription, Rebinding::Shadow { pipeline }).await?
        };
        client.close().await;
        if promote {
            return show_bound(common, &found);
        }
        match &found.shadow {
            _ if common.json => output::json(&found.shadow),
            None if stop => output::line(format!("subscription {} has no shadow any more", found.name)),
            None => output::line(format!("subscription {} has no shadow", found.name)),
            Some(shadow) => output::line(format!("subscription {}\n{}", found.name, describe(shadow))),
        }
    }
}

impl Rollback {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = connect(common).await?;
        let bound = rebind(&client, self.subscription, Rebinding::Back { to: self.to }).await?;
        client.close().await;
        show_bound(common, &bound)
    }
}

async fn rebind(
    client: &millstream_client::Client,
    name: SubscriptionName,
    rebinding: Rebinding,
) -> Result<SubscriptionInfo, Failure> {
    let spinner = progress::spinner(format!("trying out the modules of {name}"));
    let bound = client.rebind(name, rebinding).await;
    spinner.finish_and_clear();
    Ok(bound?)
}

fn show_bound(common: &Common, bound: &SubscriptionInfo) -> Result<(), Failure> {
    if common.json {
        return output::json(bound);
    }
    let modules: Vec<_> = bound.pipeline.iter().map(|binding| binding.module.as_str()).collect();
    let modules = if modules.is_empty() { "no modules".to_owned() } else { modules.join(", ") };
    let (name, revision, policy) = (&bound.name, bound.revision, bound.on_fault.as_str());
    let kind = if bound.processor.is_some() { "processor" } else { "subscription" };
    output::line(format!("{kind} {name} is at revision {revision}: {modules}, on a fault {policy}"))
}

/// What a shadow would do otherwise, for people.
pub(crate) fn describe(shadow: &ShadowInfo) -> String {
    let mut lines = Vec::new();
    for module in &shadow.pipeline {
        lines.push(format!("shadow        {} {}", module.module, module.config));
    }
    lines.push(format!(
        "compared      {}, {} the same, {} different, {} left out",
        output::counted(shadow.compared, "record"),
        output::count(shadow.same),
        output::count(shadow.compared - shadow.same),
        output::count(shadow.left_out),
    ));
    if let Some(fault) = &shadow.fault {
        lines.push(format!("fault         {}", output::harmless(fault)));
    }
    for change in &shadow.changes {
        lines.push(format!(
            "              {} from {} to {}",
            output::count(change.records),
            change.from,
            change.to
        ));
    }
    for sample in &shadow.samples {
        lines.push(format!(
            "  {} {} offset {}: {} -> {}",
            sample.topic,
            sample.partition,
            sample.offset,
            output::harmless(&sample.from),
            output::harmless(&sample.to)
        ));
    }
    lines.join("\n")
}

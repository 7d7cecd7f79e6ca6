//! `millstream subscription`: create, list, describe, delete.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use millstream_client::{
    DeadLetters, DeliveryMode, ModuleMetrics, ModuleUsage, NewSubscription, OnFault, ProcessorInfo, StartAt,
    SubscriptionInfo, SubscriptionName, TopicPattern,
};
use serde_json::json;

use crate::{
    bindings::Pipeline,
    broker::connect,
    cli::Common,
    commands::{module, processor},
    delivery::Delivery,
    failure::Failure,
    output, start,
};

/// See the module's head.
#[derive(Debug, Subcommand)]
pub(crate) enum Subscription {
    /// Create a durable subscription; one that exists with the same settings is left as it is
    Create(Create),
    /// List all subscriptions, those of connected readers without a name included
    List,
    /// Show a subscription's modules, positions and counters
    Describe {
        /// Name of the subscription
        name: SubscriptionName,
    },
    /// Delete a subscription
    Delete {
        /// Name of the subscription
        name: SubscriptionName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the subscription
    name: SubscriptionName,
    /// What it reads: a topic, or all that a pattern means, those made later included; quote it: 'orders.*', 'orders.>'
    topic: TopicPattern,
    /// Where it starts: earliest, latest, offset:N or time:RFC3339
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = start::parse)]
    from: StartAt,
    #[command(flatten)]
    delivery: Delivery,
    #[command(flatten)]
    pipeline: Pipeline,
    /// What happens when a module fails on a record
    #[arg(long, value_enum, default_value_t = Fault::DeadLetter)]
    on_fault: Fault,
}

/// `--on-fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The record becomes a dead letter; where there are none, as with halt
    DeadLetter,
    /// The record is counted and passed over
    Skip,
    /// The subscription stops and keeps its backlog
    Halt,
}

impl From<Fault> for OnFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::DeadLetter => Self::DeadLetter,
            Fault::Skip => Self::Skip,
            Fault::Halt => Self::Halt,
        }
    }
}

impl Subscription {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = connect(common).await?;
        match self {
            Self::Create(Create { name, topic, from, delivery, pipeline, on_fault }) => {
                let delivery = delivery.config(DeliveryMode::Exclusive)?.unwrap_or_default();
                let pipeline = pipeline.upload(&client).await?;
                let on_fault = on_fault.into();
                let new = NewSubscription { name, topic, from, pipeline, on_fault, delivery };
                let subscription = client.create_subscription(new).await?;
                show(common, &subscription, |subscription| {
                    format!("subscription {} reads {}", subscription.name, subscription.topic)
                })?;
            }
            Self::List => {
                let subscriptions = client.list_subscriptions().await?;
                if common.json {
                    output::json(&subscriptions)?;
                } else {
                    let rows = subscriptions.iter().map(|subscription| {
                        [
                            subscription.name.to_string(),
                            subscription.topic.to_string(),
                            kind(subscription).to_owned(),
                            subscription.delivery.mode.to_string(),
                            state(subscription),
                            output::count(subscription.pending),
                            output::count(subscription.unscanned),
                            modules(subscription),
                        ]
                    });
                    let head =
                        ["SUBSCRIPTION", "TOPIC", "KIND", "MODE", "STATE", "PENDING", "UNSCANNED", "MODULES"];
                    output::line(output::table(head, rows).to_string())?;
                }
            }
            Self::Describe { name } => {
                let subscription = client.describe_subscription(name).await?;
                show(common, &subscription, describe)?;
            }
            Self::Delete { name } => {
                if client.describe_subscription(name.clone()).await?.processor.is_some() {
                    return Err(Failure::new(format!(
                        "{name} is a processor: `millstream processor delete {name}` deletes it with all that its module \
                         remembers"
                    )));
                }
                client.delete_subscription(name.clone()).await?;
                if common.json {
                    output::json(&json!({ "deleted": name }))?;
                } else {
                    output::line(format!("subscription {name} deleted"))?;
                }
            }
        }
        client.close().await;
        Ok(())
    }
}

pub(crate) fn show(
    common: &Common,
    subscription: &SubscriptionInfo,
    text: impl Fn(&SubscriptionInfo) -> String,
) -> Result<(), Failure> {
    if common.json { output::json(subscription) } else { output::line(text(subscription)) }
}

pub(crate) fn describe(subscription: &SubscriptionInfo) -> String {
    let counters = subscription.counters;
    let rows = subscription.positions.iter().map(|at| {
        let partition = match &at.topic {
            Some(topic) => format!("{topic} {}", at.partition),
            None => at.partition.to_string(),
        };
        let numbers = [at.settled, at.scanned, at.latest, at.leased, at.waiting];
        let [settled, scanned, latest, leased, waiting] = numbers.map(|number| number.to_string());
        [partition, settled, scanned, latest, leased, waiting]
    });
    let positions = output::table(["PARTITION", "SETTLED", "SCANNED", "NEXT", "LEASED", "WAITING"], rows);
    let mut lines = match &subscription.processor {
        Some(info) => of_processor(subscription, info),
        None => of_delivery(subscription),
    };
    if let Some(oldest) = subscription.oldest_unsettled_ms {
        lines.push(format!("oldest        unsettled since {}", output::time(oldest)));
    }
    if let Some(fault) = &subscription.fault {
        lines.push(format!("fault         {fault}"));
    }
    for module in &subscription.pipeline {
        lines.push(format!("module        {} {}", module.module, module.config));
    }
    if !subscription.pipeline.is_empty() || !subscription.earlier.is_empty() {
        lines.push(format!(
            "revision      {}, on a fault {}",
            subscription.revision,
            subscription.on_fault.as_str()
        ));
    }
    for earlier in subscription.earlier.iter().rev() {
        let (number, since) = (earlier.number, output::time(earlier.bound_ms));
        let (modules, policy) = (earlier.modules.join(", "), earlier.on_fault.as_str());
        lines.push(format!("earlier       {number}: {modules} since {since}, on a fault {policy}"));
    }
    lines.extend(subscription.shadow.as_ref().map(module::bind::describe));
    lines.push(format!("records in    {}", output::count(counters.records_in)));
    lines.push(format!("records out   {}", output::count(counters.records_out)));
    for (name, count) in [
        ("dropped     ", counters.dropped),
        ("routed      ", counters.routed),
        ("rejected    ", counters.rejected),
        ("faulted     ", counters.faulted),
        ("missed      ", counters.missed),
    ] {
        lines.push(format!("{name}  {}", output::count(count)));
    }
    lines.push(format!("bytes in      {}", output::bytes(counters.bytes_in)));
    lines.push(format!("bytes out     {}", output::bytes(counters.bytes_out)));
    lines.push(format!(
        "module time   {:.3} ms in {}",
        counters.module_ns as f64 / 1e6,
        output::counted(counters.module_calls, "call")
    ));
    for used in &subscription.modules {
        lines.push(format!("module used   {}: {}", used.module, usage(used)));
        lines.extend(metrics(&used.metrics).map(|line| format!("              {line}")));
    }
    format!("{}\n\n{positions}", lines.join("\n"))
}

fn of_delivery(subscription: &SubscriptionInfo) -> Vec<String> {
    vec![
        format!("subscription  {}", subscription.name),
        format!("topic         {}", subscription.topic),
        format!("state         {}", state(subscription)),
        format!(
            "mode          {}, {}",
            subscription.delivery.mode,
            output::counted(subscription.consumers, "consumer")
        ),
        format!("lease         {}", duration(subscription.delivery.lease_ms)),
        format!("tries         {}, backoff {}", subscription.delivery.tries, backoff(subscription)),
        format!("dead letters  {}", dead_letters(subscription)),
        format!(
            "backlog       {} pending, {} not yet scanned (an estimate where modules drop)",
            output::count(subscription.pending),
            output::count(subscription.unscanned)
        ),
    ]
}

fn of_processor(subscription: &SubscriptionInfo, info: &ProcessorInfo) -> Vec<String> {
    let mut lines = vec![format!("processor     {}", subscription.name)];
    lines.extend(info.config.sources.iter().map(|source| format!("from          {source}")));
    lines.extend(info.config.sink.iter().map(|sink| format!("to            {sink}")));
    lines.push(format!("state         {}", state(subscription)));
    lines.push(format!(
        "remembers     {}, at most {}",
        processor::held(info),
        output::bytes(info.config.state_bytes_max)
    ));
    lines.push(format!("dead letters  {}", dead_letters(subscription)));
    lines.push(format!("backlog       {}", output::count(subscription.unscanned)));
    lines
}

/// What a module has used, beside what a call may.
pub(crate) fn usage(used: &ModuleUsage) -> String {
    let ms = |ns: u64| ns as f64 / 1e6;
    format!(
        "{:.3} ms in {} with {}, {}; the longest {:.3} ms, of {} ms that one may use; memory {} of {}",
        ms(used.module_ns),
        output::counted(used.calls, "call"),
        output::counted(used.records, "record"),
        output::counted(used.faults, "fault"),
        ms(used.longest_ns),
        used.budget_ms,
        output::bytes(used.memory_bytes),
        output::bytes(used.memory_budget_bytes)
    )
}

/// What a module counts itself, a line for each.
pub(crate) fn metrics(metrics: &ModuleMetrics) -> impl Iterator<Item = String> {
    let counters = metrics.counters.iter().map(|(name, value)| format!("{name} {}", output::count(*value)));
    let gauges = metrics.gauges.iter().map(|(name, value)| format!("{name} {value}"));
    let left_out = (metrics.left_out > 0).then(|| {
        format!("{} changes left out: too many metrics, or bad names", output::count(metrics.left_out))
    });
    counters.chain(gauges).chain(left_out)
}

fn duration(ms: u32) -> String {
    humantime::format_duration(Duration::from_millis(ms.into())).to_string()
}

fn backoff(subscription: &SubscriptionInfo) -> String {
    subscription.delivery.backoff_ms.iter().map(|step| duration(*step)).collect::<Vec<_>>().join(", ")
}

fn dead_letters(subscription: &SubscriptionInfo) -> String {
    match &subscription.delivery.dead_letters {
        _ if !subscription.durable => "none: it is ephemeral".into(),
        DeadLetters::Off => "off".into(),
        DeadLetters::Auto => format!("topic dlq.{}", subscription.name),
        DeadLetters::Topic(topic) => format!("topic {topic}"),
    }
}

fn kind(subscription: &SubscriptionInfo) -> &'static str {
    match (&subscription.processor, subscription.durable) {
        (Some(_), _) => "processor",
        (None, true) => "durable",
        (None, false) => "ephemeral",
    }
}

pub(crate) fn state(subscription: &SubscriptionInfo) -> String {
    format!("{:?}", subscription.state).to_lowercase()
}

pub(crate) fn modules(subscription: &SubscriptionInfo) -> String {
    subscription.pipeline.iter().map(|binding| binding.module.as_str()).collect::<Vec<_>>().join(" ")
}

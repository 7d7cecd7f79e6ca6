//! `millstream processor`: create, list, describe, update, state, pause, resume, delete.

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use millstream_client::{
    Client, DeadLetters, ErrorCode, NewProcessor, ProcessorConfig, ProcessorInfo, StartAt, SubscriptionInfo,
    SubscriptionName, TopicName, TopicPattern,
};
use serde_json::json;

use crate::{
    bindings::Pipeline, broker::connect, cli::Common, commands::subscription, delivery, failure::Failure,
    output, start,
};

/// See the module's head.
#[derive(Debug, Subcommand)]
pub(crate) enum Processor {
    /// Create a processor, which runs from then on; one that exists with the same settings is left as it is
    Create(Create),
    /// List all processors
    List,
    /// Show a processor's modules, state, positions and counters
    Describe {
        /// Name of the processor
        name: SubscriptionName,
    },
    /// Change how much a processor may remember; unless it is paused, it tries again what it failed on
    Update {
        /// Name of the processor
        name: SubscriptionName,
        /// Most that its module may remember: keys, values and 32 bytes for each entry. What it holds already stays
        #[arg(long, value_name = "SIZE")]
        state_limit: ByteSize,
    },
    /// Show what a processor remembers, as it is committed
    State(State),
    /// Have a processor stop; its backlog and state are kept
    Pause {
        /// Name of the processor
        name: SubscriptionName,
    },
    /// Have a processor go on, and try again what it failed on
    Resume {
        /// Name of the processor
        name: SubscriptionName,
    },
    /// Delete a processor and its state; the topics that it wrote to stay
    Delete {
        /// Name of the processor
        name: SubscriptionName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the processor; subscriptions and processors share their names
    name: SubscriptionName,
    /// What it reads: a topic, or all that a pattern means, those made later included; repeat it for several
    #[arg(long = "from", value_name = "TOPIC", required = true)]
    sources: Vec<TopicPattern>,
    /// Where records go that its modules let through, or emit without naming a topic; made with the first record if it is not
    /// there. Without it such records end
    #[arg(long = "to", value_name = "TOPIC")]
    sink: Option<TopicName>,
    /// Where it starts: earliest, latest, offset:N (of one topic) or time:RFC3339
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = start::parse)]
    start: StartAt,
    /// Most that its module may remember: keys, values and 32 bytes for each entry
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::b(ProcessorConfig::STATE_BYTES))]
    state_limit: ByteSize,
    /// Where records go that a module rejects or fails on: auto (the topic dlq.NAME), off (what is rejected is passed over), or a
    /// topic that exists
    #[arg(long, value_name = "auto|off|TOPIC", default_value = "auto", value_parser = delivery::dead_letters)]
    dead_letters: DeadLetters,
    #[command(flatten)]
    pipeline: Pipeline,
    /// What happens when a module fails on a record
    #[arg(long, value_enum, default_value_t = subscription::Fault::DeadLetter)]
    on_fault: subscription::Fault,
}

#[derive(Debug, Args)]
pub(crate) struct State {
    /// Name of the processor
    name: SubscriptionName,
    /// What the keys start with
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Most entries that are shown
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Processor {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = connect(common).await?;
        match self {
            Self::Create(create) => {
                let processor = create.run(&client).await?;
                subscription::show(common, &processor, |processor| {
                    let reads = sources(processor).join(", ");
                    format!("processor {} runs over {reads}", processor.name)
                })?;
            }
            Self::List => list(common, client.list_subscriptions().await?)?,
            Self::Describe { name } => {
                let processor = find(&client, name).await?;
                subscription::show(common, &processor, subscription::describe)?;
            }
            Self::Update { name, state_limit } => {
                let processor = client.set_processor_state_limit(name, state_limit.as_u64()).await?;
                subscription::show(common, &processor, |it| {
                    format!("processor {} may remember {}", it.name, output::bytes(state_limit.as_u64()))
                })?;
            }
            Self::State(state) => state.run(common, &client).await?,
            Self::Pause { name } => {
                let processor = client.pause_processor(name).await?;
                subscription::show(common, &processor, |it| format!("processor {} is paused", it.name))?;
            }
            Self::Resume { name } => {
                let processor = client.resume_processor(name).await?;
                subscription::show(common, &processor, |it| format!("processor {} goes on", it.name))?;
            }
            Self::Delete { name } => {
                let name = find(&client, name).await?.name;
                client.delete_subscription(name.clone()).await?;
                if common.json {
                    output::json(&json!({ "deleted": name }))?;
                } else {
                    output::line(format!("processor {name} deleted"))?;
                }
            }
        }
        client.close().await;
        Ok(())
    }
}

impl Create {
    async fn run(self, client: &Client) -> Result<SubscriptionInfo, Failure> {
        let config = ProcessorConfig {
            sources: self.sources,
            sink: self.sink,
            state_bytes_max: self.state_limit.as_u64(),
        };
        let new = NewProcessor {
            name: self.name,
            config,
            from: self.start,
            pipeline: self.pipeline.upload(client).await?,
            on_fault: self.on_fault.into(),
            dead_letters: self.dead_letters,
        };
        Ok(client.create_processor(new).await?)
    }
}

impl State {
    async fn run(self, common: &Common, client: &Client) -> Result<(), Failure> {
        let (mut left, mut after) = (self.limit, None);
        while left > 0 {
            let prefix = self.prefix.clone().into_bytes();
            let page = client.processor_state(self.name.clone(), prefix, after.take(), left).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.to_vec());
            for (key, value) in &page {
                if common.json {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    output::json(&json!({ "key": text(key), "value": text(value) }))?;
                } else {
                    output::line(format!(
                        "{}  {}",
                        output::harmless_bytes(key),
                        output::harmless_bytes(value)
                    ))?;
                }
            }
            left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}

/// The processor called `name`.
async fn find(client: &Client, name: SubscriptionName) -> Result<SubscriptionInfo, Failure> {
    let found = client.describe_subscription(name.clone()).await.map_err(|error| match error.code() {
        Some(ErrorCode::UnknownSubscription) => Failure::from(error)
            .in_words(format!("processor {name} does not exist; see `millstream processor list`")),
        _ => error.into(),
    })?;
    if found.processor.is_none() {
        let name = found.name;
        return Err(Failure::new(format!(
            "{name} is a subscription, not a processor; see `millstream subscription describe {name}`"
        )));
    }
    Ok(found)
}

fn list(common: &Common, mut all: Vec<SubscriptionInfo>) -> Result<(), Failure> {
    all.retain(|subscription| subscription.processor.is_some());
    if common.json {
        return output::json(&all);
    }
    let rows = all.iter().map(|processor| {
        let info = processor.processor.as_ref();
        [
            processor.name.to_string(),
            sources(processor).join(", "),
            info.and_then(|info| info.config.sink.as_ref()).map_or_else(|| "-".into(), ToString::to_string),
            subscription::state(processor),
            output::count(processor.unscanned),
            info.map_or_else(String::new, held),
            subscription::modules(processor),
        ]
    });
    let head = ["PROCESSOR", "FROM", "TO", "STATE", "BACKLOG", "REMEMBERS", "MODULES"];
    output::line(output::table(head, rows).to_string())
}

fn sources(processor: &SubscriptionInfo) -> Vec<String> {
    let sources = processor.processor.iter().flat_map(|processor| &processor.config.sources);
    sources.map(ToString::to_string).collect()
}

/// What a processor remembers, in a few words.
pub(crate) fn held(info: &ProcessorInfo) -> String {
    format!("{}, {}", output::counted(info.state_entries, "entry"), output::bytes(info.state_bytes))
}

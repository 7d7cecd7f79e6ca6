//! `millstream topic`: create, list, describe, update, ingest, delete.

use std::{collections::BTreeSet, time::Duration};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use millstream_client::{Client, Durability, SubscriptionName, TopicConfig, TopicInfo, TopicName};
use serde_json::json;

use crate::{broker::connect, cli::Common, compaction, failure::Failure, output, rate, retention};

mod ingest;

/// See the module's head.
#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Create a topic; one that exists with the same settings is left as it is
    Create(Create),
    /// List all topics
    List,
    /// Show a topic's settings and partitions
    Describe {
        /// Name of the topic
        name: TopicName,
    },
    /// Change what is kept of a topic, and how fast may be published; what is not named stays as it is
    Update(Update),
    /// Have records go through modules before they are stored: validated, enriched, rejected at publish
    Ingest(ingest::Ingest),
    /// Delete a topic with its records, and the subscriptions that read nothing else
    Delete {
        /// Name of the topic
        name: TopicName,
    },
}

#[derive(Debug, Args)]
#[command(after_help = retention::HELP)]
pub(crate) struct Create {
    /// Segments of A-Z a-z 0-9 _ - separated by dots, as in orders.eu.created
    name: TopicName,
    /// Number of partitions
    #[arg(long, default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(millstream_types::limits::TOPIC_PARTITIONS_MAX)))]
    partitions: u32,
    /// When a publish is acknowledged
    #[arg(long, value_enum, default_value_t = When::Sync)]
    durability: When,
    /// How long at least a record with a message id is not appended again; 0s: message ids mean nothing here
    #[arg(long, value_name = "DURATION", default_value = "2min", value_parser = humantime::parse_duration)]
    dedup_window: Duration,
    #[command(flatten)]
    retention: retention::Limits,
    #[command(flatten)]
    compact: compaction::Compact,
    #[command(flatten)]
    rate: rate::Rate,
    #[command(flatten)]
    ingest: ingest::Modules,
}

#[derive(Debug, Args)]
#[command(after_help = retention::HELP, group(ArgGroup::new("change").required(true).multiple(true).args(retention::FLAGS).args(compaction::FLAGS).args(rate::FLAGS)))]
pub(crate) struct Update {
    /// Name of the topic
    name: TopicName,
    #[command(flatten)]
    retention: retention::Limits,
    #[command(flatten)]
    compact: compaction::Compact,
    #[command(flatten)]
    rate: rate::Rate,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum When {
    /// Once it is fsynced
    Sync,
    /// Once the operating system has it; fsynced at an interval
    Interval,
}

impl Topic {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = connect(common).await?;
        match self {
            Self::Create(create) => {
                let Create { name, partitions, durability, dedup_window, retention, compact, rate, ingest } =
                    create;
                let dedup_window_ms = u32::try_from(dedup_window.as_millis()).unwrap_or(u32::MAX);
                let durability = match durability {
                    When::Sync => Durability::Sync,
                    When::Interval => Durability::Interval,
                };
                let mut config =
                    TopicConfig { partitions, durability, dedup_window_ms, ..TopicConfig::default() };
                let changes = [retention.changes(), compact.changes(), rate.changes()].concat();
                changes.into_iter().for_each(|change| config.apply(change));
                let ingest = ingest.pipeline.upload(&client).await?;
                let topic = client.create_judged_topic(name, config, ingest).await?;
                show(common, &topic, settings)?;
            }
            Self::Update(Update { name, retention, compact, rate }) => {
                let changes = [retention.changes(), compact.changes(), rate.changes()].concat();
                let topic = client.update_topic(name, changes).await?;
                show(common, &topic, settings)?;
            }
            Self::Ingest(ingest) => ingest.run(common, &client).await?,
            Self::List => {
                let topics = client.list_topics().await?;
                if common.json {
                    output::json(&topics)?;
                } else {
                    let rows = topics.iter().map(|topic| {
                        let TopicConfig { partitions, durability, .. } = &topic.config;
                        [
                            topic.name.to_string(),
                            partitions.to_string(),
                            word(*durability).to_owned(),
                            keeps(&topic.config),
                            ingest::names(topic),
                            output::count(topic.records),
                            output::bytes(topic.bytes),
                        ]
                    });
                    let head = ["TOPIC", "PARTITIONS", "DURABILITY", "KEEPS", "INGEST", "RECORDS", "SIZE"];
                    let table = output::table(head, rows);
                    output::line(table.to_string())?;
                }
            }
            Self::Describe { name } => {
                let topic = client.describe_topic(name).await?;
                show(common, &topic, describe)?;
            }
            Self::Delete { name } => {
                let readers = readers(&client, &name).await?;
                client.delete_topic(name.clone()).await?;
                // What reads it through a pattern, or reads others as well, stays.
                // Deleted it is, whatever comes of asking; then nothing is said of what went with it.
                let left = client
                    .list_subscriptions()
                    .await
                    .ok()
                    .map(|left| left.into_iter().map(|left| left.name).collect::<BTreeSet<_>>());
                let is_gone = |reader| left.as_ref().is_some_and(|left| !left.contains(reader));
                let gone: Vec<_> = readers.iter().filter(|(_, reader)| is_gone(reader)).collect();
                if common.json {
                    let of = |kind: &str| -> Vec<_> {
                        gone.iter().filter(|(of, _)| *of == kind).map(|(_, reader)| reader).collect()
                    };
                    let (processors, subscriptions) = (of("processor"), of("subscription"));
                    output::json(
                        &json!({ "deleted": name, "processors": processors, "subscriptions": subscriptions }),
                    )?;
                } else {
                    let gone: Vec<_> = gone.iter().map(|(kind, reader)| format!("{kind} {reader}")).collect();
                    let with = match gone.is_empty() {
                        true => String::new(),
                        false => format!(", and with it what read nothing else: {}", gone.join(", ")),
                    };
                    output::line(format!("topic {name} deleted{with}"))?;
                }
            }
        }
        client.close().await;
        Ok(())
    }
}

/// The processors and durable subscriptions that read `topic`.
async fn readers(
    client: &Client,
    topic: &TopicName,
) -> Result<Vec<(&'static str, SubscriptionName)>, Failure> {
    let readers = client.list_subscriptions().await?.into_iter().filter_map(|it| match &it.processor {
        Some(info) => {
            info.config.sources.iter().any(|it| it.matches(topic)).then_some(("processor", it.name))
        }
        None => (it.durable && it.topic.matches(topic)).then_some(("subscription", it.name)),
    });
    Ok(readers.collect())
}

fn show(common: &Common, topic: &TopicInfo, text: impl Fn(&TopicInfo) -> String) -> Result<(), Failure> {
    if common.json { output::json(topic) } else { output::line(text(topic)) }
}

fn describe(topic: &TopicInfo) -> String {
    let rows = topic.offsets.iter().map(|partition| {
        [
            partition.partition.to_string(),
            partition.earliest.to_string(),
            partition.latest.to_string(),
            output::count(partition.records),
            output::bytes(partition.bytes),
        ]
    });
    let partitions = output::table(["PARTITION", "EARLIEST", "NEXT", "RECORDS", "SIZE"], rows);
    let each = if topic.config.partitions > 1 && !topic.config.retention.keeps_all() {
        " (of each partition)"
    } else {
        ""
    };
    let rate = rate::text(&topic.config.rate).map(|rate| format!("publish     at most {rate}"));
    let lines = [
        format!("topic       {}", topic.name),
        format!("partitions  {}", topic.config.partitions),
        format!("durability  {}", word(topic.config.durability)),
        format!("keeps       {}{each}", keeps(&topic.config)),
        format!("records     {}", output::count(topic.records)),
        format!("size        {}", output::bytes(topic.bytes)),
        format!("created     {}", output::time(topic.created_ms)),
    ];
    let lines: Vec<_> = lines.into_iter().chain(rate).chain(ingest::lines(topic)).collect();
    format!("{}\n\n{partitions}", lines.join("\n"))
}

fn settings(topic: &TopicInfo) -> String {
    let TopicConfig { partitions, durability, .. } = &topic.config;
    let (durability, keeps) = (word(*durability), keeps(&topic.config));
    let rate = rate::text(&topic.config.rate).map(|rate| format!(", publish at most {rate}"));
    let rate = rate.unwrap_or_default();
    let ingest = topic.ingest.as_ref().map(|_| format!(", ingest through {}", ingest::names(topic)));
    let ingest = ingest.unwrap_or_default();
    format!(
        "topic {}: partitions {partitions}, durability {durability}, keeps {keeps}{rate}{ingest}",
        topic.name
    )
}

fn keeps(config: &TopicConfig) -> String {
    let limits = Some(retention::text(&config.retention)).filter(|_| !config.retention.keeps_all());
    match (compaction::text(&config.compaction), limits) {
        (Some(compacted), Some(limits)) => format!("{compacted}; {limits}"),
        (compacted, limits) => compacted.or(limits).unwrap_or_else(|| retention::text(&config.retention)),
    }
}

fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "sync",
        Durability::Interval => "interval",
    }
}

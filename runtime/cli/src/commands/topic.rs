//! `millstream topic`: create, list, describe, delete.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use millstream_client::{Durability, TopicConfig, TopicInfo, TopicName};
use serde_json::json;

use crate::{broker::connect, cli::Common, failure::Failure, output};

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
    /// Delete a topic with its records and subscriptions
    Delete {
        /// Name of the topic
        name: TopicName,
    },
}

#[derive(Debug, Args)]
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
            Self::Create(Create { name, partitions, durability, dedup_window }) => {
                let dedup_window_ms = u32::try_from(dedup_window.as_millis()).unwrap_or(u32::MAX);
                let durability = match durability {
                    When::Sync => Durability::Sync,
                    When::Interval => Durability::Interval,
                };
                let topic = client
                    .create_topic(name, TopicConfig { partitions, durability, dedup_window_ms })
                    .await?;
                show(common, &topic, |topic| {
                    let TopicConfig { partitions, durability, .. } = &topic.config;
                    format!("topic {}: partitions {partitions}, durability {}", topic.name, word(*durability))
                })?;
            }
            Self::List => {
                let topics = client.list_topics().await?;
                if common.json {
                    output::json(&topics)?;
                } else {
                    let rows = topics.iter().map(|topic| {
                        let TopicConfig { partitions, durability, .. } = &topic.config;
                        let durability = word(*durability).to_owned();
                        [
                            topic.name.to_string(),
                            partitions.to_string(),
                            durability,
                            output::count(topic.records),
                        ]
                    });
                    let table = output::table(["TOPIC", "PARTITIONS", "DURABILITY", "RECORDS"], rows);
                    output::line(table.to_string())?;
                }
            }
            Self::Describe { name } => {
                let topic = client.describe_topic(name).await?;
                show(common, &topic, describe)?;
            }
            Self::Delete { name } => {
                client.delete_topic(name.clone()).await?;
                if common.json {
                    output::json(&json!({ "deleted": name }))?;
                } else {
                    output::line(format!("topic {name} deleted"))?;
                }
            }
        }
        client.close().await;
        Ok(())
    }
}

fn show(common: &Common, topic: &TopicInfo, text: impl Fn(&TopicInfo) -> String) -> Result<(), Failure> {
    if common.json { output::json(topic) } else { output::line(text(topic)) }
}

fn describe(topic: &TopicInfo) -> String {
    let rows = topic.offsets.iter().map(|partition| {
        let records = output::count(partition.latest.saturating_sub(partition.earliest));
        [
            partition.partition.to_string(),
            partition.earliest.to_string(),
            partition.latest.to_string(),
            records,
        ]
    });
    let partitions = output::table(["PARTITION", "EARLIEST", "NEXT", "RECORDS"], rows);
    format!(
        "topic       {}\npartitions  {}\ndurability  {}\nrecords     {}\ncreated     {}\n\n{partitions}",
        topic.name,
        topic.config.partitions,
        word(topic.config.durability),
        output::count(topic.records),
        output::time(topic.created_ms),
    )
}

fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "sync",
        Durability::Interval => "interval",
    }
}

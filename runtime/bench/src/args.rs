//! What a user types after `millstream bench`.

use std::path::{Path, PathBuf};

use millstream_client::Url;
use serde::Serialize;

use crate::{Error, child::ChildCommand};

/// Measures Millstream beside the limits of this machine.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to measure.
    #[command(subcommand)]
    pub command: Command,
}

/// What to measure.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Everything below, in turn.
    All(Settings),
    /// Publishing beside the skeleton: batches, `sync` and `interval`, and single records, `sync`.
    Publish(Settings),
    /// Consuming at the tail, and what was stored before, without a module, beside raw QUIC down.
    Consume(Settings),
    /// A header filter in the broker beside shipping everything and filtering in the client.
    Filter(Settings),
    /// Workers that lease records and acknowledge them one by one, by delivery mode.
    Work(Settings),
    /// From publishing a record to its delivery, beside a QUIC echo, on an idle and on a loaded broker.
    Latency(Settings),
    /// Start-up time and memory of a broker that has nothing to do.
    Idle(Settings),
    /// The module engine without a broker: header filter and JSON predicate beside native closures, instances, memory, binding.
    Engine(Settings),
    /// How long records of others take beside a subscription whose module uses up its budget on every record.
    Fairness(Settings),
    /// Many subscriptions with a module each on one topic: CPU time and memory, beside a tenth of them.
    Subscriptions(Settings),
    /// The limits alone: raw QUIC, QUIC echo, raw disk, raw fjall and the skeleton.
    Limits(Settings),
    /// What the bench starts by itself.
    #[command(hide = true)]
    Child {
        /// Which of them.
        #[command(subcommand)]
        #[expect(private_interfaces, reason = "typed by this crate alone")]
        command: ChildCommand,
    },
}

/// How to measure. Ratios hold for these settings and this machine.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub struct Settings {
    /// How often everything is measured; the median counts.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub rounds: usize,
    /// How long each single measurement takes.
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    pub seconds: f64,
    /// Payload of a record.
    #[arg(long, default_value_t = 1_024, value_name = "N")]
    pub record_bytes: usize,
    /// Bytes of payloads in a batch, or of a frame.
    #[arg(long, default_value_t = 256 << 10, value_name = "N")]
    pub batch_bytes: usize,
    /// Publishers, each with a connection of its own.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub producers: usize,
    /// Batches that a publisher has unanswered at most.
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub in_flight: usize,
    /// Single records that a publisher has unanswered at most.
    #[arg(long, default_value_t = 1_024, value_name = "N")]
    pub records_in_flight: usize,
    /// Workers that share a subscription, each with a connection of its own.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub workers: usize,
    /// Partitions of the topics that are measured.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub partitions: u32,
    /// Payloads read at the tail, in MB: so few that a new broker has them in memory.
    #[arg(long, default_value_t = 24, value_name = "MB")]
    pub tail_mb: u64,
    /// Payloads stored before consuming and filtering, in MB.
    #[arg(long, default_value_t = 512, value_name = "MB")]
    pub load_mb: u64,
    /// The filter keeps one record in so many.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub keep_one_in: u64,
    /// Idle connections whose memory is measured.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub idle_connections: usize,
    /// Idle subscriptions whose memory is measured.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub idle_subscriptions: usize,
    /// Subscriptions of which each has a module, all on one topic.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub module_subscriptions: usize,
    /// How often the skeleton syncs when its durability is `interval`: as often as the broker does.
    #[arg(long, default_value_t = 50, value_name = "MS")]
    pub sync_interval_ms: u64,
    /// A running broker to measure, instead of a new one in an empty directory for each measurement; topics `bench-...`
    /// are created there and deleted. Its own option, so that no broker is loaded because it is the default one.
    #[arg(long, value_name = "URL")]
    #[serde(serialize_with = "shown_url")]
    pub broker: Option<Url>,
    /// Where data is written; it is removed again. Should be the disk that a broker would use [default: the directory
    /// for temporary files].
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "shown")]
    pub dir: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let positive = |setting, value: f64| {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            Err(Error::Setting { setting, value: value.to_string(), why: "must be above 0" })
        };
        #[expect(clippy::cast_precision_loss, reason = "only compared with 0")]
        for (setting, value) in [
            ("--rounds", self.rounds as f64),
            ("--seconds", self.seconds),
            ("--record-bytes", self.record_bytes as f64),
            ("--batch-bytes", self.batch_bytes as f64),
            ("--producers", self.producers as f64),
            ("--in-flight", self.in_flight as f64),
            ("--records-in-flight", self.records_in_flight as f64),
            ("--workers", self.workers as f64),
            ("--partitions", f64::from(self.partitions)),
            ("--tail-mb", self.tail_mb as f64),
            ("--load-mb", self.load_mb as f64),
            ("--keep-one-in", self.keep_one_in as f64),
            ("--idle-connections", self.idle_connections as f64),
            ("--idle-subscriptions", self.idle_subscriptions as f64),
            ("--module-subscriptions", self.module_subscriptions as f64),
        ] {
            positive(setting, value)?;
        }
        if self.record_bytes > self.batch_bytes {
            return Err(Error::Setting {
                setting: "--record-bytes",
                value: self.record_bytes.to_string(),
                why: "must be at most --batch-bytes",
            });
        }
        Ok(())
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Records that make up so many MB of payloads.
    pub(crate) fn records_of(&self, mb: u64) -> u64 {
        (mb * 1_000_000).div_ceil(self.record_bytes as u64)
    }

    pub(crate) fn duration(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(self.seconds)
    }
}

fn shown<S: serde::Serializer>(dir: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    let dir = dir.as_deref().map_or_else(std::env::temp_dir, Path::to_owned);
    serializer.collect_str(&dir.display())
}

fn shown_url<S: serde::Serializer>(url: &Option<Url>, serializer: S) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => serializer.collect_str(url),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn settings(options: &[&str]) -> Settings {
        match Cli::parse_from(["bench", "publish"].iter().chain(options)).args.command {
            Command::Publish(settings) => settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_and_names_are_consistent() {
        Cli::command().debug_assert();
        settings(&[]).check().unwrap();
        assert_eq!(settings(&["--record-bytes=300000", "--batch-bytes=300000"]).records_of(1), 4);
    }

    #[test]
    fn settings_that_measure_nothing_are_refused() {
        let refused = |options: &[&str]| settings(options).check().unwrap_err().to_string();
        assert_eq!(refused(&["--rounds=0"]), "--rounds is 0, but must be above 0");
        assert_eq!(refused(&["--seconds=nan"]), "--seconds is NaN, but must be above 0");
        assert_eq!(
            refused(&["--record-bytes=2000", "--batch-bytes=1000"]),
            "--record-bytes is 2000, but must be at most --batch-bytes"
        );
    }

    #[test]
    fn children_are_typed_as_they_are_parsed() {
        let skeleton = ChildCommand::Skeleton { data: "/a b/c".into(), sync_interval_ms: 7 };
        let typed = ["bench".to_owned(), "child".to_owned()].into_iter().chain(skeleton.to_args());
        let Command::Child { command } = Cli::parse_from(typed).args.command else { panic!("not a child") };
        assert_eq!(format!("{command:?}"), format!("{skeleton:?}"));
    }
}

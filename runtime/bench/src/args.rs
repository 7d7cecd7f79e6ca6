//! What a user types after `millstream bench`.

use std::path::{Path, PathBuf};

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
    #[arg(long, default_value_t = 64 << 10, value_name = "N")]
    pub batch_bytes: usize,
    /// Publishers, each with a connection of its own.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub producers: usize,
    /// Batches that a publisher has unanswered at most.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub in_flight: usize,
    /// Single records that a publisher has unanswered at most.
    #[arg(long, default_value_t = 1_024, value_name = "N")]
    pub records_in_flight: usize,
    /// Partitions of the topics that are measured.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub partitions: u32,
    /// How often the skeleton syncs when its durability is `interval`: as often as the broker does.
    #[arg(long, default_value_t = 50, value_name = "MS")]
    pub sync_interval_ms: u64,
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
            ("--partitions", f64::from(self.partitions)),
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

    pub(crate) fn duration(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(self.seconds)
    }
}

fn shown<S: serde::Serializer>(dir: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    let dir = dir.as_deref().map_or_else(std::env::temp_dir, Path::to_owned);
    serializer.collect_str(&dir.display())
}

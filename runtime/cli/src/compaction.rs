//! `--compact`: whether only the newest record of each key is kept of a topic, as it is written and read.

use std::time::Duration;

use clap::{Args, ValueEnum};
use millstream_client::{Compaction, TopicChange};

/// Whether it is.
#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Compaction, of each partition by itself")]
pub(crate) struct Compact {
    /// Delete records once there is a newer one with the same key; those without a key stay
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on", hide_possible_values = true)]
    compact: Option<Switch>,
    /// Keep tombstones (records with a key and no payload, which delete it) so long after they were published; 24h unless set
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    tombstones_for: Option<Duration>,
}

/// Their names.
pub(crate) const FLAGS: [&str; 2] = ["compact", "tombstones_for"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Compact {
    /// What was given.
    pub(crate) fn changes(&self) -> Vec<TopicChange> {
        let compact = self.compact.map(|switch| TopicChange::Compact(switch == Switch::On));
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let tombstones = self.tombstones_for.map(|time| TopicChange::TombstonesMs(ms(time)));
        [compact, tombstones].into_iter().flatten().collect()
    }
}

/// As people read it; `None` where it is off.
pub(crate) fn text(compaction: &Compaction) -> Option<String> {
    let tombstones = Duration::from_millis(compaction.tombstones_ms);
    let text = || {
        format!("the newest record of each key, tombstones for {}", humantime::format_duration(tombstones))
    };
    compaction.enabled.then(text)
}

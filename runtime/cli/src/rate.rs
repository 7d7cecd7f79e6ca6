//! `--rate-...`: how fast may be published to a topic, as it is written and read.

use clap::Args;
use millstream_client::{PublishRate, TopicChange};

use crate::{
    output,
    retention::{Limit, bytes, records},
};

/// How fast may be published.
#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Publish rate, of all publishers together")]
pub(crate) struct Rate {
    /// So many bytes of batches a second, as in 10MiB
    #[arg(long, value_name = "SIZE|none", value_parser = bytes)]
    rate_bytes: Option<Limit>,
    /// So many records a second
    #[arg(long, value_name = "N|none", value_parser = records)]
    rate_records: Option<Limit>,
}

/// Their names.
pub(crate) const FLAGS: [&str; 2] = ["rate_bytes", "rate_records"];

impl Rate {
    /// What was given.
    pub(crate) fn changes(&self) -> Vec<TopicChange> {
        let bytes = self.rate_bytes.map(|bytes| TopicChange::RateBytesPerS(bytes.0));
        let records = self.rate_records.map(|records| TopicChange::RateRecordsPerS(records.0));
        [bytes, records].into_iter().flatten().collect()
    }
}

/// As people read it; `None` without a limit.
pub(crate) fn text(rate: &PublishRate) -> Option<String> {
    let bytes = rate.bytes_per_s.map(|bytes| format!("{}/s", output::bytes(bytes.get())));
    let records = rate.records_per_s.map(|records| format!("{}/s", output::counted(records.get(), "record")));
    let limits: Vec<_> = [bytes, records].into_iter().flatten().collect();
    (!limits.is_empty()).then(|| limits.join(", "))
}

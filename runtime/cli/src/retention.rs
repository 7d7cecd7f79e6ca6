//! `--retention-...`: what is kept of a topic, as it is written and read.

use std::{num::NonZeroU64, time::Duration};

use bytesize::ByteSize;
use clap::Args;
use millstream_client::{Retention, TopicChange};

use crate::output;

/// What is kept.
#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Retention, of each partition by itself")]
pub(crate) struct Limits {
    /// Delete records that were appended longer ago, as in 7d or 12h
    #[arg(long, value_name = "DURATION|none", value_parser = age)]
    retention_age: Option<Limit>,
    /// Delete the oldest records of a partition that has more bytes, as stored, than that, as in 10GiB; the newest so many bytes stay
    #[arg(long, value_name = "SIZE|none", value_parser = bytes)]
    retention_bytes: Option<Limit>,
    /// Delete the oldest records of a partition that has more; the newest so many stay
    #[arg(long, value_name = "N|none", value_parser = records)]
    retention_records: Option<Limit>,
}

/// What is to be known of them.
pub(crate) const HELP: &str = "Retention: the oldest records of a partition are deleted as soon as one of the limits lets them go, always in \
     whole batches; the newest batch stays. A limit holds for each partition, so that a topic with 4 partitions and \
     `--retention-bytes 10GiB` keeps up to about 40 GiB. `none` sets no limit; without any, everything is kept.";

/// Their names.
pub(crate) const FLAGS: [&str; 3] = ["retention_age", "retention_bytes", "retention_records"];

/// A number, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<NonZeroU64>);

impl Limits {
    /// What was given.
    pub(crate) fn changes(&self) -> Vec<TopicChange> {
        let age = self.retention_age.map(|age| TopicChange::RetentionAgeMs(age.0));
        let bytes = self.retention_bytes.map(|bytes| TopicChange::RetentionBytes(bytes.0));
        let records = self.retention_records.map(|records| TopicChange::RetentionRecords(records.0));
        [age, bytes, records].into_iter().flatten().collect()
    }
}

/// As people read it.
pub(crate) fn text(retention: &Retention) -> String {
    let age =
        retention.age_ms.map(|age| humantime::format_duration(Duration::from_millis(age.get())).to_string());
    let bytes = retention.bytes.map(|bytes| output::bytes(bytes.get()));
    let records = retention.records.map(|records| output::counted(records.get(), "record"));
    let limits: Vec<_> = [age, bytes, records].into_iter().flatten().collect();
    if limits.is_empty() { "everything".to_owned() } else { limits.join(", ") }
}

fn age(text: &str) -> Result<Limit, String> {
    limit(text, "7d, 12h or 30min", |text| {
        let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
        Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    })
}

pub(crate) fn bytes(text: &str) -> Result<Limit, String> {
    limit(text, "10GiB, 500MB or 1048576", |text| text.parse().map(|size: ByteSize| size.as_u64()))
}

pub(crate) fn records(text: &str) -> Result<Limit, String> {
    limit(text, "a whole number", |text| {
        text.parse().map_err(|error: std::num::ParseIntError| error.to_string())
    })
}

fn limit(text: &str, form: &str, parse: impl Fn(&str) -> Result<u64, String>) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let number = parse(text).map_err(|error| format!("{error}; write {form}, or none"))?;
    match NonZeroU64::new(number) {
        Some(number) => Ok(Limit(Some(number))),
        None => Err("nothing would be left of it; write more than 0, or none for no limit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let some = |number| Ok(Limit(NonZeroU64::new(number)));
        for (parse, text, expected) in [
            (age as fn(&str) -> _, "7d", some(7 * 86_400_000)),
            (age, "1h 30min", some(5_400_000)),
            (bytes, "10GiB", some(10 << 30)),
            (bytes, "1.5 MB", some(1_500_000)),
            (bytes, "4096", some(4_096)),
            (records, "1000000", some(1_000_000)),
            (age, "none", Ok(Limit(None))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for (parse, text, remedy) in [
            (age as fn(&str) -> Result<Limit, String>, "7", "12h"),
            (age, "0s", "more than 0"),
            (bytes, "10 apples", "10GiB"),
            (bytes, "0", "none"),
            (records, "-1", "whole number"),
            (records, "many", "none"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }

    #[test]
    fn retention_for_people() {
        let mut retention = Retention::default();
        assert_eq!(text(&retention), "everything");
        retention.age_ms = NonZeroU64::new(7 * 86_400_000);
        retention.records = NonZeroU64::new(1_000_000);
        assert_eq!(text(&retention), "7days, 1,000,000 records");
    }
}

//! How a subscription delivers, on the command line: `--mode`, `--lease`, `--tries`, `--backoff`, `--dead-letters`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use millstream_client::{DeadLetters, DeliveryConfig, DeliveryMode, TopicName};

use crate::failure::Failure;

/// See the module's head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Delivery {
    /// Who gets which records of a new subscription
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// How long a record belongs to a worker before it is delivered again [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lease: Option<Duration>,
    /// After so many failures a record is a dead letter [default: 5]
    #[arg(long, value_name = "N")]
    tries: Option<u32>,
    /// Waits before the second, third, ... try; the last one counts for all further ones [default: 1s,5s,30s,2min,10min]
    #[arg(long, value_name = "DURATION,...", value_delimiter = ',', value_parser = duration)]
    backoff: Vec<Duration>,
    /// Where records go that failed too often: auto (the topic dlq.SUBSCRIPTION), off (they are tried for ever), or a topic
    /// that exists [default: auto]
    #[arg(long, value_name = "auto|off|TOPIC", value_parser = dead_letters)]
    dead_letters: Option<DeadLetters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// One consumer gets everything, in order
    Exclusive,
    /// Each partition goes to one of the workers, in order; another takes over when that one goes
    Failover,
    /// Each record goes to one of the workers: a work queue
    Shared,
    /// The same, but records of one key in order and by one worker at a time
    #[value(name = "key_shared", alias = "key-shared")]
    KeyShared,
}

impl Delivery {
    /// The settings; `None` when none were named.
    pub(crate) fn config(&self, default: DeliveryMode) -> Result<Option<DeliveryConfig>, Failure> {
        if *self == Self::default() {
            return Ok(None);
        }
        let mode = match self.mode {
            None => default,
            Some(Mode::Exclusive) => DeliveryMode::Exclusive,
            Some(Mode::Failover) => DeliveryMode::Failover,
            Some(Mode::Shared) => DeliveryMode::Shared,
            Some(Mode::KeyShared) => DeliveryMode::KeyShared,
        };
        let mut config = DeliveryConfig::of(mode);
        if let Some(lease) = self.lease {
            config.lease_ms = millis(lease);
        }
        config.tries = self.tries.unwrap_or(config.tries);
        if !self.backoff.is_empty() {
            config.backoff_ms = self.backoff.iter().copied().map(millis).collect();
        }
        config.dead_letters = self.dead_letters.clone().unwrap_or(config.dead_letters);
        config.check().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Some(config))
    }
}

/// Durations in ms; one that does not fit is refused with the others that are out of range.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 500ms, 5s or 2min"))
}

pub(crate) fn dead_letters(text: &str) -> Result<DeadLetters, String> {
    match text {
        "auto" => Ok(DeadLetters::Auto),
        "off" => Ok(DeadLetters::Off),
        topic => topic.parse::<TopicName>().map(DeadLetters::Topic).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        delivery: Delivery,
    }

    fn parse(line: &[&str]) -> Result<Option<DeliveryConfig>, String> {
        let line = Line::try_parse_from([&["x"], line].concat()).map_err(|error| error.to_string())?;
        line.delivery.config(DeliveryMode::Shared).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn settings_are_read_and_checked() {
        assert_eq!(parse(&[]), Ok(None));
        let all = [
            "--mode",
            "key_shared",
            "--lease",
            "5s",
            "--tries",
            "2",
            "--backoff",
            "1s,2min",
            "--dead-letters",
            "off",
        ];
        let expected = DeliveryConfig {
            mode: DeliveryMode::KeyShared,
            lease_ms: 5_000,
            tries: 2,
            backoff_ms: vec![1_000, 120_000],
            dead_letters: DeadLetters::Off,
        };
        assert_eq!(parse(&all), Ok(Some(expected)));
        let topic = DeliveryConfig {
            dead_letters: DeadLetters::Topic("a.b".parse().unwrap()),
            ..DeliveryConfig::of(DeliveryMode::Shared)
        };
        assert_eq!(parse(&["--dead-letters", "a.b"]), Ok(Some(topic)));
        for (line, says) in [
            (["--tries", "0"], "0 tries"),
            (["--lease", "90d"], "lease of 4294967295 ms"),
            (["--backoff", "1s,2"], "5s or 2min"),
            (["--dead-letters", "a..b"], "a..b"),
        ] {
            let error = parse(&line).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}

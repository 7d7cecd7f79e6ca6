//! Lines that modules write, and what the broker says of modules, as whoever follows them gets it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{SubscriptionName, Timestamp};

/// Importance of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleLogLevel {
    /// Finest.
    #[default]
    Trace,
    /// For whoever writes the module.
    Debug,
    /// Worth noting.
    Info,
    /// Not as expected; also: a module rejected a record.
    Warn,
    /// Failed; also: a module failed on a record.
    Error,
    /// The message of a panic.
    Panic,
}

impl ModuleLogLevel {
    const ALL: [Self; 6] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Panic];

    /// The level in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Panic => "panic",
        }
    }
}

impl FromStr for ModuleLogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| {
            format!("{text:?} is no level: there are trace, debug, info, warn, error and panic")
        })
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleLogLine {
    /// When it was written, ms since the Unix epoch.
    pub time_ms: Timestamp,
    /// Where the module is bound.
    pub subscription: SubscriptionName,
    /// As it is bound: `NAME@VERSION` or `sha256:HEX`.
    pub module: String,
    /// Its importance.
    pub level: ModuleLogLevel,
    /// Its text: of a module at most 4 KiB, and any characters.
    pub text: String,
    /// Lines that were left out before this one, since there were too many.
    #[serde(default)]
    pub left_out: u64,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleLogFilter {
    /// Of this subscription alone.
    #[serde(default)]
    pub subscription: Option<SubscriptionName>,
    /// Of this module alone: `NAME@VERSION`, or `NAME` for all its versions.
    #[serde(default)]
    pub module: Option<String>,
    /// Of this importance or above.
    #[serde(default)]
    pub level: ModuleLogLevel,
}

impl ModuleLogFilter {
    /// Whether it lets a line through.
    pub fn lets(&self, line: &ModuleLogLine) -> bool {
        let of_module = |wanted: &String| {
            line.module == *wanted || line.module.split_once('@').is_some_and(|(name, _)| name == wanted)
        };
        self.subscription.as_ref().is_none_or(|wanted| line.subscription == *wanted)
            && self.module.as_ref().is_none_or(of_module)
            && line.level >= self.level
    }
}

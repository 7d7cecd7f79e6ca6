//! Names as the user types them. A value that exists is valid.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::limits::NAME_BYTES_MAX;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {value:?} {fault}; {rule}")]
pub struct NameError {
    kind: &'static str,
    value: String,
    fault: &'static str,
    rule: &'static str,
}

const SEGMENTS: &str = "use 1 to 255 bytes of A-Z a-z 0-9 _ - in segments separated by single dots";

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text` and makes it a name.
            ///
            /// # Errors
            /// [`NameError`] naming the value and the rule it breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(&text) {
                    Ok(()) => Ok(Self(text.into_boxed_str())),
                    Err(fault) => {
                        // A hostile name may be long: show only its start.
                        let value = text.chars().take(80).collect();
                        Err(NameError { kind: $kind, value, fault, rule: $rule })
                    }
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }
    };
}

name!(
    /// Name of a topic: dot-separated segments of `[A-Za-z0-9_-]`, at most 255 bytes.
    TopicName, "topic", |text| segments(text, plain), SEGMENTS
);
name!(
    /// Name of a subscription; same rule as a topic's.
    SubscriptionName, "subscription", |text| segments(text, plain), SEGMENTS
);
name!(
    /// Name of a producer that keeps its identity over restarts; same rule as a topic's.
    ProducerName, "producer", |text| segments(text, plain), SEGMENTS
);
name!(
    /// `NAME@VERSION` of a module in the registry; `NAME` may have a namespace, as in `std/headers@1.0.0`.
    ModuleName, "module", module,
    "write NAME@VERSION, as in my-filter@1.2.0: NAME of A-Z a-z 0-9 _ - . /, VERSION of A-Z a-z 0-9 . - +"
);
name!(
    /// A topic name, or a pattern in which `*` stands for one segment and a final `>` for one or more.
    TopicPattern, "topic pattern",
    |text| {
        segments(text, |segment| segment == "*" || segment == ">" || plain(segment))?;
        match text.split('.').rev().skip(1).any(|segment| segment == ">") {
            true => Err("has `>` before its end"),
            false => Ok(()),
        }
    },
    "use segments separated by dots; `*` matches one segment, `>` at the end the rest"
);

impl ModuleName {
    /// The part before `@`.
    pub fn name(&self) -> &str {
        self.0.split_once('@').map_or(&*self.0, |(name, _)| name)
    }

    /// The part after `@`.
    pub fn version(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, version)| version)
    }
}

impl TopicPattern {
    /// The one topic that is meant, where there is no wildcard.
    pub fn as_topic(&self) -> Option<TopicName> {
        TopicName::new(self.as_str()).ok()
    }

    /// Whether `topic` is one that the pattern means. A wildcard in the first place does not mean `dlq`: two subscriptions to
    /// everything would send each other the dead letters of a record for ever.
    pub fn matches(&self, topic: &TopicName) -> bool {
        let mut segments = topic.as_str().split('.');
        if self.0.starts_with(['*', '>']) && segments.clone().next() == Some(TopicName::DEAD_LETTERS) {
            return false;
        }
        for wanted in self.0.split('.') {
            match (wanted, segments.next()) {
                (">", found) => return found.is_some(),
                (_, None) => return false,
                ("*", Some(_)) => {}
                (wanted, Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl TopicName {
    /// First segment of the names that dead-letter topics have unless they are given others.
    pub const DEAD_LETTERS: &'static str = "dlq";
}

impl From<TopicName> for TopicPattern {
    fn from(topic: TopicName) -> Self {
        Self(topic.0)
    }
}

fn plain(segment: &str) -> bool {
    segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn segments(text: &str, good: impl Fn(&str) -> bool) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return Err("is longer than 255 bytes");
    }
    for segment in text.split('.') {
        if segment.is_empty() {
            return Err("has an empty segment");
        }
        if !good(segment) {
            return Err("has a character that is not allowed");
        }
    }
    Ok(())
}

fn module(text: &str) -> Result<(), &'static str> {
    if text.len() > NAME_BYTES_MAX {
        return Err("is longer than 255 bytes");
    }
    let Some((name, version)) = text.split_once('@') else {
        return Err("has no @VERSION");
    };
    let name_good =
        |part: &str| !part.is_empty() && part.split('.').all(|piece| !piece.is_empty() && plain(piece));
    if !name.split('/').all(name_good) {
        return Err("has a bad NAME");
    }
    let version_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
    if version.is_empty() || !version.bytes().all(version_good) {
        return Err("has a bad VERSION");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names() {
        for good in ["a", "orders.eu.created", "A-1_b", &"x".repeat(255)] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "a.", "a b", "a/b", "ü", "a.*", ">", &"x".repeat(256)] {
            let error = TopicName::new(bad).expect_err(bad).to_string();
            assert!(error.contains("topic name"), "{error}");
        }
    }

    #[test]
    fn module_names() {
        let name = ModuleName::new("std/headers@1.0.0").expect("good");
        assert_eq!((name.name(), name.version()), ("std/headers", "1.0.0"));
        for bad in ["x", "@1", "x@", "x@1@2", "/x@1", "x y@1", "..@1"] {
            assert!(ModuleName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns() {
        let matches = |pattern: &str, topic: &str| {
            TopicPattern::new(pattern).expect("pattern").matches(&TopicName::new(topic).expect("topic"))
        };
        assert!(matches("a.*.c", "a.b.c"));
        assert!(!matches("a.*.c", "a.b.b.c"));
        assert!(matches("a.>", "a.b.c"));
        assert!(!matches("a.>", "a"));
        assert!(matches(">", "a"));
        assert!(matches("a.b", "a.b"));
        assert!(!matches(">", "dlq.a") && !matches("*.a", "dlq.a") && !matches(">", "dlq"));
        assert!(matches("dlq.>", "dlq.a") && matches("dlq.*", "dlq.a") && matches("*.dlq", "a.dlq"));
        assert!(!matches("a.b", "a.b.c"));
        assert!(TopicPattern::new("a.>.b").is_err());
    }
}

//! The configuration: steps, taken one after the other.

use std::fmt;

use millstream_filter_predicate::{ConfigError, Pointer};
use millstream_sdk::SchemaText;
use millstream_sdk::prelude::*;

const SHAPE: &str = r#"write {"move": PLACE, "to": PLACE}, {"copy": PLACE, "to": PLACE} or {"drop": PLACE}, where a PLACE is a field, as in "/card/number", or a header's name"#;

/// What is moved, copied and dropped. A place is a field, as in `/card/number`, or a header's name.
///
/// The configuration as it is written.
#[derive(Debug, ModuleConfig)]
struct Written {
    /// Taken one after the other.
    steps: Vec<WrittenStep>,
    /// What happens when there is nothing at a step's place.
    #[serde(default)]
    on_missing: OnMissing,
}

/// One of `move` and `copy`, with `to`, or `drop`.
#[derive(Debug, ModuleConfig)]
struct WrittenStep {
    /// The place that is moved.
    #[serde(default, rename = "move")]
    moved: Option<String>,
    /// The place that is copied.
    #[serde(default)]
    copy: Option<String>,
    /// The place that is dropped.
    #[serde(default)]
    drop: Option<String>,
    /// Where to.
    #[serde(default)]
    to: Option<String>,
}

/// What happens when there is nothing at a step's place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ModuleConfig)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnMissing {
    /// The step changes nothing.
    #[default]
    Skip,
    /// The record is rejected.
    Reject,
}

/// Steps, taken one after the other.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) steps: Vec<Step>,
    pub(crate) on_missing: OnMissing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Move { from: Place, to: Place },
    Copy { from: Place, to: Place },
    Drop(Place),
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Field(Pointer),
    Header(String),
}

impl Config {
    /// Whether a step is about a field.
    pub(crate) fn reads_payload(&self) -> bool {
        let is_field = |place: &Place| matches!(place, Place::Field(_));
        self.steps.iter().any(|step| match step {
            Step::Move { from, to } | Step::Copy { from, to } => is_field(from) || is_field(to),
            Step::Drop(from) => is_field(from),
        })
    }
}

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = Written::SCHEMA;

    fn from_json(json: &str) -> Result<Self, String> {
        let Written { steps, on_missing } = Written::from_json(json)?;
        if steps.is_empty() {
            return Err(ConfigError::new("config.steps", format!("is empty: {SHAPE}")).into());
        }
        let steps = steps.into_iter().enumerate();
        let steps = steps.map(|(index, step)| step.parse(&format!("config.steps[{index}]")));
        Ok(Self { steps: steps.collect::<Result<_, _>>()?, on_missing })
    }
}

impl WrittenStep {
    fn parse(self, path: &str) -> Result<Step, ConfigError> {
        let place = |name: &str, text: &str| {
            Place::new(text).map_err(|fault| ConfigError::new(format!("{path}.{name}"), fault))
        };
        let fault = |fault: &str| Err(ConfigError::new(path, format!("{fault}: {SHAPE}")));
        let (name, from, to) = match (&self.moved, &self.copy, &self.drop, &self.to) {
            (Some(from), None, None, Some(to)) => ("move", from, to),
            (None, Some(from), None, Some(to)) => ("copy", from, to),
            (None, None, Some(from), None) => return Ok(Step::Drop(place("drop", from)?)),
            (None, None, Some(_), Some(_)) => return fault("has `to` beside `drop`"),
            (Some(_), None, None, None) | (None, Some(_), None, None) => return fault("has no `to`"),
            (None, None, None, _) => return fault("says nothing to do"),
            _ => return fault("has several of `move`, `copy` and `drop`, which are a step each"),
        };
        let (from, to) = (place(name, from)?, place("to", to)?);
        if from == to {
            return Err(ConfigError::new(format!("{path}.to"), format!("is the same as `{name}`: {to}")));
        }
        Ok(if name == "move" { Step::Move { from, to } } else { Step::Copy { from, to } })
    }
}

impl Place {
    fn new(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is empty: write a field, as in \"/card/number\", or a header's name".into()),
            _ if text.starts_with('/') => Pointer::new(text).map(Self::Field),
            _ => Ok(Self::Header(text.to_owned())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(pointer) => write!(f, "field \"{pointer}\""),
            Self::Header(name) => write!(f, "header {name:?}"),
        }
    }
}

//! Where a module is bound, and what it announces there.

use std::collections::HashMap;

use millstream_types::{TopicName, TopicPattern, Verdict, VerdictsView};

use crate::contract::{GuestFields, GuestSpec, GuestVerdicts};
use crate::fault::{Fault, FaultKind};
use crate::limits::{SPEC_TOPICS_MAX, TOPICS_KNOWN_MAX};
use crate::{BindError, State};

/// Where a module is bound.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Topic whose records it judges.
    pub topic: String,
    /// Subscription it is bound to.
    pub subscription: String,
    /// Its configuration, a JSON text; `{}` when none was given.
    pub config: String,
    /// What it remembers, if it is a processor's.
    pub state: Option<State>,
}

/// The verdicts that a module announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictSet {
    /// Records go on as they are.
    pub keep: bool,
    /// Records end.
    pub drop: bool,
    /// Records are replaced.
    pub emit: bool,
    /// Records are refused.
    pub reject: bool,
}

/// What a configured module announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Whether it reads payloads; otherwise they are not copied in.
    pub reads_payload: bool,
    /// The verdicts it may give.
    pub verdicts: VerdictSet,
    /// The topics it may emit to.
    pub topics: Vec<TopicPattern>,
}

impl Spec {
    pub(crate) fn from_guest(spec: GuestSpec) -> Result<Self, BindError> {
        let has = |verdict| spec.verdicts.contains(verdict);
        let verdicts = VerdictSet {
            keep: has(GuestVerdicts::KEEP),
            drop: has(GuestVerdicts::DROP),
            emit: has(GuestVerdicts::EMIT),
            reject: has(GuestVerdicts::REJECT),
        };
        if spec.verdicts == GuestVerdicts::empty() {
            return Err(BindError::Spec("it announces no verdicts".into()));
        }
        if spec.topics.len() > SPEC_TOPICS_MAX {
            let found = spec.topics.len();
            return Err(BindError::Spec(format!("{found} topics, above the limit of {SPEC_TOPICS_MAX}")));
        }
        let topics: Result<Vec<_>, _> = spec.topics.into_iter().map(TopicPattern::new).collect();
        let topics = topics.map_err(|error| BindError::Spec(error.to_string()))?;
        Ok(Self { reads_payload: spec.fields.contains(GuestFields::PAYLOAD), verdicts, topics })
    }
}

/// Holds a module to what it announced, and remembers the topics that were found good.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) spec: Spec,
    topics: HashMap<Box<str>, TopicName>,
}

impl Announced {
    pub(crate) fn new(spec: Spec) -> Self {
        Self { spec, topics: HashMap::new() }
    }

    /// Refuses verdicts and topics that were not announced.
    pub(crate) fn check(&mut self, verdicts: &VerdictsView<'_>) -> Result<(), Fault> {
        let announced = self.spec.verdicts;
        if announced.keep && announced.drop && verdicts.is_plain() {
            return Ok(());
        }
        for (index, verdict) in verdicts.iter().enumerate() {
            let (given, name) = match verdict {
                Verdict::Keep => (announced.keep, "keep"),
                Verdict::Drop => (announced.drop, "drop"),
                Verdict::Emit(_) => (announced.emit, "emit"),
                Verdict::Reject(_) => (announced.reject, "reject"),
            };
            if !given {
                let text = format!("verdict {index} is `{name}`, which the module did not announce");
                return Err(Fault::new(FaultKind::Undeclared, text).at(index));
            }
            if let Verdict::Emit(outputs) = verdict {
                for topic in outputs.iter().filter_map(|output| output.topic) {
                    if self.topic(topic).is_none() {
                        let text = format!(
                            "verdict {index} goes to topic `{topic}`, which the module did not announce"
                        );
                        return Err(Fault::new(FaultKind::Undeclared, text).at(index));
                    }
                }
            }
        }
        Ok(())
    }

    /// The topic called `name`, if the module may emit to it.
    pub(crate) fn topic(&mut self, name: &str) -> Option<TopicName> {
        if let Some(topic) = self.topics.get(name) {
            return Some(topic.clone());
        }
        let topic = TopicName::new(name).ok()?;
        if !self.spec.topics.iter().any(|pattern| pattern.matches(&topic)) {
            return None;
        }
        if self.topics.len() >= TOPICS_KNOWN_MAX {
            self.topics.clear();
        }
        self.topics.insert(name.into(), topic.clone());
        Some(topic)
    }
}

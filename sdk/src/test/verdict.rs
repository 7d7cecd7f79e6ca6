//! Verdicts as tests compare them.

use millstream_types::{self as types, Field, TopicName, TopicPattern};

use super::TestRecord;
use crate::Spec;

/// What a module said of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The record goes on as it is.
    Keep,
    /// The record ends here.
    Drop,
    /// These take its place.
    Emit(Vec<Emitted>),
    /// The record is bad, and why.
    Reject(String),
}

/// One emitted record, complete: what the module did not set is the source's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// Where it goes; `None`: to the reader.
    pub topic: Option<String>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its payload; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
}

impl Verdict {
    pub(super) fn new(verdict: types::Verdict<'_>, source: &TestRecord) -> Self {
        match verdict {
            types::Verdict::Keep => Self::Keep,
            types::Verdict::Drop => Self::Drop,
            types::Verdict::Emit(outputs) => {
                Self::Emit(outputs.iter().map(|output| Emitted::new(&output, source)).collect())
            }
            types::Verdict::Reject(reason) => Self::Reject(reason.to_owned()),
        }
    }

    /// The one record emitted.
    ///
    /// # Panics
    /// If the verdict is another one, or several were emitted.
    #[track_caller]
    pub fn emitted(&self) -> &Emitted {
        match self {
            Self::Emit(outputs) if outputs.len() == 1 => &outputs[0],
            other => panic!("expected one emitted record, found {other:?}"),
        }
    }

    /// The reason of the rejection.
    ///
    /// # Panics
    /// If the verdict is another one.
    #[track_caller]
    pub fn reason(&self) -> &str {
        match self {
            Self::Reject(reason) => reason,
            other => panic!("expected a rejection, found {other:?}"),
        }
    }

    /// The broker faults a module for these.
    #[track_caller]
    pub(super) fn check_announced(&self, spec: &Spec) {
        let announced = match self {
            Self::Keep => spec.verdicts.keep,
            Self::Drop => spec.verdicts.drop,
            Self::Emit(_) => spec.verdicts.emit,
            Self::Reject(_) => spec.verdicts.reject,
        };
        assert!(announced, "the module gave {self:?} without announcing that it may");
        let Self::Emit(outputs) = self else { return };
        for topic in outputs.iter().filter_map(|output| output.topic.as_ref()) {
            let name = TopicName::new(topic.clone()).unwrap_or_else(|error| panic!("{error}"));
            let among = |pattern: &String| {
                TopicPattern::new(pattern.clone()).is_ok_and(|pattern| pattern.matches(&name))
            };
            assert!(
                spec.topics.iter().any(among),
                "the module sent a record to {topic:?} but announces only {:?}: name it in `topics`",
                spec.topics
            );
        }
    }
}

impl Emitted {
    fn new(output: &types::OutputView<'_>, source: &TestRecord) -> Self {
        let owned = |field: &Field<Option<&[u8]>>, inherited: Option<&[u8]>| match field {
            Field::Inherit => inherited.map(<[u8]>::to_vec),
            Field::Set(bytes) => bytes.map(<[u8]>::to_vec),
        };
        let headers = match &output.headers {
            Field::Inherit => source.0.headers.clone(),
            Field::Set(headers) => headers.to_headers(),
        };
        Self {
            topic: output.topic.map(str::to_owned),
            key: owned(&output.key, source.0.key.as_deref()),
            headers: headers.into_iter().map(|header| (header.name, header.value.to_vec())).collect(),
            payload: owned(&output.payload, source.0.payload.as_deref()),
        }
    }

    /// The payload as text.
    ///
    /// # Panics
    /// If there is none, or it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        let payload = self.payload.as_deref().unwrap_or_else(|| panic!("the emitted record is a tombstone"));
        std::str::from_utf8(payload)
            .unwrap_or_else(|error| panic!("the emitted payload is not text: {error}"))
    }

    /// The payload as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text())
            .unwrap_or_else(|error| panic!("the emitted payload is not JSON: {error}"))
    }
}

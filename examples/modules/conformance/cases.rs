//! The cases, as `cases.json` has them: a record, and what becomes of it.

use millstream_types::{Header, Record};
use serde::Deserialize;

const CASES: &str = include_str!("cases.json");

/// All of `cases.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cases {
    /// The configuration of all cases, a JSON object.
    pub(crate) config: serde_json::Value,
    /// Topics that the module announces with it.
    pub(crate) topics: Vec<String>,
    /// What it logs when it is configured.
    pub(crate) logs: String,
    /// Configurations that the module refuses.
    pub(crate) refused: Vec<Refused>,
    pub(crate) cases: Vec<Case>,
    /// A record on which the module fails.
    pub(crate) poison: Poison,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    pub(crate) config: serde_json::Value,
    /// What the error names.
    pub(crate) names: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) record: Parts,
    pub(crate) becomes: Fate,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Poison {
    pub(crate) record: Parts,
    /// Part of the fault's text.
    pub(crate) says: String,
}

/// Key, headers and payload of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parts {
    #[serde(default)]
    key: Option<Text>,
    #[serde(default)]
    headers: Vec<(String, Text)>,
    #[serde(default)]
    payload: Option<Text>,
}

/// Bytes: a text, or `{"hex": "ff"}`, or `{"times": 1000, "of": "[", "then": "]"}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Hex {
        hex: String,
    },
    Repeated {
        times: usize,
        of: String,
        #[serde(default)]
        then: String,
    },
}

/// What becomes of a record.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    Keep,
    Drop,
    /// It goes as it is to these topics.
    Route(Vec<String>),
    /// These, whole.
    Outputs(Vec<Output>),
    Reject(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Output {
    #[serde(default)]
    pub(crate) topic: Option<String>,
    #[serde(default)]
    key: Option<Text>,
    #[serde(default)]
    headers: Vec<(String, Text)>,
    #[serde(default)]
    payload: Option<Text>,
}

impl Cases {
    pub(crate) fn read() -> Self {
        serde_json::from_str(CASES).expect("cases.json is what this file says")
    }
}

impl Parts {
    pub(crate) fn to_record(&self) -> Record {
        record(self.key.as_ref(), &self.headers, self.payload.as_ref())
    }
}

impl Output {
    /// `{offset}` and `{timestamp}` in a payload are those of the source.
    pub(crate) fn to_record(&self, source: &Record) -> Record {
        let mut record = record(self.key.as_ref(), &self.headers, self.payload.as_ref());
        if let Some(Text::Plain(text)) = &self.payload {
            let text = text.replace("{offset}", &source.offset.to_string());
            record.payload = Some(text.replace("{timestamp}", &source.timestamp.to_string()).into());
        }
        record
    }
}

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Plain(text) => text.clone().into_bytes(),
            Self::Hex { hex } => hex::decode(hex).expect("hexadecimal digits in cases.json"),
            Self::Repeated { times, of, then } => (of.repeat(*times) + then).into_bytes(),
        }
    }
}

fn record(key: Option<&Text>, headers: &[(String, Text)], payload: Option<&Text>) -> Record {
    let header = |(name, value): &(String, Text)| Header { name: name.clone(), value: value.bytes().into() };
    Record {
        key: key.map(|key| key.bytes().into()),
        headers: headers.iter().map(header).collect(),
        payload: payload.map(|payload| payload.bytes().into()),
        ..Record::default()
    }
}

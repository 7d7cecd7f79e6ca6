//! A record as a JSON object.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use millstream_client::RecordView;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

/// One record as an object on one line: `topic`, `partition`, `offset`, `timestamp` (ms since the Unix epoch), `key`,
/// `headers` (by name; a name that repeats has an array) and `payload` (the JSON it holds, else text; `null` for a
/// tombstone). Bytes that are not UTF-8 become `{"base64": "..."}`.
#[derive(Serialize)]
pub(crate) struct RecordJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    key: Option<Text<'a>>,
    headers: Headers<'a>,
    payload: Payload<'a>,
}

impl<'a> RecordJson<'a> {
    pub(crate) fn new(topic: &'a str, partition: u32, record: &RecordView<'a>) -> Self {
        Self {
            topic: Some(topic),
            partition: Some(partition),
            timestamp: Some(record.timestamp),
            ..Self::timeless(None, record.offset, record)
        }
    }

    /// Without what differs from run to run.
    pub(crate) fn timeless(topic: Option<&'a str>, offset: u64, record: &RecordView<'a>) -> Self {
        Self {
            topic,
            partition: None,
            offset,
            timestamp: None,
            key: record.key.map(Text),
            headers: Headers(record.headers.iter().collect()),
            payload: Payload(record.payload),
        }
    }
}

/// Bytes as text where they are.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut object = serializer.serialize_map(Some(1))?;
                object.serialize_entry("base64", &STANDARD.encode(self.0))?;
                object.end()
            }
        }
    }
}

struct Headers<'a>(Vec<(&'a [u8], &'a [u8])>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for (at, (name, _)) in self.0.iter().enumerate() {
            if self.0.iter().take(at).any(|(earlier, _)| earlier == name) {
                continue;
            }
            let name_text = String::from_utf8_lossy(name);
            let mut values = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| Text(value));
            match (values.next(), values.next()) {
                (Some(only), None) => object.serialize_entry(&name_text, &only)?,
                (first, second) => {
                    let all: Vec<_> = first.into_iter().chain(second).chain(values).collect();
                    object.serialize_entry(&name_text, &all)?;
                }
            }
        }
        object.end()
    }
}

struct Payload<'a>(Option<&'a [u8]>);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(bytes) = self.0 else { return serializer.serialize_none() };
        let json =
            std::str::from_utf8(bytes).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        match json {
            None => Text(bytes).serialize(serializer),
            Some(json) if json.get().contains(['\n', '\r']) => {
                // Between tokens only, since strings escape them: the object stays on one line, numbers as written.
                let line = json.get().replace(['\n', '\r'], " ");
                let line = RawValue::from_string(line).map_err(serde::ser::Error::custom)?;
                line.serialize(serializer)
            }
            Some(json) => json.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_client::{BatchBuilder, Record};

    fn check(record: Record, expected: &str) {
        let mut builder = BatchBuilder::new().with_stamp(7, 1_000);
        builder.push(&record).unwrap();
        let batch = builder.build().unwrap();
        let view = batch.view().record(0).unwrap();
        assert_eq!(serde_json::to_string(&RecordJson::new("t", 2, &view)).unwrap(), expected);
    }

    #[test]
    fn records_as_objects() {
        check(
            Record::new(r#"{"a": 12345678901234567890.10}"#).with_key("k").with_header("h", "1"),
            r#"{"topic":"t","partition":2,"offset":7,"timestamp":1000,"key":"k","headers":{"h":"1"},"payload":{"a": 12345678901234567890.10}}"#,
        );
        check(
            Record::new("plain\ntext")
                .with_header("h", "1")
                .with_header("g", &[0xff][..])
                .with_header("h", "2"),
            r#"{"topic":"t","partition":2,"offset":7,"timestamp":1000,"key":null,"headers":{"h":["1","2"],"g":{"base64":"/w=="}},"payload":"plain\ntext"}"#,
        );
        check(
            Record::new("[1,\n 2]"),
            r#"{"topic":"t","partition":2,"offset":7,"timestamp":1000,"key":null,"headers":{},"payload":[1,  2]}"#,
        );
        check(
            Record { payload: None, ..Record::default() },
            r#"{"topic":"t","partition":2,"offset":7,"timestamp":1000,"key":null,"headers":{},"payload":null}"#,
        );
        check(
            Record::new(&[0xff, 0xfe][..]),
            r#"{"topic":"t","partition":2,"offset":7,"timestamp":1000,"key":null,"headers":{},"payload":{"base64":"//4="}}"#,
        );
    }
}

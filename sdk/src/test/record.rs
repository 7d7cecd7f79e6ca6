//! Records for tests.

use bytes::Bytes;
use millstream_types::Record;

/// A record for a test; see [`record`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct TestRecord(pub(super) Record, pub(super) Option<String>);

/// An empty record: no key, no headers, an empty payload.
///
/// ```
/// # use millstream_sdk::test;
/// let record = test::record().key("N14228").header("carrier", "UA").payload(r#"{"dep_delay": 2}"#);
/// ```
pub fn record() -> TestRecord {
    TestRecord(Record::new(Bytes::new()), None)
}

impl TestRecord {
    /// Sets the topic that it is of, for a processor with several sources; `test` otherwise.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.1 = Some(topic.into());
        self
    }

    /// Sets the key.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.0 = self.0.with_header(name, value);
        self
    }

    /// Sets the payload.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.0.payload = Some(payload.into());
        self
    }

    /// Sets the payload to `value` as JSON.
    ///
    /// # Panics
    /// If JSON cannot express `value`.
    #[track_caller]
    pub fn json(self, value: impl serde::Serialize) -> Self {
        let json = serde_json::to_vec(&value);
        self.payload(json.unwrap_or_else(|error| panic!("the test's value is not JSON: {error}")))
    }

    /// Removes the payload.
    pub fn tombstone(mut self) -> Self {
        self.0.payload = None;
        self
    }

    /// Sets the offset of the first record of a run; the others follow it without a gap.
    pub fn offset(mut self, offset: u64) -> Self {
        self.0.offset = offset;
        self
    }

    /// Sets the broker's timestamp in ms since the Unix epoch; that of the first record holds for the whole run.
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.0.timestamp = timestamp;
        self
    }
}

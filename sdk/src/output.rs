//! What a module emits in place of a record: only what differs from it.

use bytes::Bytes;
use millstream_types as types;
use millstream_types::{Field, Header, TopicName, limits};
use serde::Serialize;

use crate::Record;

/// One record emitted in place of its source. Whatever is not set, the source's key, headers, payload and place stand.
///
/// ```
/// # use millstream_sdk::Output;
/// let output = Output::json(&[1, 2, 3]).add_header("shape", "list").to_topic("lists.short");
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Output {
    topic: Option<String>,
    key: Field<Option<Bytes>>,
    headers: Headers,
    payload: Field<Option<Bytes>>,
    fault: Option<String>,
}

#[derive(Debug, Clone, Default)]
enum Headers {
    #[default]
    Inherit,
    Add(Vec<Header>),
    Replace(Vec<Header>),
}

/// A value to be written as JSON, where an output is expected: `Some(Json(summary))`.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// What can stand for an output: an [`Output`], bytes or text (the payload), or [`Json`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a module can emit",
    label = "emit `Output`, `Vec<u8>`, `String`, `serde_json::Value` or `Json(value)`",
    note = "wrap a type of yours that is `Serialize` as `Json(value)`"
)]
pub trait IntoOutput {
    /// The output meant.
    fn into_output(self) -> Output;
}

impl Output {
    /// The source record as it is.
    pub fn same() -> Self {
        Self::default()
    }

    /// The source record with this payload.
    pub fn payload(payload: impl Into<Bytes>) -> Self {
        Self { payload: Field::Set(Some(payload.into())), ..Self::default() }
    }

    /// The source record with `value` as JSON for its payload. A value that JSON cannot express rejects the record.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(payload) => Self::payload(payload),
            Err(error) => Self {
                fault: Some(format!("the module's output cannot be written as JSON: {error}")),
                ..Self::default()
            },
        }
    }

    /// The source record without a payload: deletes its key in a compacted topic.
    pub fn tombstone() -> Self {
        Self { payload: Field::Set(None), ..Self::default() }
    }

    /// Sends it to `topic` and not to the reader. A text that is no topic name rejects the record.
    pub fn to_topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Sets the key.
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Field::Set(Some(key.into()));
        self
    }

    /// Removes the key.
    pub fn without_key(mut self) -> Self {
        self.key = Field::Set(None);
        self
    }

    /// Adds a header behind those there: the source's, unless [`without_headers`](Self::without_headers) came first.
    pub fn add_header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let header = Header { name: name.into(), value: value.into() };
        match &mut self.headers {
            Headers::Inherit => self.headers = Headers::Add(vec![header]),
            Headers::Add(headers) | Headers::Replace(headers) => headers.push(header),
        }
        self
    }

    /// Starts with no headers instead of the source's.
    pub fn without_headers(mut self) -> Self {
        self.headers = Headers::Replace(Vec::new());
        self
    }

    pub(crate) fn is_same(&self) -> bool {
        self.topic.is_none()
            && self.key == Field::Inherit
            && matches!(self.headers, Headers::Inherit)
            && self.payload == Field::Inherit
            && self.fault.is_none()
    }

    /// The output as the verdict buffer holds it, or why the record must be rejected.
    pub(crate) fn resolve(self, source: &Record<'_>) -> Result<types::Output, String> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let topic = self.topic.map(TopicName::new).transpose().map_err(|error| error.to_string())?;
        let headers = match self.headers {
            Headers::Inherit => Field::Inherit,
            Headers::Replace(headers) => Field::Set(headers),
            Headers::Add(added) => {
                let mut headers = source.view().headers.to_headers();
                headers.extend(added);
                Field::Set(headers)
            }
        };
        if let Field::Set(headers) = &headers {
            check_headers(headers)?;
        }
        if let Field::Set(Some(key)) = &self.key
            && key.len() > limits::KEY_BYTES_MAX
        {
            let (found, max) = (key.len(), limits::KEY_BYTES_MAX);
            return Err(format!("the module set a key of {found} bytes, above the limit of {max}"));
        }
        Ok(types::Output { topic, key: self.key, headers, payload: self.payload })
    }
}

fn check_headers(headers: &[Header]) -> Result<(), String> {
    if headers.len() > limits::HEADERS_MAX {
        let (found, max) = (headers.len(), limits::HEADERS_MAX);
        return Err(format!("the module set {found} headers, above the limit of {max}"));
    }
    match headers.iter().find(|header| !(1..=limits::HEADER_NAME_BYTES_MAX).contains(&header.name.len())) {
        Some(header) => {
            let (found, max) = (header.name.len(), limits::HEADER_NAME_BYTES_MAX);
            Err(format!("the module set a header whose name has {found} bytes; 1 to {max} are allowed"))
        }
        None => Ok(()),
    }
}

impl IntoOutput for Output {
    fn into_output(self) -> Output {
        self
    }
}

impl<T: Serialize> IntoOutput for Json<T> {
    fn into_output(self) -> Output {
        Output::json(&self.0)
    }
}

impl IntoOutput for serde_json::Value {
    fn into_output(self) -> Output {
        Output::json(&self)
    }
}

impl IntoOutput for Vec<u8> {
    fn into_output(self) -> Output {
        Output::payload(self)
    }
}

impl IntoOutput for Bytes {
    fn into_output(self) -> Output {
        Output::payload(self)
    }
}

impl IntoOutput for &[u8] {
    fn into_output(self) -> Output {
        Output::payload(Bytes::copy_from_slice(self))
    }
}

impl IntoOutput for String {
    fn into_output(self) -> Output {
        Output::payload(self)
    }
}

impl IntoOutput for &str {
    fn into_output(self) -> Output {
        self.as_bytes().into_output()
    }
}

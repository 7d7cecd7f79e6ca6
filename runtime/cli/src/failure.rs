//! How a command ends when it does not end well.

use std::{fmt::Display, io, path::Path, process::ExitCode};

use millstream_client::{CallError, ConnectError, ConsumeError, ErrorCode, PublishError};
use serde_json::{Map, Value, json};

/// Refused or failed.
const FAILED: u8 = 1;
/// Wrong usage; clap uses the same.
const USAGE: u8 = 2;

/// Why a command did not do what it was told, for people and for programs.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    message: String,
    code: Option<ErrorCode>,
    /// What was done nevertheless.
    facts: Map<String, Value>,
}

impl Failure {
    /// Something failed or was refused.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { exit: FAILED, message: message.into(), code: None, facts: Map::new() }
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::new(message) }
    }

    /// A file could not be read or written.
    pub(crate) fn file(what: &str, path: &Path, error: &impl Display) -> Self {
        Self::new(format!("cannot {what} {}: {error}", path.display()))
    }

    /// Standard output is gone; whoever read it has enough, and nothing is wrong.
    pub(crate) fn output(error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { FAILED };
        Self { exit, ..Self::new(format!("cannot write to standard output: {error}")) }
    }

    /// What the broker called it.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.code
    }

    /// The same with one more thing to know.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// The same in other words.
    pub(crate) fn in_words(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// The same with more to read.
    pub(crate) fn and(mut self, text: impl Display) -> Self {
        self.message = format!("{}; {text}", self.message);
        self
    }

    /// Says what is wrong on standard error.
    pub(crate) fn report(self, as_json: bool) -> ExitCode {
        if self.exit == 0 {
            return ExitCode::SUCCESS;
        }
        if as_json {
            let mut error = json!({ "message": self.message });
            if let (Some(code), Some(fields)) = (self.code, error.as_object_mut()) {
                fields.insert("code".into(), serde_json::to_value(code).unwrap_or_default());
            }
            let mut all = self.facts;
            all.insert("error".into(), error);
            eprintln!("{}", Value::Object(all));
        } else {
            eprintln!("error: {}", self.message);
        }
        ExitCode::from(self.exit)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        CallError::from(error).into()
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self { code: error.code(), ..Self::new(error.to_string()) }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let code = match &error {
            PublishError::Open(error) => error.code(),
            PublishError::Refused(error) => Some(error.code),
            _ => None,
        };
        Self { code, ..Self::new(error.to_string()) }
    }
}

impl From<ConsumeError> for Failure {
    fn from(error: ConsumeError) -> Self {
        let code = match &error {
            ConsumeError::Open(error) => error.code(),
            ConsumeError::Ended(error) => Some(error.code),
            _ => None,
        };
        Self { code, ..Self::new(error.to_string()) }
    }
}

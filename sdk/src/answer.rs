//! From what a user's function returns to the verdict of its record.

use std::borrow::Cow;
use std::fmt::Display;

use millstream_types::{TopicName, VerdictWriter};

use crate::{IntoOutput, Output, Record};

/// What a `#[filter]` function may return.
#[diagnostic::on_unimplemented(
    message = "a `#[filter]` function returns `bool` or `Result<bool, E>`, not `{Self}`",
    label = "return `true` to keep the record, `false` to drop it",
    note = "the `E` of a `Result` must implement `Display`: its text becomes the reason of the rejection"
)]
pub trait FilterAnswer {
    /// Writes the verdict.
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter);
}

/// What a `#[map]` function may return.
#[diagnostic::on_unimplemented(
    message = "a `#[map]` function returns an output, an `Option` of one, or a `Result` of either, not `{Self}`",
    label = "an output is `Output`, `Vec<u8>`, `String`, `serde_json::Value` or `Json(value)`",
    note = "the `E` of a `Result` must implement `Display`: its text becomes the reason of the rejection"
)]
pub trait MapAnswer {
    /// Writes the verdict.
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter);
}

/// What a `#[flat_map]` function may return.
#[diagnostic::on_unimplemented(
    message = "a `#[flat_map]` function returns a `Vec` of outputs or a `Result` of one, not `{Self}`",
    label = "an output is `Output`, `Vec<u8>`, `String`, `serde_json::Value` or `Json(value)`",
    note = "the `E` of a `Result` must implement `Display`: its text becomes the reason of the rejection"
)]
pub trait FlatMapAnswer {
    /// Writes the verdict.
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter);
}

/// What a `#[route]` function may return.
#[diagnostic::on_unimplemented(
    message = "a `#[route]` function returns a topic name, an `Option` or `Vec` of them, or a `Result` of those, not `{Self}`",
    label = "a topic name is `String`, `&str`, `Cow<str>` or `TopicName`; `None` drops the record",
    note = "the `E` of a `Result` must implement `Display`: its text becomes the reason of the rejection"
)]
pub trait RouteAnswer {
    /// Writes the verdict.
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter);
}

/// A text meant as a topic name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a topic name",
    label = "return `String`, `&str`, `Cow<str>` or `TopicName`"
)]
pub trait Destination {
    /// The name as text.
    fn into_topic(self) -> String;
}

impl FilterAnswer for bool {
    #[inline]
    fn write(self, _: &Record<'_>, verdicts: &mut VerdictWriter) {
        if self { verdicts.keep() } else { verdicts.drop() }
    }
}

impl<T: IntoOutput> MapAnswer for T {
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter) {
        let output = self.into_output();
        if output.is_same() {
            return verdicts.keep();
        }
        write_outputs([output], source, verdicts);
    }
}

impl<T: IntoOutput> MapAnswer for Option<T> {
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter) {
        match self {
            Some(output) => MapAnswer::write(output, source, verdicts),
            None => verdicts.drop(),
        }
    }
}

impl<T: IntoOutput> FlatMapAnswer for Vec<T> {
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter) {
        let outputs: Vec<Output> = self.into_iter().map(IntoOutput::into_output).collect();
        match outputs.as_slice() {
            [] => verdicts.drop(),
            // Cheaper for the broker than an output that inherits everything.
            [only] if only.is_same() => verdicts.keep(),
            _ => write_outputs(outputs, source, verdicts),
        }
    }
}

impl<T: Destination> RouteAnswer for T {
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter) {
        write_outputs([Output::same().to_topic(self.into_topic())], source, verdicts);
    }
}

impl<T: Destination> RouteAnswer for Option<T> {
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter) {
        match self {
            Some(topic) => RouteAnswer::write(topic, source, verdicts),
            None => verdicts.drop(),
        }
    }
}

impl<T: Destination> RouteAnswer for Vec<T> {
    fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter) {
        if self.is_empty() {
            return verdicts.drop();
        }
        let outputs = self.into_iter().map(|topic| Output::same().to_topic(topic.into_topic()));
        write_outputs(outputs, source, verdicts);
    }
}

macro_rules! err_rejects {
    ($($answer:ident),*) => {$(
        impl<T: $answer, E: Display> $answer for Result<T, E> {
            #[inline]
            fn write(self, source: &Record<'_>, verdicts: &mut VerdictWriter) {
                match self {
                    Ok(answer) => $answer::write(answer, source, verdicts),
                    Err(error) => verdicts.reject(&error.to_string()),
                }
            }
        }
    )*};
}

err_rejects!(FilterAnswer, MapAnswer, FlatMapAnswer, RouteAnswer);

impl Destination for String {
    fn into_topic(self) -> String {
        self
    }
}

impl Destination for &str {
    fn into_topic(self) -> String {
        self.to_owned()
    }
}

impl Destination for &String {
    fn into_topic(self) -> String {
        self.clone()
    }
}

impl Destination for Cow<'_, str> {
    fn into_topic(self) -> String {
        self.into_owned()
    }
}

impl Destination for TopicName {
    fn into_topic(self) -> String {
        self.into()
    }
}

impl Destination for &TopicName {
    fn into_topic(self) -> String {
        self.as_str().to_owned()
    }
}

fn write_outputs(
    outputs: impl IntoIterator<Item = Output>,
    source: &Record<'_>,
    verdicts: &mut VerdictWriter,
) {
    match outputs.into_iter().map(|output| output.resolve(source)).collect::<Result<Vec<_>, _>>() {
        Ok(outputs) => verdicts.emit(&outputs),
        Err(fault) => verdicts.reject(&fault),
    }
}

//! From what a user's function returns to the verdict of its record.

use std::borrow::Cow;
use std::fmt::Display;

use millstream_types::{TopicName, VerdictWriter};

use crate::{IntoOutput, Output, Record, State};

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

/// What a `#[processor]` function may return.
#[diagnostic::on_unimplemented(
    message = "a `#[processor]` function returns nothing, an output, an `Option` or a `Vec` of outputs, or a `Result` of those, not `{Self}`",
    label = "an output is `Output`, `Vec<u8>`, `String`, `serde_json::Value` or `Json(value)`",
    note = "the `E` of a `Result` must implement `Display`: its text becomes the reason of the rejection"
)]
pub trait ProcessorAnswer {
    /// Writes the verdict, and what was written to the state unless the record is rejected.
    fn write(self, source: &Record<'_>, state: State, verdicts: &mut VerdictWriter);
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

impl ProcessorAnswer for () {
    fn write(self, _: &Record<'_>, state: State, verdicts: &mut VerdictWriter) {
        state.keep();
        verdicts.drop();
    }
}

impl<T: IntoOutput> ProcessorAnswer for T {
    fn write(self, source: &Record<'_>, state: State, verdicts: &mut VerdictWriter) {
        process(vec![self.into_output()], source, state, verdicts);
    }
}

impl<T: IntoOutput> ProcessorAnswer for Option<T> {
    fn write(self, source: &Record<'_>, state: State, verdicts: &mut VerdictWriter) {
        process(self.into_iter().map(IntoOutput::into_output).collect(), source, state, verdicts);
    }
}

impl<T: IntoOutput> ProcessorAnswer for Vec<T> {
    fn write(self, source: &Record<'_>, state: State, verdicts: &mut VerdictWriter) {
        process(self.into_iter().map(IntoOutput::into_output).collect(), source, state, verdicts);
    }
}

impl<T: ProcessorAnswer, E: Display> ProcessorAnswer for Result<T, E> {
    fn write(self, source: &Record<'_>, state: State, verdicts: &mut VerdictWriter) {
        match self {
            Ok(answer) => answer.write(source, state, verdicts),
            // What was written goes with `state`.
            Err(error) => verdicts.reject(&error.to_string()),
        }
    }
}

fn process(outputs: Vec<Output>, source: &Record<'_>, state: State, verdicts: &mut VerdictWriter) {
    let resolved: Result<Vec<_>, _> = match outputs.as_slice() {
        [only] if only.is_same() => {
            state.keep();
            return verdicts.keep();
        }
        _ => outputs.into_iter().map(|output| output.resolve(source)).collect(),
    };
    match resolved {
        Ok(outputs) => {
            state.keep();
            if outputs.is_empty() { verdicts.drop() } else { verdicts.emit(&outputs) }
        }
        Err(fault) => verdicts.reject(&fault),
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

//! From arguments to a report.

use std::io::Write;

use crate::{
    Args, Command, Error, Format,
    benches::{self, Bench},
    child, progress,
};

/// Measures what `args` ask for and writes the report to `out`; progress goes to standard error if that is a terminal.
/// When it is cancelled, child processes end and their data is removed, and nothing is written.
///
/// # Errors
/// [`Error`]; nothing is written then.
pub async fn run(args: Args, format: Format, out: &mut impl Write) -> Result<(), Error> {
    let (name, settings) = match args.command {
        Command::Child { command } => return child::serve(command).await,
        Command::All(settings) => (Bench::All, settings),
        Command::Publish(settings) => (Bench::Publish, settings),
        Command::Consume(settings) => (Bench::Consume, settings),
        Command::Filter(settings) => (Bench::Filter, settings),
        Command::Work(settings) => (Bench::Work, settings),
        Command::Latency(settings) => (Bench::Latency, settings),
        Command::Idle(settings) => (Bench::Idle, settings),
        Command::Engine(settings) => (Bench::Engine, settings),
        Command::Fairness(settings) => (Bench::Fairness, settings),
        Command::Subscriptions(settings) => (Bench::Subscriptions, settings),
        Command::Limits(settings) => (Bench::Limits, settings),
    };
    settings.check()?;
    let measured = tokio::select! {
        measured = tokio::spawn(async move { benches::measure(name, &settings).await }) => measured?,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    };
    progress::clear();
    let report = measured?;
    match format {
        Format::Table => writeln!(out, "{report}"),
        Format::Json => writeln!(out, "{}", report.to_json()),
    }
    .map_err(Error::io("write the report"))
}

//! From arguments to a report.

use std::io::Write;

use crate::{Args, Command, Error, Format, benches, child, progress};

/// Measures what `args` ask for and writes the report to `out`; progress goes to standard error if that is a terminal.
/// When it is cancelled, child processes end and their data is removed, and nothing is written.
///
/// # Errors
/// [`Error`]; nothing is written then.
pub async fn run(args: Args, format: Format, out: &mut impl Write) -> Result<(), Error> {
    let measured = match args.command {
        Command::Child { command } => return child::serve(command).await,
        Command::Limits(settings) => benches::limits(&settings).await,
    };
    progress::clear();
    let report = measured?;
    match format {
        Format::Table => writeln!(out, "{report}"),
        Format::Json => writeln!(out, "{}", report.to_json()),
    }
    .map_err(Error::io("write the report"))
}

//! `make demo`: a broker on an empty directory, a month of flights, four modules on four subscriptions, a processor, a SIGKILL; and
//! everything compared with what plain CSV reading gives.

mod after;
mod broker;
mod commands;
mod error;
mod flights;
mod hours;
mod live;
mod reading;
mod report;
mod run;
mod subscriptions;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;

use crate::{error::Error, report::Report, run::Setting};

/// Publishes the flights of January 2013, reads them through four modules, kills the broker, and compares everything
/// with what plain CSV reading gives. Exit code 0: all of it holds; 1: the output says what does not; 2: wrong usage.
#[derive(Debug, Parser)]
#[command(name = "flights-demo", version)]
struct Args {
    /// The binary `millstream` [default: the one beside this program]
    millstream: Option<PathBuf>,
    /// Where the demo makes a folder for all that it writes, and removes it at the end [default: the folder for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Leave that folder there, and say where it is
    #[arg(long)]
    keep: bool,
    /// Print one JSON object at the end; what happens is told on standard error
    #[arg(long)]
    json: bool,
    /// Print the flights as CSV, and do nothing else
    #[arg(long)]
    csv: bool,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything holds.
fn run(args: Args) -> Result<bool, Error> {
    if args.csv {
        let flights = flights::Flights::read()?;
        io::stdout().write_all(&flights.csv).map_err(Error::io("write the flights"))?;
        return Ok(true);
    }
    let mut report = Report::new(args.json);
    run::run(&Setting::new(args.millstream, args.work, args.keep)?, &mut report)?;
    report.finish()
}

//! `make orders`: a shop's orders through a broker: four services with several workers each, a bank that fails, workers
//! that die; and in the end books that must balance.

mod article;
mod audit;
mod bank;
mod broker;
mod desk;
mod error;
mod event;
mod letters;
mod log;
mod logistics;
mod order;
mod outbox;
mod payment;
mod report;
mod run;
mod service;
mod shop;
mod status;
mod stock;
mod tally;
mod topics;
mod worker;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{error::Error, report::Report, run::Setting};

/// Sends orders through a broker and four services, kills workers, has a bank fail, and checks the books. Exit code 0:
/// every check holds; 1: the output says which do not; 2: wrong usage.
#[derive(Debug, Parser)]
#[command(name = "orders-demo", version)]
struct Args {
    /// The binary `millstream` [default: the one beside this program]
    millstream: Option<PathBuf>,
    /// Orders to be placed
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    orders: u32,
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
    let mut report = Report::new(args.json);
    run::run(&Setting::new(args.millstream, args.work, args.keep, args.orders)?, &mut report)?;
    report.finish()
}

//! The binary `millstream`: parses the command line, runs one command, says how it ended.

mod bindings;
mod broker;
mod cli;
mod commands;
mod compaction;
mod delivery;
mod failure;
mod faults;
mod input;
mod interrupt;
mod oci;
mod output;
mod progress;
mod rate;
mod render;
mod retention;
mod start;

use std::process::ExitCode;

/// Half the cost of an append is memory: the system's allocator is far slower at it (`shared/facts.md`, Store).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::read();
    let json = cli.common.json;
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

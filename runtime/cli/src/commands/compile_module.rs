//! `millstream compile-module`, which nobody types: the process in which a broker has a module compiled.

use std::io;

use clap::Args;
use millstream_engine::{Compiler, compiler};

use crate::failure::Failure;

/// Compiles the module on standard input, as the broker that starts it says.
#[derive(Debug, Args)]
pub(crate) struct CompileModule {
    /// Limits and target, of the same build.
    order: String,
}

impl CompileModule {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let done = compiler::run(&self.order, io::stdin().lock(), io::stdout().lock());
        done.map_err(|error| {
            // The broker reads the words alone.
            eprintln!("{error}");
            std::process::exit(error.exit_code().into())
        })
    }
}

/// What a broker starts to have modules compiled.
pub(crate) fn compiler() -> io::Result<Compiler> {
    Compiler::this_program(vec!["compile-module".to_owned()])
}

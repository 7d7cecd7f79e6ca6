//! `millstream module`: new, build, test and bench on this machine; push, list and describe at the broker.

mod bench;
mod build;
mod fields;
mod new;
mod registry;
mod test;
mod trial;

use clap::Subcommand;

use crate::{
    cli::{Common, wait},
    failure::Failure,
};

/// See the module's head.
#[derive(Debug, Subcommand)]
pub(crate) enum Module {
    /// Make a crate with a module that works, its tests and samples
    New(new::New),
    /// Compile a crate written with millstream-sdk to a module
    Build(build::Build),
    /// Store a module in the broker's registry
    Push(registry::Push),
    /// List the modules of the registry, stock modules included
    List,
    /// Show one module and what it says of itself
    Describe {
        /// std/NAME, NAME@VERSION, NAME (newest) or sha256:HEX
        reference: String,
    },
    /// Run a module over a file, with the engine and limits of the broker; no broker is needed
    Test(test::Test),
    /// Measure a module over a file, with the engine and limits of the broker; no broker is needed
    Bench(bench::Bench),
}

impl Module {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(common),
            Self::Build(build) => build.run(common),
            Self::Push(push) => wait(push.run(common)),
            Self::List => wait(registry::list(common)),
            Self::Describe { reference } => wait(registry::describe(common, reference)),
            Self::Test(test) => test.run(common),
            Self::Bench(bench) => bench.run(common),
        }
    }
}

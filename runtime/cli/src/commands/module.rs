//! `millstream module`: new, build, test, bench and sign on this machine; push, bind, follow at the broker.

mod bench;
pub(crate) mod bind;
mod build;
mod export;
mod fields;
mod granted;
mod logs;
mod new;
mod registry;
mod replay;
mod signing;
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
    /// Compile a crate to a module, or make one of what another language's compiler made
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
    /// Have other modules judge the records of a subscription that is in use, without losing any
    Bind(bind::Bind),
    /// Run modules beside those of a subscription, and see what they would do otherwise
    Shadow(bind::Shadow),
    /// Have the modules that a subscription had before take over again
    Rollback(bind::Rollback),
    /// Show what modules write, and records that they reject or fail on
    Logs(logs::Logs),
    /// Fetch a module as a file, or as an OCI artifact
    Export(export::Export),
    /// Delete a module that no subscription binds
    Delete(registry::Delete),
    /// Make a pair of keys to sign modules with
    Keygen(signing::Keygen),
    /// Sign a module
    Sign(signing::Sign),
    /// Check who signed a module
    Verify(signing::Verify),
    /// Run a module over a file, with the engine and limits of the broker; no broker is needed
    Test(test::Test),
    /// Run modules over records that a topic holds, with nothing coming of it, and compare versions
    Replay(replay::Replay),
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
            Self::Bind(bind) => wait(bind.run(common)),
            Self::Shadow(shadow) => wait(shadow.run(common)),
            Self::Rollback(rollback) => wait(rollback.run(common)),
            Self::Logs(logs) => wait(logs.run(common)),
            Self::Export(export) => wait(export.run(common)),
            Self::Delete(delete) => wait(delete.run(common)),
            Self::Keygen(keygen) => keygen.run(common),
            Self::Sign(sign) => sign.run(common),
            Self::Verify(verify) => verify.run(common),
            Self::Test(test) => test.run(common),
            Self::Replay(replay) => wait(replay.run(common)),
            Self::Bench(bench) => bench.run(common),
        }
    }
}

//! `--memory-bytes`, `--module-bytes` and `--isolation`: what a module is granted where it runs on this machine, as an operator grants it in
//! the broker's configuration.

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use millstream_engine::{Isolation, Limits};

/// See the module's head.
#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Limits, as in the broker's configuration")]
pub(crate) struct Granted {
    /// Memory of one instance, as `modules.memory_bytes`
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    memory_bytes: ByteSize,
    /// Size of a module, as `modules.module_bytes`
    #[arg(long, value_name = "SIZE", default_value = "10MiB")]
    module_bytes: ByteSize,
    /// What instances leave behind, as `modules.isolation`
    #[arg(long, value_enum, default_value = "pipeline")]
    isolation: Isolated,
}

/// As `modules.isolation` in the broker's configuration.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Isolated {
    /// Their memory, for the next call
    Pipeline,
    /// Nothing: each call has an instance of its own
    Batch,
}

impl Granted {
    /// The broker's limits, with these.
    pub(crate) fn limits(&self) -> Limits {
        let bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        Limits {
            memory_bytes: bytes(self.memory_bytes),
            module_bytes: bytes(self.module_bytes),
            isolation: match self.isolation {
                Isolated::Pipeline => Isolation::Pipeline,
                Isolated::Batch => Isolation::Batch,
            },
            ..Limits::default()
        }
    }
}

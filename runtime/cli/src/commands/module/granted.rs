//! `--memory-bytes` and `--module-bytes`: what a module is granted where it runs on this machine, as an operator grants it in
//! the broker's configuration.

use bytesize::ByteSize;
use clap::Args;
use millstream_engine::Limits;

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
}

impl Granted {
    /// The broker's limits, with these.
    pub(crate) fn limits(&self) -> Limits {
        let bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        Limits {
            memory_bytes: bytes(self.memory_bytes),
            module_bytes: bytes(self.module_bytes),
            ..Limits::default()
        }
    }
}

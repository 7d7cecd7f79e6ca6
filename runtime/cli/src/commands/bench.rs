//! `millstream bench`: this machine's limits, and Millstream beside them.

use std::io;

use clap::Args;
use millstream_bench::Format;

use crate::{cli::Common, failure::Failure};

/// Measures this machine's limits and Millstream beside them, in one run.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    args: millstream_bench::Args,
}

impl Bench {
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let format = if common.json { Format::Json } else { Format::Table };
        let measured = millstream_bench::run(self.args, format, &mut io::stdout()).await;
        measured.map_err(|error| Failure::new(error.to_string()))
    }
}

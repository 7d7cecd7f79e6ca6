//! `millstream bench` on its own, for work on the bench itself: `cargo run --release --example bench -- bench limits`.

use clap::Parser;
use millstream_bench::{Args, Error, Format};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Cli {
    /// Measures.
    Bench {
        #[command(flatten)]
        args: Args,
        /// One JSON object instead of tables.
        #[arg(long, global = true)]
        json: bool,
    },
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let Cli::Bench { args, json } = Cli::parse();
    let format = if json { Format::Json } else { Format::Table };
    millstream_bench::run(args, format, &mut std::io::stdout()).await
}

//! `millstream serve`: the broker.

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf};

use clap::Args;
use millstream_server::{Server, ServerConfig, StockModule};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{cli::Common, commands::compile_module, failure::Failure, output};

const CLOSE_REASON: &str = "the broker is shutting down";

/// Runs the broker until it is told to stop (SIGINT or SIGTERM).
#[derive(Debug, Args)]
#[command(
    after_help = "Prints the URL for clients once it accepts connections, and writes it to DIR/client.url.

The certificate is made on first start and kept in DIR/tls; clients trust it by the pin in the URL, or by
`?ca=DIR/tls/cert.pem`.

With --metrics, `GET /metrics` on that address answers in Prometheus' text format: how the broker, topics and
subscriptions stand, and what each module uses of its budgets. There is no authentication there either.

The log goes to standard error; RUST_LOG sets what it holds, as in RUST_LOG=debug.

Settings of the TOML file, all optional:
  listen = \"127.0.0.1:7433\"
  metrics_listen = \"127.0.0.1:9464\" # no metrics endpoint unless set
  connections_max = 10000
  streams_max = 100            # publishers and consumers of one connection
  sync_interval_ms = 50        # of topics with durability `interval`
  retention_interval_ms = 5000 # how often it is looked what retention lets go
  topics_max = 10000
  subscriptions_max = 20000
  [publish]                    # beyond these, publishers are told to slow down
  backlog_bytes = 67108864     # of everybody on their way into the store
  connection_bytes = 16777216  # of those, of one connection
  topic_bytes = 33554432       # of those, to one topic
  connection_bytes_per_s = 100000000  # no limit unless set
  connection_records_per_s = 100000   # no limit unless set
  [modules]
  memory_bytes = 16777216      # of one instance
  module_bytes = 10485760      # size of a module
  call_ms = 50                 # CPU time of one call
  compile_ms = 30000           # CPU time of compiling one
  capabilities = [\"log\", \"metrics\", \"source\", \"state\"] # what modules may use
  isolation = \"pipeline\"       # or \"batch\": an instance of its own for each call
  trusted_keys = [\"team.pem\"] # public keys, as `millstream module keygen` makes them
  require_signature = true     # only modules that one of those signed, and stock modules"
)]
pub(crate) struct Serve {
    /// Folder for everything the broker keeps; made if missing
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where clients connect; port 0 takes a free one [default: 127.0.0.1:7433]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Serve metrics over HTTP on this TCP address, as 127.0.0.1:9464; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// TOML file with further settings; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start although acknowledged records are lost, saying which
    #[arg(long)]
    accept_data_loss: bool,
}

impl Serve {
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        start_log();
        let mut config = ServerConfig::new(self.data);
        if let Some(path) = &self.config {
            config.read_file(path).map_err(|error| Failure::usage(error.to_string()))?;
        }
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        config.metrics_listen = self.metrics.or(config.metrics_listen);
        config.accept_data_loss = self.accept_data_loss;
        let compiler = compile_module::compiler();
        let compiler =
            compiler.map_err(|error| Failure::new(format!("cannot find this program: {error}")))?;
        config.module_compiler = Some(compiler);
        let stock = millstream_filters::stock().iter();
        config.stock = stock
            .map(|stock| StockModule { name: stock.name, version: stock.version, wasm: stock.wasm })
            .collect();

        let caught =
            |kind| signal(kind).map_err(|error| Failure::new(format!("cannot catch signals: {error}")));
        let (mut interrupt, mut terminate) =
            (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?);
        let server = Server::start(config).await.map_err(|error| Failure::new(error.to_string()))?;
        give_back_memory();
        let url = server.url();
        let metrics = server.metrics_url();
        if let Some(url) = &metrics {
            tracing::info!(url, "metrics are served");
        }
        let ready = match common.json {
            true => json!({ "url": url, "metrics_url": metrics }).to_string(),
            false => url.to_owned(),
        };
        output::line(&ready)?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            cause = server.failed() => {
                server.shutdown(millstream_wire::CloseCode::StoreUnsure, "the store is in doubt").await;
                return Err(Failure::new(format!(
                    "the broker stopped, since its store is in doubt: {cause}. Nothing acknowledged is lost; \
                     see to the disk, then start it again to recover"
                )));
            }
        }
        tracing::info!("{CLOSE_REASON}");
        server.shutdown(millstream_wire::CloseCode::ShuttingDown, CLOSE_REASON).await;
        Ok(())
    }
}

/// Starting takes more memory than serving; what is free again goes back to the system now, not when it is needed.
#[expect(unsafe_code, reason = "the allocator has no safe name for it")]
fn give_back_memory() {
    // SAFETY: it may be called at any time from any thread, and touches only what is free.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    // A file or the journal wants no colours.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

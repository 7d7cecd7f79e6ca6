//! The side of a child process: serves a limit until its standard input closes.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use quinn::VarInt;

use super::spawn::Greeting;
use crate::{
    Error,
    limits::{quic_server, skeleton_server},
    quic,
};

/// As the threads of the engine for long calls.
const BUSY_NICE: i32 = 10;

/// What a child process serves.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum ChildCommand {
    /// Raw QUIC: sink, source and echo.
    Quic,
    /// Nothing: it keeps one core busy, as an engine's threads for long calls would.
    Busy,
    /// The skeleton.
    Skeleton {
        /// Where its log is kept.
        #[arg(long)]
        data: PathBuf,
        /// How often frames that nobody waits to see synced are synced.
        #[arg(long)]
        sync_interval_ms: u64,
    },
}

impl ChildCommand {
    /// As it is typed.
    pub(crate) fn to_args(&self) -> Vec<String> {
        match self {
            Self::Quic => vec!["quic".to_owned()],
            Self::Busy => vec!["busy".to_owned()],
            Self::Skeleton { data, sync_interval_ms } => vec![
                "skeleton".to_owned(),
                format!("--data={}", data.display()),
                format!("--sync-interval-ms={sync_interval_ms}"),
            ],
        }
    }
}

/// Serves until standard input closes.
pub(crate) async fn serve(command: ChildCommand) -> Result<(), Error> {
    let (endpoint, certificate) = quic::listen()?;
    let address = endpoint.local_addr().map_err(Error::io("learn the port of an endpoint"))?;
    let serving = async {
        match command {
            ChildCommand::Quic => quic_server::serve(&endpoint).await,
            ChildCommand::Busy => {
                std::thread::spawn(busy);
                std::future::pending().await
            }
            ChildCommand::Skeleton { data, sync_interval_ms } => {
                skeleton_server::serve(&endpoint, &data, Duration::from_millis(sync_interval_ms)).await
            }
        }
    };
    greet(&Greeting { address, certificate: hex::encode(&certificate) })?;
    let result = tokio::select! {
        result = serving => result,
        () = stdin_closed() => Ok(()),
    };
    // Clients learn at once that it is over, instead of after their idle time.
    endpoint.close(VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;
    result
}

/// Uses all of a core that nobody else needs. Ends with the process.
fn busy() {
    // Where it is refused, the thread is one as all others.
    let _ = rustix::process::setpriority_process(None, BUSY_NICE);
    loop {
        std::hint::spin_loop();
    }
}

fn greet(greeting: &Greeting) -> Result<(), Error> {
    let line = serde_json::to_string(greeting).expect("an address and a string are JSON");
    writeln!(std::io::stdout().lock(), "{line}").map_err(Error::io("write to standard output"))
}

async fn stdin_closed() {
    let (closed, wait) = tokio::sync::oneshot::channel::<()>();
    // A thread of its own, which ends with the process: the runtime would wait for a blocking task.
    std::thread::spawn(move || {
        let mut byte = [0];
        while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
        drop(closed);
    });
    let _ = wait.await;
}

//! Starting a server of a limit and learning where it listens.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::Error;

/// What a server says on its first line of output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) address: SocketAddr,
    /// DER, in hexadecimal.
    pub(super) certificate: String,
}

/// A running server of a limit.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: CertificateDer<'static>,
    process: Process,
}

impl Child {
    /// Starts `bench child ARGS...` of this binary.
    pub(crate) async fn start(args: Vec<String>) -> Result<Self, Error> {
        tokio::task::spawn_blocking(move || start(args)).await?
    }

    /// CPU time that the server has used.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        self.process.cpu_seconds()
    }
}

fn start(args: Vec<String>) -> Result<Child, Error> {
    let mut command = this_binary()?;
    command.args(["bench", "child"]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let mut line = String::new();
    if let Some(stdout) = process.take_stdout() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(Error::io("read the output of a child process"))?;
    }
    let greeting: Greeting = serde_json::from_str(&line)
        .map_err(|error| process.failed(format!("said {line:?} instead of where it listens: {error}")))?;
    let certificate = hex::decode(&greeting.certificate)
        .map_err(|error| process.failed(format!("gave a certificate that is not hexadecimal: {error}")))?;
    Ok(Child { address: greeting.address, certificate: certificate.into(), process })
}

pub(crate) fn this_binary() -> Result<Command, Error> {
    std::env::current_exe().map(Command::new).map_err(Error::io("find the path of this program"))
}

//! Starting a server of a limit and learning where it listens.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

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
    _process: Process,
}

impl Child {
    /// Starts `bench child ARGS...` of this binary.
    pub(crate) async fn start(args: Vec<String>) -> Result<Self, Error> {
        tokio::task::spawn_blocking(move || start(args)).await?
    }
}

fn start(args: Vec<String>) -> Result<Child, Error> {
    let mut command = this_binary()?;
    command.args(["bench", "child"]).args(args);
    let (process, line) = Process::start(&mut command)?;
    let greeting: Greeting = serde_json::from_str(&line)
        .map_err(|error| process.failed(format!("said {line:?} instead of where it listens: {error}")))?;
    let certificate = hex::decode(&greeting.certificate)
        .map_err(|error| process.failed(format!("gave a certificate that is not hexadecimal: {error}")))?;
    Ok(Child { address: greeting.address, certificate: certificate.into(), _process: process })
}

fn this_binary() -> Result<Command, Error> {
    std::env::current_exe().map(Command::new).map_err(Error::io("find the path of this program"))
}

/// A child process; killed when this is dropped. It also ends by itself when its standard input closes, should this
/// process be killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: std::process::Child,
    command: String,
}

impl Process {
    /// Starts the process and waits for its first line of output.
    fn start(command: &mut Command) -> Result<(Self, String), Error> {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::io(format!("start `{shown}`")))?;
        let stdout = child.stdout.take();
        let process = Self { child, command: shown };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(Error::io("read the output of a child process"))?;
        }
        if line.is_empty() {
            return Err(process.failed("ended before it was ready".to_owned()));
        }
        Ok((process, line))
    }

    fn failed(&self, what: String) -> Error {
        Error::Child { command: self.command.clone(), what }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The broker as a child process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use millstream_client::Url;

use crate::{Error, report::Report};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running broker. Dropping it kills it, so that an error leaves no process behind.
pub(crate) struct Broker {
    child: Child,
    log: PathBuf,
}

impl Broker {
    /// Starts `millstream serve` on an empty folder in `work`, and waits until it says where clients connect.
    pub(crate) fn start(binary: &Path, work: &Path, report: &Report) -> Result<(Self, Url), Error> {
        let (data, log) = (work.join("data"), work.join("broker.log"));
        report.say(&format!("$ millstream serve --data {} --listen 127.0.0.1:0 &", data.display()));
        let log_file = fs::File::create(&log).map_err(Error::io(format!("write {}", log.display())))?;
        let child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .map_err(Error::io(format!("start {}", binary.display())))?;
        let mut broker = Self { child, log };
        let url = broker.wait(&data.join("client.url"))?;
        report.say(&format!("  {url}"));
        Ok((broker, url))
    }

    fn wait(&mut self, url_file: &Path) -> Result<Url, Error> {
        let started = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(url_file) {
                return text.trim().parse().map_err(|error| self.failed(format!("wrote a bad URL: {error}")));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(format!("ended at its start ({status})")));
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(self.failed(format!("was not ready after {} s", START_TIMEOUT.as_secs())));
            }
            sleep(Duration::from_millis(10));
        }
    }

    fn failed(&self, what: String) -> Error {
        Error::Broker { what, log: self.log.clone() }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The broker as a child process: started, waited for, killed.

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
    pub(crate) url: Url,
    pub(crate) started_in: Duration,
}

impl Broker {
    /// Starts `millstream serve` on `data` and waits for `client.url`.
    pub(crate) fn start(binary: &Path, work: &Path, report: &Report) -> Result<Self, Error> {
        let (data, log) = (work.join("data"), work.join("broker.log"));
        let url_file = data.join("client.url");
        // One of an earlier run would be taken for the sign that the broker is ready.
        match fs::remove_file(&url_file) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", url_file.display()))(cause));
            }
            _ => {}
        }
        report.command(&format!("millstream serve --data {} --listen 127.0.0.1:0 &", data.display()));
        let opened = fs::OpenOptions::new().create(true).append(true).open(&log);
        let log_file = opened.map_err(Error::io(format!("write {}", log.display())))?;
        let started = Instant::now();
        let child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .map_err(Error::io(format!("start {}", binary.display())))?;
        let mut starting = Starting { child: Some(child), log };
        let url = starting.wait(&url_file, started)?;
        let child = starting.child.take().expect("it was there a moment ago");
        report.say(&format!("  {url}"));
        Ok(Self { child, url, started_in: started.elapsed() })
    }

    /// SIGKILL: no signal handler runs, nothing is flushed.
    pub(crate) fn kill(mut self, report: &Report) -> Result<(), Error> {
        report.command(&format!("kill -KILL {}", self.child.id()));
        self.child.kill().map_err(Error::io("kill the broker"))?;
        self.child.wait().map_err(Error::io("wait for the end of the broker"))?;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Not yet ready.
struct Starting {
    child: Option<Child>,
    log: PathBuf,
}

impl Starting {
    fn wait(&mut self, url_file: &Path, started: Instant) -> Result<Url, Error> {
        let failed = |what: String| Error::Broker { what, log: self.log.clone() };
        loop {
            if let Ok(text) = fs::read_to_string(url_file) {
                return text.trim().parse().map_err(|error| failed(format!("wrote a bad URL: {error}")));
            }
            let ended = self.child.as_mut().map(Child::try_wait);
            if let Some(Ok(Some(status))) = ended {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(failed(format!("ended at its start ({status}): {}", log.trim())));
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(failed(format!("was not ready after {} s", START_TIMEOUT.as_secs())));
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    // Both fail only when it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

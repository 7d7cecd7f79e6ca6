//! The broker that is measured: one started for the purpose in an empty directory, or one that runs already.

use std::{
    fs::File,
    io::ErrorKind,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use millstream_client::{Client, ConnectOptions, Durability, TopicConfig, TopicName, Url};
use tempfile::TempDir;

use crate::{
    Error, Settings,
    child::{Process, this_binary},
    scratch::scratch,
};

/// A broker to measure.
#[derive(Debug)]
pub(crate) struct Broker {
    url: Url,
    own: Option<Own>,
}

/// A broker of ours.
#[derive(Debug)]
struct Own {
    // Dropped before the directory that it writes to.
    process: Process,
    dir: TempDir,
}

/// Longest wait for a broker to be ready.
const START_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Broker {
    /// The broker that `settings` name, or a new one that has just written its URL.
    pub(crate) async fn start(settings: &Settings) -> Result<Self, Error> {
        if let Some(url) = &settings.broker {
            return Ok(Self { url: url.clone(), own: None });
        }
        Self::serve(scratch(settings)?).await
    }

    /// Ends it and starts it again on the same directory; one that is not ours is left alone.
    pub(crate) async fn restarted(self) -> Result<Self, Error> {
        match self.own {
            Some(Own { process, dir }) => {
                drop(process);
                Self::serve(dir).await
            }
            None => Ok(self),
        }
    }

    async fn serve(dir: TempDir) -> Result<Self, Error> {
        let (data, log) = (dir.path().join("data"), dir.path().join("log"));
        let url_file = data.join("client.url");
        match std::fs::remove_file(&url_file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove the broker's old URL")(error));
            }
            _ => {}
        }
        let output = File::create(&log).map_err(Error::io("create a log for the broker"))?;
        let mut command = this_binary()?;
        command.arg("serve").arg("--data").arg(&data).args(["--listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut process = Process::start(&mut command)?;
        let url = url_of(&url_file, &log, &mut process).await?;
        Ok(Self { url, own: Some(Own { process, dir }) })
    }

    /// A client with a connection of its own.
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        Client::connect(&self.url, ConnectOptions::default()).await.map_err(Error::millstream("connect"))
    }

    /// A new topic.
    pub(crate) async fn topic(&self, partitions: u32, durability: Durability) -> Result<TopicName, Error> {
        static TOPICS: AtomicU64 = AtomicU64::new(0);
        let number = TOPICS.fetch_add(1, Ordering::Relaxed);
        let name: TopicName = format!("bench-{}-{number}", std::process::id())
            .parse()
            .expect("letters, digits and hyphens are a topic's name");
        let config = TopicConfig { partitions, durability, ..TopicConfig::default() };
        let client = self.client().await?;
        client.create_topic(name.clone(), config).await.map_err(Error::millstream("create a topic"))?;
        client.close().await;
        Ok(name)
    }

    /// Deletes a topic of a broker that goes on to live.
    pub(crate) async fn forget(&self, topic: TopicName) -> Result<(), Error> {
        if self.own.is_none() {
            let client = self.client().await?;
            client.delete_topic(topic).await.map_err(Error::millstream("delete a topic"))?;
            client.close().await;
        }
        Ok(())
    }

    /// Resident memory in bytes, if it is a child of ours and the system tells.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.own.as_ref()?.process.resident_bytes()
    }

    /// CPU time used so far, if it is a child of ours and the system tells.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        self.own.as_ref()?.process.cpu_seconds()
    }
}

/// Waits for the URL, which the broker writes once it accepts connections.
async fn url_of(url_file: &Path, log: &Path, process: &mut Process) -> Result<Url, Error> {
    let start = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(url_file)
            && let Ok(url) = text.parse()
        {
            return Ok(url);
        }
        if process.has_ended() {
            return Err(process.failed(format!("ended before it was ready: {}", last_words(log))));
        }
        if start.elapsed() > START_MAX {
            return Err(process.failed(format!("was not ready within {} s", START_MAX.as_secs())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("it said nothing").to_owned()
}

//! What a server is told: by flags, and by a TOML file for the rest.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use millstream_broker::StockModule;
use millstream_wire::DEFAULT_PORT;
use serde::Deserialize;

/// What a server is told.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Everything is kept below here; made if missing.
    pub data_dir: PathBuf,
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Start although acknowledged records are lost.
    pub accept_data_loss: bool,
    /// Connections at once; more are refused.
    pub connections_max: usize,
    /// Of the broker.
    pub broker: millstream_broker::Limits,
    /// Of each module.
    pub modules: millstream_engine::Limits,
    /// Modules that come with the broker.
    pub stock: Vec<StockModule>,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the configuration file {} is refused: {cause}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        cause: Box<toml::de::Error>,
    },
}

impl ServerConfig {
    /// Defaults, on `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            accept_data_loss: false,
            connections_max: 10_000,
            broker: millstream_broker::Limits::default(),
            modules: millstream_engine::Limits::default(),
            stock: Vec::new(),
        }
    }

    /// Takes over what the TOML file at `path` sets.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, and the line and setting where there is one.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let file: File = toml::from_str(&text)
            .map_err(|cause| ConfigError::Parse { path: path.to_owned(), cause: Box::new(cause) })?;
        set(&mut self.listen, file.listen);
        set(&mut self.connections_max, file.connections_max);
        set(&mut self.broker.sync_interval, file.sync_interval_ms.map(Duration::from_millis));
        set(&mut self.broker.retention_interval, file.retention_interval_ms.map(Duration::from_millis));
        set(&mut self.broker.topics_max, file.topics_max);
        set(&mut self.broker.subscriptions_max, file.subscriptions_max);
        set(&mut self.modules.memory_bytes, file.modules.memory_bytes);
        set(&mut self.modules.module_bytes, file.modules.module_bytes);
        set(&mut self.modules.call_ms, file.modules.call_ms);
        Ok(())
    }
}

/// The file: every setting optional, unknown ones refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    connections_max: Option<usize>,
    sync_interval_ms: Option<u64>,
    retention_interval_ms: Option<u64>,
    topics_max: Option<usize>,
    subscriptions_max: Option<usize>,
    #[serde(default)]
    modules: Modules,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Modules {
    memory_bytes: Option<usize>,
    module_bytes: Option<usize>,
    call_ms: Option<u64>,
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

//! What a server is told: by flags, and by a TOML file for the rest.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use millstream_broker::StockModule;
use millstream_engine::{Capability, Isolation, PublicKey, Trust};
use millstream_types::{
    PublishRate,
    limits::{BATCH_BYTES_MAX, RATE_BYTES_PER_S_MIN},
};
use millstream_wire::DEFAULT_PORT;
use serde::Deserialize;

use crate::limits::{
    BACKLOG_BYTES_MAX, BACKLOG_BYTES_MIN, CALL_MS_MAX, COMPILE_MS_MAX, COMPILE_MS_MIN, MEMORY_BYTES_MAX,
    MEMORY_BYTES_MIN, MODULE_BYTES_MAX, MODULE_BYTES_MIN, STREAMS_MAX,
};

/// What a server is told.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Everything is kept below here; made if missing.
    pub data_dir: PathBuf,
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where metrics are read over HTTP, if they are; port 0 takes a free one.
    pub metrics_listen: Option<SocketAddr>,
    /// Start although acknowledged records are lost.
    pub accept_data_loss: bool,
    /// Connections at once; more are refused.
    pub connections_max: usize,
    /// Publishers and consumers of one connection at once; more are refused.
    pub streams_max: usize,
    /// Of the broker.
    pub broker: millstream_broker::Limits,
    /// Of each module.
    pub modules: millstream_engine::Limits,
    /// Who compiles modules, in a process of its own; this process itself when `None`.
    pub module_compiler: Option<millstream_engine::Compiler>,
    /// Whose modules run.
    pub trust: Trust,
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
    /// A value with which the broker cannot work.
    #[error("the configuration file {} is refused: {name} is {found}: {remedy}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The setting.
        name: &'static str,
        /// What it is set to.
        found: u64,
        /// What to write instead.
        remedy: String,
    },
    /// A trusted key that is none.
    #[error(
        "the configuration file {} is refused: modules.trusted_keys names {}: {cause}",
        path.display(),
        key.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// As named there, seen from its folder.
        key: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Signatures are asked for and nobody's would do.
    #[error(
        "the configuration file {} is refused: modules.require_signature is true and modules.trusted_keys names nobody: no \
         module could be stored; name the public keys of those who sign, or leave require_signature out",
        path.display()
    )]
    NobodyTrusted {
        /// The file.
        path: PathBuf,
    },
}

impl ServerConfig {
    /// Defaults, on `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            metrics_listen: None,
            accept_data_loss: false,
            connections_max: 10_000,
            streams_max: 100,
            broker: millstream_broker::Limits::default(),
            modules: millstream_engine::Limits::default(),
            module_compiler: None,
            trust: Trust::default(),
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
        self.metrics_listen = file.metrics_listen.or(self.metrics_listen);
        let bounds = [
            ("connections_max", file.connections_max, 1, usize::MAX),
            ("streams_max", file.streams_max, 1, STREAMS_MAX),
        ];
        for (name, found, least, most) in bounds {
            check(path, name, found, least, most)?;
        }
        set(&mut self.connections_max, file.connections_max);
        set(&mut self.streams_max, file.streams_max);
        file.publish.read_into(path, &mut self.broker)?;
        set(&mut self.broker.sync_interval, file.sync_interval_ms.map(Duration::from_millis));
        set(&mut self.broker.retention_interval, file.retention_interval_ms.map(Duration::from_millis));
        set(&mut self.broker.topics_max, file.topics_max);
        set(&mut self.broker.subscriptions_max, file.subscriptions_max);
        self.trust = file.modules.trust(path)?;
        file.modules.read_into(path, &mut self.modules)?;
        Ok(())
    }
}

/// The file: every setting optional, unknown ones refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    metrics_listen: Option<SocketAddr>,
    connections_max: Option<usize>,
    streams_max: Option<usize>,
    sync_interval_ms: Option<u64>,
    retention_interval_ms: Option<u64>,
    topics_max: Option<usize>,
    subscriptions_max: Option<usize>,
    #[serde(default)]
    publish: Publish,
    #[serde(default)]
    modules: Modules,
}

/// What may be published how fast, and how much of it may be on its way.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    backlog_bytes: Option<usize>,
    connection_bytes: Option<usize>,
    topic_bytes: Option<usize>,
    connection_bytes_per_s: Option<u64>,
    connection_records_per_s: Option<u64>,
}

impl Publish {
    /// What is not set is a share of the backlog: a quarter for a connection, half for a topic.
    fn read_into(self, path: &Path, limits: &mut millstream_broker::Limits) -> Result<(), ConfigError> {
        check(path, "publish.backlog_bytes", self.backlog_bytes, BACKLOG_BYTES_MIN, BACKLOG_BYTES_MAX)?;
        set(&mut limits.commit_backlog_bytes, self.backlog_bytes);
        let all = limits.commit_backlog_bytes;
        check(path, "publish.connection_bytes", self.connection_bytes, BATCH_BYTES_MAX, all)?;
        check(path, "publish.topic_bytes", self.topic_bytes, BATCH_BYTES_MAX, all)?;
        limits.connection_bytes = self.connection_bytes.unwrap_or(all / 4);
        limits.topic_bytes = self.topic_bytes.unwrap_or(all / 2);
        let rate = |name, found, least| match found {
            None => Ok(None),
            Some(found) if found >= least => Ok(NonZeroU64::new(found)),
            Some(found) => {
                let remedy =
                    format!("nobody could work so; write {least} or more, or leave it out for no limit");
                Err(ConfigError::Value { path: path.to_owned(), name, found, remedy })
            }
        };
        let bytes = ("publish.connection_bytes_per_s", self.connection_bytes_per_s, RATE_BYTES_PER_S_MIN);
        let records = ("publish.connection_records_per_s", self.connection_records_per_s, 1);
        limits.connection_rate = PublishRate {
            bytes_per_s: rate(bytes.0, bytes.1, bytes.2)?,
            records_per_s: rate(records.0, records.1, records.2)?,
        };
        Ok(())
    }
}

fn check(
    path: &Path,
    name: &'static str,
    found: Option<usize>,
    least: usize,
    most: usize,
) -> Result<(), ConfigError> {
    let remedy = match found {
        Some(found) if found < least => format!("write {least} or more, or leave it out"),
        Some(found) if found > most => format!("write {most} or less, or leave it out"),
        _ => return Ok(()),
    };
    let found = found.unwrap_or_default() as u64;
    Err(ConfigError::Value { path: path.to_owned(), name, found, remedy })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Modules {
    memory_bytes: Option<usize>,
    module_bytes: Option<usize>,
    call_ms: Option<usize>,
    compile_ms: Option<usize>,
    capabilities: Option<BTreeSet<Capability>>,
    isolation: Option<Isolation>,
    #[serde(default)]
    trusted_keys: Vec<PathBuf>,
    #[serde(default)]
    require_signature: bool,
}

impl Modules {
    fn read_into(self, path: &Path, limits: &mut millstream_engine::Limits) -> Result<(), ConfigError> {
        let bounds = [
            ("modules.memory_bytes", self.memory_bytes, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX),
            ("modules.module_bytes", self.module_bytes, MODULE_BYTES_MIN, MODULE_BYTES_MAX),
            ("modules.call_ms", self.call_ms, 1, CALL_MS_MAX),
            ("modules.compile_ms", self.compile_ms, COMPILE_MS_MIN, COMPILE_MS_MAX),
        ];
        for (name, found, least, most) in bounds {
            check(path, name, found, least, most)?;
        }
        set(&mut limits.memory_bytes, self.memory_bytes);
        set(&mut limits.module_bytes, self.module_bytes);
        set(&mut limits.call_ms, self.call_ms.map(|ms| ms as u64));
        set(&mut limits.compile_ms, self.compile_ms.map(|ms| ms as u64));
        set(&mut limits.granted, self.capabilities);
        set(&mut limits.isolation, self.isolation);
        Ok(())
    }

    /// Paths are as seen from the folder of the configuration file.
    fn trust(&self, path: &Path) -> Result<Trust, ConfigError> {
        if self.require_signature && self.trusted_keys.is_empty() {
            return Err(ConfigError::NobodyTrusted { path: path.to_owned() });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let keys = self.trusted_keys.iter().map(|key| {
            let key = folder.join(key);
            let failed = |cause: String| ConfigError::Key { path: path.to_owned(), key: key.clone(), cause };
            let pem = std::fs::read_to_string(&key).map_err(|error| failed(error.to_string()))?;
            PublicKey::from_pem(&pem).map_err(|error| failed(error.to_string()))
        });
        Ok(Trust { keys: keys.collect::<Result<_, _>>()?, required: self.require_signature })
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ServerConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("millstream.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = ServerConfig::new(dir.path());
        config.read_file(&path).map(|()| config).map_err(|error| error.to_string())
    }

    #[test]
    fn shares_follow_the_backlog() {
        let config = read("[publish]\nbacklog_bytes = 8388608").unwrap().broker;
        assert_eq!((config.connection_bytes, config.topic_bytes), (2 << 20, 4 << 20));
        let config =
            read("[publish]\nconnection_bytes = 1048576\nconnection_bytes_per_s = 1024").unwrap().broker;
        assert_eq!((config.connection_bytes, config.topic_bytes), (1 << 20, 32 << 20));
        assert_eq!(config.connection_rate.bytes_per_s, NonZeroU64::new(1_024));
        let default = ServerConfig::new("x").broker;
        let empty = read("").unwrap().broker;
        assert_eq!(
            (empty.connection_bytes, empty.topic_bytes, empty.connection_rate),
            (default.connection_bytes, default.topic_bytes, default.connection_rate)
        );
    }

    #[test]
    fn keys_are_read_from_beside_the_file() {
        const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAXd4e1P02XShanPEqGFg8/XBr/UXuwkn9H2ZSfyfSEDo=\n\
                           -----END PUBLIC KEY-----\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("millstream.toml");
        std::fs::write(dir.path().join("team.pem"), KEY).unwrap();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mut config = ServerConfig::new(dir.path());
            config.read_file(&path).map(|()| config.trust).map_err(|error| error.to_string())
        };
        let trust = read("[modules]\ntrusted_keys = [\"team.pem\"]\nrequire_signature = true").unwrap();
        assert_eq!((trust.keys, trust.required), (vec![PublicKey::from_pem(KEY).unwrap()], true));
        let nobody = read("[modules]\nrequire_signature = true").unwrap_err();
        assert!(nobody.contains("trusted_keys names nobody"), "{nobody}");
        let missing = read("[modules]\ntrusted_keys = [\"missing.pem\"]").unwrap_err();
        assert!(missing.contains("missing.pem: No such file"), "{missing}");
        let other = read("[modules]\ntrusted_keys = [\"millstream.toml\"]").unwrap_err();
        assert!(other.contains("not an Ed25519 public key"), "{other}");
    }

    #[test]
    fn refusals_name_the_setting_its_value_and_the_remedy() {
        for (text, name, found, remedy) in [
            ("connections_max = 0", "connections_max", "0", "write 1 or more"),
            ("streams_max = 0", "streams_max", "0", "write 1 or more"),
            ("streams_max = 5000", "streams_max", "5000", "write 1000 or less"),
            ("[publish]\nbacklog_bytes = 0", "publish.backlog_bytes", "0", "write 4194304 or more"),
            ("[publish]\nbacklog_bytes = 99999999999", "publish.backlog_bytes", "99999999999", "or less"),
            ("[publish]\nconnection_bytes = 0", "publish.connection_bytes", "0", "write 1048576 or more"),
            ("[publish]\ntopic_bytes = 1073741824", "publish.topic_bytes", "1073741824", "67108864 or less"),
            ("[publish]\nconnection_bytes_per_s = 10", "connection_bytes_per_s", "10", "1024 or more"),
            ("[modules]\nmemory_bytes = 1", "modules.memory_bytes", "1", "write 65536 or more"),
            ("[modules]\nmemory_bytes = 999999999999", "modules.memory_bytes", "999999999999", "or less"),
            ("[modules]\nmodule_bytes = 1", "modules.module_bytes", "1", "write 1024 or more"),
            ("[modules]\ncall_ms = 0", "modules.call_ms", "0", "write 1 or more"),
            ("[modules]\ncall_ms = 60001", "modules.call_ms", "60001", "write 60000 or less"),
            ("[modules]\ncapabilities = [\"logs\"]", "capabilities", "logs", "`metrics`"),
            ("[modules]\nisolation = \"call\"", "isolation", "call", "`batch`"),
            ("[modules]\ncompile_ms = 10", "modules.compile_ms", "10", "write 1000 or more"),
            ("[publish]\nconnection_records_per_s = 0", "connection_records_per_s", "0", "no limit"),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                error.contains(name) && error.contains(found) && error.contains(remedy),
                "{text}: {error}"
            );
        }
    }
}

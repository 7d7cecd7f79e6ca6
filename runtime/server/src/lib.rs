//! The QUIC server: endpoint, certificate, sessions, and one handler for each kind of stream. Everything it does, the
//! broker does; here it is only asked for and answered.

mod certificate;
mod config;
mod consume;
mod error;
mod limits;
mod metrics;
mod module_log;
mod pace;
mod peer;
mod publish;
mod request;
mod server;
mod session;
mod stream;
mod vanished;
mod work;

pub use config::{ConfigError, ServerConfig};
pub use millstream_broker::StockModule;
pub use server::{Server, StartError};

//! What tests start: a server in this process, or the real binary in one of its own, each on a folder of its own; and a
//! bad network in front of it.

mod binary;
mod proxy;
mod rng;
mod server;

pub use millstream_test_guests::guest;

pub use binary::{Binary, Output, millstream, run};
pub use proxy::{Damage, Proxy, Suffered};
pub use rng::{Rng, Seed};
pub use server::{TestServer, drain, publish, read_all};

use std::{path::PathBuf, time::Duration};

/// Longest wait for something that must come: generous, since machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The root of the source tree.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Waits for `future`, not for ever.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// How much of something: so much in `make test`, and so much in `make soak`.
pub fn soak(short: usize, long: usize) -> usize {
    if std::env::var_os("MILLSTREAM_SOAK").is_some() { long } else { short }
}

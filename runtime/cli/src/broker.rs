//! Connecting to the broker that the command line names.

use millstream_client::{Client, ConnectOptions};

use crate::{cli::Common, failure::Failure};

const NO_URL: &str = "no broker is named: give --url or set MILLSTREAM_URL. `millstream serve --data DIR` prints the \
                      URL and writes it to DIR/client.url, so: export MILLSTREAM_URL=\"$(cat DIR/client.url)\"";

/// Connects as `common` says.
pub(crate) async fn connect(common: &Common) -> Result<Client, Failure> {
    let url = common.url.as_ref().ok_or_else(|| Failure::usage(NO_URL))?;
    let options = ConnectOptions {
        client_name: concat!("millstream/", env!("CARGO_PKG_VERSION")).to_owned(),
        connect_timeout: common.connect_timeout,
        idle_timeout: common.idle_timeout,
        ..ConnectOptions::default()
    };
    Ok(Box::pin(Client::connect(url, options)).await?)
}

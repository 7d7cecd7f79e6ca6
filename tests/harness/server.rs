//! A server in this process, over real QUIC.

use std::net::{Ipv4Addr, SocketAddr};

use millstream_client::{
    Client, ConnectOptions, Consumer, PublishOptions, Record, SubscribeOptions, TopicConfig, TopicName, Url,
};
use millstream_server::{Server, ServerConfig, StockModule};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Damage, PATIENCE, Proxy, soon};

/// A server in this process, on a temporary folder.
pub struct TestServer {
    server: Option<Server>,
    config: ServerConfig,
    dir: tempfile::TempDir,
}

impl TestServer {
    /// A server on an empty folder.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server on an empty folder, with other settings.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut config = ServerConfig::new(dir.path());
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.stock = millstream_filters::stock()
            .iter()
            .map(|stock| StockModule { name: stock.name, version: stock.version, wasm: stock.wasm })
            .collect();
        change(&mut config);
        Self::start_on(dir, config).await
    }

    async fn start_on(dir: tempfile::TempDir, config: ServerConfig) -> Self {
        let started = soon("the folder to be free", async {
            loop {
                // A read that was under way when the server before ended may hold the store a moment longer.
                match Server::start(config.clone()).await {
                    Err(error) if error.to_string().contains("is in use") => tokio::task::yield_now().await,
                    started => return started,
                }
            }
        });
        Self { server: Some(started.await.expect("the server starts")), config, dir }
    }

    /// Ends the server in good order and starts it again on the same folder, at another port.
    pub async fn restart(self) -> Self {
        self.restart_at(0).await
    }

    /// The same, with other settings.
    pub async fn restart_with(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        change(&mut self.config);
        self.restart().await
    }

    /// The same, at the port where its clients look for it.
    pub async fn restart_there(self) -> Self {
        let port = self.url().port();
        self.restart_at(port).await
    }

    async fn restart_at(mut self, port: u16) -> Self {
        if let Some(server) = self.server.take() {
            server.shutdown(millstream_wire::CloseCode::ShuttingDown, "restart").await;
        }
        self.config.listen.set_port(port);
        Self::start_on(self.dir, self.config).await
    }

    /// What clients connect to.
    pub fn url(&self) -> Url {
        let url = self.server.as_ref().map(Server::url).unwrap_or_default();
        url.parse().expect("the server's own URL")
    }

    /// Its metrics, as the endpoint answers `GET /metrics`, headers included.
    ///
    /// # Panics
    /// When there is no such endpoint.
    pub async fn metrics(&self) -> String {
        self.get("GET /metrics").await
    }

    /// Where its metrics endpoint listens.
    ///
    /// # Panics
    /// When there is no such endpoint.
    pub fn metrics_address(&self) -> String {
        let url = self.server.as_ref().and_then(Server::metrics_url).expect("metrics are served");
        url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned()
    }

    /// What the metrics endpoint answers to such a request.
    ///
    /// # Panics
    /// When there is no such endpoint.
    pub async fn get(&self, request: &str) -> String {
        let address = self.metrics_address();
        soon("an answer over HTTP", async move {
            let mut stream = TcpStream::connect(&address).await.expect("somebody listens");
            let request = format!("{request} HTTP/1.1\r\nHost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("it is taken");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        })
        .await
    }

    /// Its folder.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A client of it.
    pub async fn client(&self) -> Client {
        soon("a connection", Client::connect(&self.url(), ConnectOptions::default())).await.expect("a client")
    }

    /// A network in front of it, whose chances come from `seed`.
    pub async fn network(&self, damage: Damage, seed: u64) -> Proxy {
        Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, self.url().port())), damage, seed).await
    }

    /// A client of it, behind `network`.
    pub async fn client_behind(&self, network: &Proxy) -> Client {
        let url = self.url();
        let url = Url::new(url.host(), network.address().port(), url.trust().clone());
        let options = ConnectOptions { connect_timeout: PATIENCE, ..ConnectOptions::default() };
        soon("a connection", Client::connect(&url, options)).await.expect("a client")
    }

    /// A client, and a topic with as many partitions.
    pub async fn topic(&self, name: &str, partitions: u32) -> (Client, TopicName) {
        let client = self.client().await;
        let name: TopicName = name.parse().expect("a topic name");
        let config = TopicConfig { partitions, ..TopicConfig::default() };
        client.create_topic(name.clone(), config).await.expect("a topic");
        (client, name)
    }
}

/// Publishes `records` and waits until they are stored.
pub async fn publish(client: &Client, topic: &TopicName, records: impl IntoIterator<Item = Record>) {
    let publisher = client.publisher(topic.clone(), PublishOptions::default()).await.expect("a publisher");
    for record in records {
        drop(publisher.publish(record).await.expect("taken"));
    }
    soon("the receipts", publisher.close()).await.expect("stored");
}

/// Everything that `options` gives up to the end as it is now, as partition, offset and payload.
pub async fn read_all(client: &Client, options: SubscribeOptions) -> Vec<(u32, u64, String)> {
    let mut consumer = client.subscribe(options.until_end()).await.expect("a consumer");
    drain(&mut consumer).await
}

/// What `consumer` gives until it ends, each record acknowledged.
pub async fn drain(consumer: &mut Consumer) -> Vec<(u32, u64, String)> {
    let mut records = Vec::new();
    while let Some(message) = soon("a record or the end", consumer.next_message()).await {
        let message = message.expect("a record");
        let payload = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        records.push((message.partition(), message.offset(), payload));
        consumer.ack(&message);
    }
    records
}

//! The client: one connection, from which publishers, consumers and requests come.

use std::sync::Arc;

use bytes::Bytes;
use millstream_types::{Rebinding, TopicName};
use millstream_wire::{ErrorCode, Open, Request, Response, Welcome, WireError};
use tokio::time::Instant;

use crate::{
    CallError, ConnectError, ConnectOptions, ConsumeError, Consumer, Lost, PublishError, PublishOptions,
    Publisher, SubscribeOptions, Url, WorkOptions, Worker,
    connect::{Link, Session},
    stream,
};

/// A connection to a broker, made anew when it is lost. Cloning shares it.
///
/// Bulk transfers delay what else is on the same connection: give them a client of their own where latency matters.
#[derive(Debug, Clone)]
pub struct Client {
    link: Arc<Link>,
}

impl Client {
    /// Connects and exchanges greetings. Must be called in a tokio runtime. Cancel-safe.
    ///
    /// # Errors
    /// [`ConnectError`] saying who could not be reached or trusted, and why.
    pub async fn connect(url: &Url, options: ConnectOptions) -> Result<Self, ConnectError> {
        let link = Box::pin(Link::open(url.clone(), options)).await?;
        Ok(Self { link: Arc::new(link) })
    }

    /// Where this client connects to.
    pub fn url(&self) -> &Url {
        self.link.url()
    }

    /// What the broker said of itself when the connection was made. Connects anew if it is lost. Cancel-safe.
    ///
    /// # Errors
    /// [`ConnectError`] when there is no connection.
    pub async fn welcome(&self) -> Result<Arc<Welcome>, ConnectError> {
        Ok(self.link.session().await?.welcome)
    }

    /// A publisher to `topic`. Cancel-safe.
    ///
    /// # Errors
    /// [`PublishError::Open`] when the topic does not exist or the broker cannot be reached.
    pub async fn publisher(
        &self,
        topic: TopicName,
        options: PublishOptions,
    ) -> Result<Publisher, PublishError> {
        Box::pin(Publisher::open(self.link.clone(), topic, options)).await
    }

    /// A consumer of a subscription. Cancel-safe.
    ///
    /// # Errors
    /// [`ConsumeError::Open`] when the broker refuses or cannot be reached.
    pub async fn subscribe(&self, options: SubscribeOptions) -> Result<Consumer, ConsumeError> {
        Box::pin(Consumer::open(self.link.clone(), options)).await
    }

    /// Joins the consumers of a subscription as one that leases its records. Cancel-safe.
    ///
    /// # Errors
    /// [`ConsumeError::Open`] when the broker refuses or cannot be reached.
    pub async fn work(&self, options: WorkOptions) -> Result<Worker, ConsumeError> {
        Box::pin(Worker::open(self.link.clone(), options)).await
    }

    /// Ends the connection, also for publishers and consumers, and waits up to 2 s for the broker to hear of it.
    /// Close or flush those first. Cancel-safe, except that the broker may not hear of it.
    pub async fn close(self) {
        self.link.close().await;
    }

    pub(crate) async fn session_connection(&self) -> Result<quinn::Connection, ConnectError> {
        Ok(self.link.session().await?.connection)
    }

    /// One request. Retried once on a new connection where the first is lost and doing it twice is doing it once; and where
    /// the broker asks to slow down, as often as the request's time allows.
    pub(crate) async fn request(&self, request: Request, body: Bytes) -> Result<Response, CallError> {
        request_on(&self.link, request, body).await
    }

    /// The same, with the body of the answer.
    pub(crate) async fn fetch(&self, request: Request) -> Result<(Response, Bytes), CallError> {
        exchange(&self.link, request, Bytes::new()).await
    }
}

pub(crate) async fn request_on(link: &Link, request: Request, body: Bytes) -> Result<Response, CallError> {
    Ok(exchange(link, request, body).await?.0)
}

async fn exchange(link: &Link, request: Request, body: Bytes) -> Result<(Response, Bytes), CallError> {
    let repeatable = !matches!(
        request,
        Request::DeleteTopic { .. }
            | Request::DeleteSubscription { .. }
            | Request::DeleteModule { .. }
            | Request::CloseDeadLetters { .. }
            | Request::Rebind { rebinding: Rebinding::Back { .. } | Rebinding::Promote, .. }
            | Request::PublishAtomically { .. }
    );
    // The body of a request is a module; refused here, since the broker could only break the stream off.
    let too_large = |max: u64| {
        let text = format!(
            "the module has {} bytes, and the broker takes {max} at most: make it smaller, or have the broker's setting \
             modules.module_bytes raised",
            body.len()
        );
        CallError::Refused(WireError::refused(ErrorCode::TooLarge, text).with_value(body.len().to_string()))
    };
    let open = Open::Request(request);
    let after = link.options().request_timeout;
    let attempt = || async {
        let Session { connection, welcome, .. } = link.session().await?;
        if body.len() as u64 > welcome.module_bytes_max {
            return Err(too_large(welcome.module_bytes_max));
        }
        let call = stream::call::<Response>(&connection, &open, body.clone());
        tokio::time::timeout(after, call).await.unwrap_or(Err(CallError::TimedOut { after }))
    };
    let started = Instant::now();
    loop {
        let answer = match attempt().await {
            Err(CallError::Lost(Lost { code: None, .. })) if repeatable => attempt().await,
            answer => answer,
        };
        let left = after.saturating_sub(started.elapsed());
        match answer.as_ref().err().and_then(|error| error.slow_down(left)) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return answer,
        }
    }
}

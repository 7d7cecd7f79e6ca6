//! The endpoint: HTTP/1.1, `GET /metrics`, one request a connection.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    limits::{METRICS_CONNECTIONS_MAX, METRICS_HEAD, METRICS_TEXTS_MAX, METRICS_TIME, RETRY_AFTER_MS},
    session::Context,
};

/// What all requests share.
struct Shared {
    context: Arc<Context>,
    /// To be held while a text is made: it may take long, and is not given up once begun.
    making: Arc<tokio::sync::Mutex<()>>,
    /// To be held while there is a text.
    texts: Arc<Semaphore>,
}

/// Answers whoever asks. Once it is dropped nobody is answered any more.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>) {
    let shared = Arc::new(Shared {
        context,
        making: Arc::default(),
        texts: Arc::new(Semaphore::new(METRICS_TEXTS_MAX)),
    });
    let mut answers = JoinSet::new();
    loop {
        // Beyond that they wait in the kernel.
        if answers.len() >= METRICS_CONNECTIONS_MAX {
            answers.join_next().await;
        }
        while answers.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => drop(answers.spawn(answer(stream, Arc::clone(&shared)))),
            Err(error) => {
                // Of one connection, or for want of files: those that are open may end meanwhile.
                tracing::warn!(%error, "a request for metrics cannot be taken");
                tokio::time::sleep(Duration::from_millis(RETRY_AFTER_MS.into())).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, shared: Arc<Shared>) {
    let held = Mutex::new(None);
    let (shared, held) = (&shared, &held);
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(respond(request.method(), request.uri().path(), shared, held).await)
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(METRICS_HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(METRICS_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request for metrics ended early"),
        Err(_) => tracing::debug!("a request for metrics took too long"),
    }
}

/// What `held` gets is for the text of the answer, until that is written.
async fn respond(
    method: &Method,
    path: &str,
    shared: &Shared,
    held: &Mutex<Option<OwnedSemaphorePermit>>,
) -> Response<Full<Bytes>> {
    if path != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is nothing here: metrics are at /metrics\n".into());
    }
    if method != Method::GET && method != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    // Fails only once it is closed, which nobody does.
    let room = Arc::clone(&shared.texts).acquire_owned().await.ok();
    *held.lock().unwrap_or_else(PoisonError::into_inner) = room;
    let making = Arc::clone(&shared.making).lock_owned().await;
    let context = Arc::clone(&shared.context);
    let text = tokio::task::spawn_blocking(move || {
        let text = super::text(context.info(), &context.broker);
        // Only now may the next be begun, also where nobody waits for this one any more.
        drop(making);
        text
    });
    match text.await {
        Ok(Ok(text)) => {
            let mut response = plain(StatusCode::OK, text);
            let kind = HeaderValue::from_static(prometheus_text::CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Ok(Err(_)) | Err(_) => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error: see the broker's log\n".into())
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

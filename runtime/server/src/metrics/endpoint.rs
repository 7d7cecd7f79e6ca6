//! The endpoint: HTTP/1.1, `GET /metrics`, one request a connection.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::prometheus_text;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
};

use crate::{
    limits::{METRICS_CONNECTIONS_MAX, METRICS_TIME, RETRY_AFTER_MS},
    session::Context,
};

/// Answers whoever asks, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>) {
    let (room, one_at_a_time) = (Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX)), Arc::new(Mutex::new(())));
    loop {
        // Beyond that they wait in the kernel.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of one connection, or for want of files: those that are open may end meanwhile.
                tracing::warn!(%error, "a request for metrics cannot be taken");
                tokio::time::sleep(std::time::Duration::from_millis(RETRY_AFTER_MS.into())).await;
                continue;
            }
        };
        let (context, one_at_a_time) = (Arc::clone(&context), Arc::clone(&one_at_a_time));
        tokio::spawn(async move {
            let answered = tokio::time::timeout(METRICS_TIME, answer(stream, &context, &one_at_a_time)).await;
            match answered {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a request for metrics ended early"),
                Err(_) => tracing::debug!("a request for metrics took too long"),
            }
            drop(permit);
        });
    }
}

async fn answer(
    stream: TcpStream,
    context: &Arc<Context>,
    one_at_a_time: &Mutex<()>,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(respond(request.method(), request.uri().path(), context, one_at_a_time).await)
    });
    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await
}

async fn respond(
    method: &Method,
    path: &str,
    context: &Arc<Context>,
    one_at_a_time: &Mutex<()>,
) -> Response<Full<Bytes>> {
    if path != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is nothing here: metrics are at /metrics\n".into());
    }
    if method != Method::GET && method != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let _turn = one_at_a_time.lock().await;
    let shared = Arc::clone(context);
    match tokio::task::spawn_blocking(move || super::text(shared.info(), &shared.broker)).await {
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

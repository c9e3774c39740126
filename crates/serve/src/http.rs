//! The HTTP side: health and metrics on the server's own runtime, everything else handed to the
//! main one.

mod config;
mod dispatch;
mod door;
mod limit;
mod metrics;
mod users;

pub(crate) use dispatch::Dispatch;
pub(crate) use door::{Door, guard};
pub(crate) use metrics::HttpMetricsLayer;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use http::{HeaderValue, StatusCode, header};
use model::error::in_one_line;
use prometheus::{Registry, TextEncoder};
use tokio::sync::{mpsc, watch};

use crate::Patience;
use crate::conn::{Conn, ConnInfo, Refusal, SetAside};
use crate::peer::connection;
use crate::received::Bodies;

/// What is answered even with the last file descriptor.
const PROBES: [&str; 3] = ["/-/healthy", "/-/ready", "/metrics"];

/// What health and metrics need to know.
#[derive(Clone, Debug)]
pub(crate) struct ProcessPages {
    pub(crate) registry: Registry,
    pub(crate) ready: watch::Receiver<bool>,
}

/// The answer for an unknown path: JSON, because clients of the API parse any answer, with the
/// words by which they tell a missing endpoint from a failing one.
pub async fn not_found() -> Response {
    json_error(StatusCode::NOT_FOUND, "not_found", "404 page not found")
}

async fn method_not_allowed() -> Response {
    json_error(StatusCode::METHOD_NOT_ALLOWED, "bad_data", "method not allowed")
}

pub(crate) fn json_error(status: StatusCode, kind: &str, message: &str) -> Response {
    // both texts are our own and need no escaping
    let body = format!(r#"{{"status":"error","errorType":"{kind}","error":"{message}"}}"#);
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// All routes of a process.
pub(crate) fn router(own: ProcessPages, api: Dispatch) -> Router {
    Router::new()
        .route("/-/healthy", get(async || "OK\n"))
        .route("/-/ready", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(own))
        .fallback_service(api)
        .layer(axum::middleware::from_fn(only_probes_on_the_last_descriptor))
        .layer(axum::middleware::from_fn(with_set_aside))
}

/// Gives a request back what its head could not carry, or answers why it was not let through.
async fn with_set_aside(mut request: Request, next: Next) -> Response {
    let asides = connection(request.extensions()).map(|info| info.asides.clone());
    match asides.and_then(|asides| asides.take(&mut request)) {
        None => next.run(request).await,
        Some(SetAside::Query(query, held)) => {
            request.extensions_mut().insert(query);
            let response = next.run(request).await;
            drop(held);
            response
        }
        Some(SetAside::Refused(Refusal { status, kind, text })) => json_error(status, kind, &text),
    }
}

async fn only_probes_on_the_last_descriptor(request: Request, next: Next) -> Response {
    if !connection(request.extensions()).is_some_and(|info| info.is_spare) {
        return next.run(request).await;
    }
    let mut response = if PROBES.contains(&request.uri().path()) {
        next.run(request).await
    } else {
        let text = "the process has no file descriptor left; allow it more of them (ulimit -n)";
        json_error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What the layer around a component's routes does with the bodies of requests.
#[derive(Clone, Debug)]
pub(crate) struct Receiving {
    pub(crate) bodies: Bodies,
    pub(crate) patience: Patience,
}

/// Answers in place of the handler when it could not be given the whole body.
pub(crate) async fn receive(
    State(receiving): State<Receiving>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = receiving.bodies.receive(body, receiving.patience.body);
    // until the handler has answered, because what it makes of the body takes as much
    let held = body.held();
    let response = next.run(Request::from_parts(parts, Body::new(body))).await;
    let Some(failure) = held.failure() else { return response };
    let (status, kind) = failure.http();
    json_error(status, kind, &failure.to_string())
}

async fn ready(State(own): State<Arc<ProcessPages>>) -> Response {
    if *own.ready.borrow() {
        return "OK\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

async fn metrics(State(own): State<Arc<ProcessPages>>) -> Response {
    match TextEncoder::new().encode_to_string(&own.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => {
            tracing::error!(error = %in_one_line(&error), "encode metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, "encode metrics\n").into_response()
        }
    }
}

/// Accepted connections as axum wants them.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) connections: mpsc::Receiver<(Conn, SocketAddr)>,
    pub(crate) local: SocketAddr,
}

impl axum::serve::Listener for Accepted {
    type Io = Conn;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Conn, SocketAddr) {
        match self.connections.recv().await {
            Some(accepted) => accepted,
            // accepting ends only with the runtime
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl Connected<IncomingStream<'_, Accepted>> for ConnInfo {
    fn connect_info(stream: IncomingStream<'_, Accepted>) -> ConnInfo {
        stream.io().info()
    }
}

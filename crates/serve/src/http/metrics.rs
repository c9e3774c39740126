//! `http_requests_total` and its siblings, per route.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::MatchedPath;
use axum::response::Response;
use futures::FutureExt;
use http::{Request, header};
use model::Clock;
use prometheus::Gauge;
use tower::{Layer, Service};

use crate::metrics::HttpMetrics;

#[derive(Clone, Debug)]
pub(crate) struct HttpMetricsLayer {
    pub(crate) metrics: HttpMetrics,
    pub(crate) clock: Arc<dyn Clock>,
}

impl<S> Layer<S> for HttpMetricsLayer {
    type Service = MeasuredHttp<S>;

    fn layer(&self, inner: S) -> MeasuredHttp<S> {
        MeasuredHttp { inner, layer: self.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct MeasuredHttp<S> {
    inner: S,
    layer: HttpMetricsLayer,
}

impl<S> Service<Request<Body>> for MeasuredHttp<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let HttpMetricsLayer { metrics, clock } = self.layer.clone();
        let handler =
            handler_name(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str));
        let method = method_name(request.method());
        let request_bytes = content_length(request.headers());
        let in_flight =
            InFlight::enter(metrics.in_flight.with_label_values(&[handler.as_str(), method]));
        let started = clock.monotonic();
        let answer = self.inner.call(request);
        async move {
            let response = answer.await?;
            let code = response.status().as_str().to_owned();
            let labels = [handler.as_str(), &code, method];
            metrics.requests.with_label_values(&labels).inc();
            let seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
            metrics.seconds.with_label_values(&labels).observe(seconds);
            metrics
                .request_bytes
                .with_label_values(&labels)
                .observe(request_bytes.unwrap_or_default());
            if let Some(bytes) = content_length(response.headers()) {
                metrics.response_bytes.with_label_values(&labels).observe(bytes);
            }
            drop(in_flight);
            Ok(response)
        }
        .boxed()
    }
}

/// Decremented even if the client disconnects before the answer.
struct InFlight(Gauge);

impl InFlight {
    fn enter(gauge: Gauge) -> InFlight {
        gauge.inc();
        InFlight(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A bounded set of names, because a client may send any token as the method.
fn method_name(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "POST" => "post",
        "HEAD" => "head",
        "OPTIONS" => "options",
        "PUT" => "put",
        "DELETE" => "delete",
        _ => "other",
    }
}

fn content_length(headers: &http::HeaderMap) -> Option<f64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `/api/v1/query_range` is `query_range`, `/api/v1/label/{name}/values` is `label_values`. Only
/// routes are used, never raw paths: those come from outside and would make series without end.
fn handler_name(route: Option<&str>) -> String {
    let Some(route) = route else { return "other".to_owned() };
    let route = route.split_once("/api/v1/").map_or(route, |(_, rest)| rest);
    let words: Vec<&str> =
        route.split('/').filter(|part| !part.is_empty() && !part.starts_with('{')).collect();
    if words.is_empty() { "root".to_owned() } else { words.join("_") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_named_by_route() {
        assert_eq!(handler_name(Some("/api/v1/query")), "query");
        assert_eq!(handler_name(Some("/prefix/api/v1/label/{name}/values")), "label_values");
        assert_eq!(handler_name(Some("/")), "root");
        assert_eq!(handler_name(None), "other");
    }
}

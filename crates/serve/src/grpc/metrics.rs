//! `grpc_server_started_total` and its siblings: calls by method and outcome, and their messages.

mod messages;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use model::Clock;
use prometheus::{Counter, CounterVec};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::metrics::GrpcMetrics;
use messages::{CountedMessages, Messages};

#[derive(Clone, Debug)]
pub(crate) struct GrpcMetricsLayer {
    pub(crate) metrics: GrpcMetrics,
    pub(crate) clock: Arc<dyn Clock>,
    /// Known methods by path, and whether they stream their answer. Unknown ones share one label:
    /// paths come from outside and would make series without end.
    pub(crate) methods: Arc<HashMap<String, bool>>,
}

impl GrpcMetricsLayer {
    /// Shows every series of the known methods from the start, so that rates and alerts have a zero
    /// to begin with.
    pub(crate) fn show(&self) {
        for (path, streams) in self.methods.iter() {
            let MethodLabels { kind, service, method } = MethodLabels::of(path, *streams);
            let labels = [kind, service, method];
            self.metrics.seconds.with_label_values(&labels);
            for counters in [&self.metrics.started, &self.metrics.received, &self.metrics.sent] {
                counters.with_label_values(&labels);
            }
            for code in CODES {
                let labels = [kind, service, method, code_name(code)];
                self.metrics.handled.with_label_values(&labels);
            }
        }
    }
}

/// The values of `grpc_type`, `grpc_service` and `grpc_method`.
struct MethodLabels<'a> {
    kind: &'static str,
    service: &'a str,
    method: &'a str,
}

impl<'a> MethodLabels<'a> {
    fn of(path: &'a str, streams: bool) -> MethodLabels<'a> {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        MethodLabels { kind: if streams { "server_stream" } else { "unary" }, service, method }
    }
}

impl<S> Layer<S> for GrpcMetricsLayer {
    type Service = MeasuredGrpc<S>;

    fn layer(&self, inner: S) -> MeasuredGrpc<S> {
        MeasuredGrpc { inner, layer: self.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct MeasuredGrpc<S> {
    inner: S,
    layer: GrpcMetricsLayer,
}

impl<S> Service<Request<Body>> for MeasuredGrpc<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = GrpcCall::start(&self.layer, request.uri().path());
        let received = call.messages(&self.layer.metrics.received);
        let answer = self.inner.call(request.map(|body| {
            Body::new(CountedMessages { body, messages: Messages::default(), counter: received })
        }));
        async move {
            let response = answer.await?;
            // an answer that fails before its first message has its status in the head
            let code = Status::from_header_map(response.headers()).map(|status| status.code());
            if response.headers().contains_key("grpc-status") {
                call.finish(code.unwrap_or(Code::Unknown));
                return Ok(response);
            }
            let counter = call.messages(&call.metrics.sent);
            let messages = Messages::default();
            Ok(response.map(|body| {
                Body::new(CountedMessages { body: Counted { body, call }, messages, counter })
            }))
        }
        .boxed()
    }
}

/// One call from its start to its end. A call that is dropped unfinished counts as canceled by the
/// client.
struct GrpcCall {
    metrics: GrpcMetrics,
    clock: Arc<dyn Clock>,
    kind: &'static str,
    service: String,
    method: String,
    started: Duration,
    finished: bool,
}

impl GrpcCall {
    fn start(layer: &GrpcMetricsLayer, path: &str) -> GrpcCall {
        let MethodLabels { kind, service, method } = match layer.methods.get(path) {
            Some(streams) => MethodLabels::of(path, *streams),
            None => MethodLabels { kind: "unary", service: "unknown", method: "unknown" },
        };
        let call = GrpcCall {
            metrics: layer.metrics.clone(),
            clock: Arc::clone(&layer.clock),
            kind,
            service: service.to_owned(),
            method: method.to_owned(),
            started: layer.clock.monotonic(),
            finished: false,
        };
        call.metrics.started.with_label_values(&[kind, service, method]).inc();
        call
    }

    fn messages(&self, counters: &CounterVec) -> Counter {
        counters.with_label_values(&[self.kind, &self.service, &self.method])
    }

    fn finish(mut self, code: Code) {
        self.record(code);
    }

    fn record(&mut self, code: Code) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let labels = [self.kind, &self.service, &self.method];
        let seconds = self.clock.monotonic().saturating_sub(self.started).as_secs_f64();
        self.metrics.seconds.with_label_values(&labels).observe(seconds);
        self.metrics
            .handled
            .with_label_values(&[labels[0], labels[1], labels[2], code_name(code)])
            .inc();
    }
}

impl Drop for GrpcCall {
    fn drop(&mut self) {
        self.record(Code::Cancelled);
    }
}

/// A body that finds the call's status in its trailers.
struct Counted {
    body: Body,
    call: GrpcCall,
}

impl http_body::Body for Counted {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = trailer_code(trailers);
                    self.call.record(code);
                }
            }
            Poll::Ready(Some(Err(status))) => self.call.record(status.code()),
            Poll::Ready(None) => self.call.record(Code::Ok),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn trailer_code(trailers: &HeaderMap) -> Code {
    Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code())
}

/// All of gRPC's.
const CODES: [Code; 17] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

/// A code as Go's gRPC spells it, which dashboards select on.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

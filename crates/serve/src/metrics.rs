//! The registry of a process and what every process reports of itself.

mod process;

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::{Error, Result};

/// What `thanos_build_info` tells, under the labels that dashboards join on.
#[derive(Clone, Debug)]
pub struct BuildInfo {
    pub version: String,
    pub revision: String,
}

/// A registry that already reports `process_*` and `thanos_build_info`.
pub fn registry(build: &BuildInfo) -> Result<Registry> {
    let registry = Registry::new();
    let info = GaugeVec::new(
        Opts::new("thanos_build_info", "Always 1; the labels say which build runs."),
        &["version", "revision", "branch", "goversion"],
    )
    .map_err(broken)?;
    info.with_label_values(&[build.version.as_str(), build.revision.as_str(), "", "rust"]).set(1.0);
    registry.register(Box::new(info)).map_err(broken)?;
    registry.register(Box::new(process::Process::new().map_err(broken)?)).map_err(broken)?;
    Ok(registry)
}

fn broken(error: prometheus::Error) -> Error {
    Error::Start { what: "metrics", reason: error.to_string() }
}

/// Seconds; the upper ones are where alerts on slow queries look.
const REQUEST_SECONDS: [f64; 17] =
    [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0, 720.0];

/// Bytes, from 256 to 16 MiB in powers of four.
const SIZES: [f64; 9] = [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) seconds: HistogramVec,
    pub(crate) request_bytes: HistogramVec,
    pub(crate) response_bytes: HistogramVec,
    pub(crate) in_flight: IntGaugeVec,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<HttpMetrics> {
        let labels = &["handler", "code", "method"];
        let histogram = |name, help, buckets: &[f64]| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels).map_err(broken)
        };
        let metrics = HttpMetrics {
            requests: IntCounterVec::new(Opts::new("http_requests_total", "HTTP requests answered."), labels)
                .map_err(broken)?,
            seconds: histogram(
                "http_request_duration_seconds",
                "Seconds from the request's head to the answer's head.",
                &REQUEST_SECONDS,
            )?,
            request_bytes: histogram("http_request_size_bytes", "Size of request bodies.", &SIZES)?,
            response_bytes: histogram("http_response_size_bytes", "Size of answers whose length is known.", &SIZES)?,
            in_flight: IntGaugeVec::new(
                Opts::new("http_inflight_requests", "HTTP requests being answered."),
                &["handler", "method"],
            )
            .map_err(broken)?,
        };
        registry.register(Box::new(metrics.requests.clone())).map_err(broken)?;
        for histogram in [&metrics.seconds, &metrics.request_bytes, &metrics.response_bytes] {
            registry.register(Box::new(histogram.clone())).map_err(broken)?;
        }
        registry.register(Box::new(metrics.in_flight.clone())).map_err(broken)?;
        Ok(metrics)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct GrpcMetrics {
    pub(crate) started: IntCounterVec,
    pub(crate) handled: IntCounterVec,
    pub(crate) seconds: HistogramVec,
}

impl GrpcMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<GrpcMetrics> {
        let metrics = GrpcMetrics {
            started: IntCounterVec::new(
                Opts::new("grpc_server_started_total", "RPCs started on the server."),
                &["grpc_type", "grpc_service", "grpc_method"],
            )
            .map_err(broken)?,
            handled: IntCounterVec::new(
                Opts::new("grpc_server_handled_total", "RPCs completed on the server, whatever their outcome."),
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            )
            .map_err(broken)?,
            seconds: HistogramVec::new(
                HistogramOpts::new("grpc_server_handling_seconds", "Seconds until an RPC was completed.")
                    .buckets(REQUEST_SECONDS.to_vec()),
                &["grpc_type", "grpc_service", "grpc_method"],
            )
            .map_err(broken)?,
        };
        registry.register(Box::new(metrics.started.clone())).map_err(broken)?;
        registry.register(Box::new(metrics.handled.clone())).map_err(broken)?;
        registry.register(Box::new(metrics.seconds.clone())).map_err(broken)?;
        Ok(metrics)
    }
}

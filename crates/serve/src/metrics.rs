//! The registry of a process and what every process reports about itself.

mod go;
mod process;
mod status;

pub use go::{Allocated, go_metrics};
pub(crate) use status::Status;

use prometheus::{CounterVec, GaugeVec, HistogramVec, Registry};

use crate::{Registrar, Result};

/// What `thanos_build_info` reports, under the labels that dashboards join on.
#[derive(Clone, Debug)]
pub struct BuildInfo {
    pub version: String,
    pub revision: String,
}

/// A registry that already reports `process_*` and `thanos_build_info`.
pub fn registry(build: &BuildInfo) -> Result<Registry> {
    let registry = Registry::new();
    let new = Registrar::new(&registry);
    let labels = ["version", "revision", "branch", "goversion"];
    let info =
        new.gauges("thanos_build_info", "Always 1; the labels say which build runs.", &labels)?;
    info.with_label_values(&[build.version.as_str(), build.revision.as_str(), "", "rust"]).set(1.0);
    new.add("process_*", process::ProcessMetrics::new())?;
    Ok(registry)
}

/// Seconds; the upper ones are where alerts on slow queries look.
const REQUEST_SECONDS: [f64; 17] = [
    0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0,
    720.0,
];

/// Bytes, from 256 to 16 MiB in powers of four.
const SIZES: [f64; 9] =
    [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    pub(crate) requests: CounterVec,
    pub(crate) seconds: HistogramVec,
    pub(crate) request_bytes: HistogramVec,
    pub(crate) response_bytes: HistogramVec,
    pub(crate) in_flight: GaugeVec,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<HttpMetrics> {
        let new = Registrar::new(registry);
        let labels = ["handler", "code", "method"];
        Ok(HttpMetrics {
            requests: new.counters("http_requests_total", "HTTP requests answered.", &labels)?,
            seconds: new.histograms(
                "http_request_duration_seconds",
                "Seconds from the request's head to the answer's head.",
                &REQUEST_SECONDS,
                &labels,
            )?,
            request_bytes: new.histograms(
                "http_request_size_bytes",
                "Size of request bodies.",
                &SIZES,
                &labels,
            )?,
            response_bytes: new.histograms(
                "http_response_size_bytes",
                "Size of answers whose length is known.",
                &SIZES,
                &labels,
            )?,
            in_flight: new.gauges(
                "http_inflight_requests",
                "HTTP requests being answered.",
                &["handler", "method"],
            )?,
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct GrpcMetrics {
    pub(crate) started: CounterVec,
    pub(crate) handled: CounterVec,
    pub(crate) seconds: HistogramVec,
    pub(crate) received: CounterVec,
    pub(crate) sent: CounterVec,
}

impl GrpcMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<GrpcMetrics> {
        let new = Registrar::new(registry);
        let method = ["grpc_type", "grpc_service", "grpc_method"];
        Ok(GrpcMetrics {
            started: new.counters(
                "grpc_server_started_total",
                "RPCs started on the server.",
                &method,
            )?,
            handled: new.counters(
                "grpc_server_handled_total",
                "RPCs completed on the server, whatever their outcome.",
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            )?,
            seconds: new.histograms(
                "grpc_server_handling_seconds",
                "Seconds until an RPC was completed.",
                &REQUEST_SECONDS,
                &method,
            )?,
            received: new.counters(
                "grpc_server_msg_received_total",
                "Messages of RPCs received on the server.",
                &method,
            )?,
            sent: new.counters(
                "grpc_server_msg_sent_total",
                "Messages of RPCs sent by the server.",
                &method,
            )?,
        })
    }
}

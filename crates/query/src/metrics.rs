//! The metrics of a querier, under the names Thanos' dashboards and alerts know.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::Result;

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) gate_in_flight: IntGauge,
    pub(crate) gate_max: IntGauge,
    pub(crate) gate_queries: IntCounter,
    pub(crate) gate_seconds: Histogram,
    pub(crate) dns_lookups: IntCounter,
    pub(crate) dns_failures: IntCounter,
    pub(crate) connections: IntGaugeVec,
    pub(crate) range_seconds: Histogram,
    pub(crate) client_started: IntCounterVec,
    pub(crate) client_handled: IntCounterVec,
    pub(crate) client_seconds: HistogramVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Metrics> {
        let metrics = Metrics {
            gate_in_flight: IntGauge::new(
                "thanos_query_concurrent_gate_queries_in_flight",
                "Queries being evaluated now.",
            )?,
            gate_max: IntGauge::new(
                "thanos_query_concurrent_gate_queries_max",
                "Most queries that are evaluated at once; more wait.",
            )?,
            gate_queries: IntCounter::new(
                "thanos_query_concurrent_gate_queries_total",
                "Queries that passed the gate.",
            )?,
            gate_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "thanos_query_concurrent_gate_duration_seconds",
                    "Seconds queries waited at the gate.",
                )
                .buckets(vec![0.01, 0.05, 0.1, 0.25, 0.6, 1.0, 2.0, 3.5, 5.0, 10.0]),
            )?,
            dns_lookups: IntCounter::new("thanos_query_store_apis_dns_lookups_total", "DNS lookups of endpoints.")?,
            dns_failures: IntCounter::new(
                "thanos_query_store_apis_dns_failures_total",
                "DNS lookups of endpoints that failed.",
            )?,
            connections: IntGaugeVec::new(
                Opts::new(
                    "thanos_store_nodes_grpc_connections",
                    "Healthy endpoints by their external labels and kind.",
                ),
                &["external_labels", "store_type"],
            )?,
            range_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "thanos_query_range_requested_timespan_duration_seconds",
                    "Seconds between start and end of range queries.",
                )
                .buckets(
                    [900, 1800, 3600, 7200, 21600, 43200, 86400, 172_800, 604_800, 2_592_000, 7_776_000]
                        .map(f64::from)
                        .to_vec(),
                ),
            )?,
            client_started: IntCounterVec::new(
                Opts::new("grpc_client_started_total", "RPCs started on endpoints."),
                &["grpc_type", "grpc_service", "grpc_method"],
            )?,
            client_handled: IntCounterVec::new(
                Opts::new("grpc_client_handled_total", "RPCs on endpoints that ended, whatever their outcome."),
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            )?,
            client_seconds: HistogramVec::new(
                HistogramOpts::new("grpc_client_handling_seconds", "Seconds until an RPC on an endpoint ended.")
                    .buckets(vec![0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0]),
                &["grpc_type", "grpc_service", "grpc_method"],
            )?,
        };
        registry.register(Box::new(metrics.gate_in_flight.clone()))?;
        registry.register(Box::new(metrics.gate_max.clone()))?;
        registry.register(Box::new(metrics.gate_queries.clone()))?;
        registry.register(Box::new(metrics.gate_seconds.clone()))?;
        registry.register(Box::new(metrics.dns_lookups.clone()))?;
        registry.register(Box::new(metrics.dns_failures.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.range_seconds.clone()))?;
        registry.register(Box::new(metrics.client_started.clone()))?;
        registry.register(Box::new(metrics.client_handled.clone()))?;
        registry.register(Box::new(metrics.client_seconds.clone()))?;
        Ok(metrics)
    }
}

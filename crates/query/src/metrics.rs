//! The metrics of a querier, under the names that Thanos' dashboards and alerts use.

use prometheus::{CounterVec, GaugeVec, Histogram, HistogramVec, Registry};
use serve::{GATE_SECONDS, GateMetrics, Registrar, SECONDS};
use upstream::dns::DnsMetrics;

use crate::Result;

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) gate: GateMetrics,
    pub(crate) dns: DnsMetrics,
    pub(crate) connections: GaugeVec,
    pub(crate) range_seconds: Histogram,
    pub(crate) client_started: CounterVec,
    pub(crate) client_handled: CounterVec,
    pub(crate) client_seconds: HistogramVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Metrics> {
        let new = Registrar::new(registry);
        let method = ["grpc_type", "grpc_service", "grpc_method"];
        Ok(Metrics {
            gate: GateMetrics {
                in_flight: new.gauge(
                    "thanos_query_concurrent_gate_queries_in_flight",
                    "Queries being evaluated now.",
                )?,
                max: new.gauge(
                    "thanos_query_concurrent_gate_queries_max",
                    "Most queries that are evaluated at once; more wait.",
                )?,
                total: new.counter(
                    "thanos_query_concurrent_gate_queries_total",
                    "Queries that passed the gate.",
                )?,
                seconds: vec![new.histogram(
                    "thanos_query_concurrent_gate_queries_duration_seconds",
                    "Seconds queries waited at the gate.",
                    &GATE_SECONDS,
                )?],
            },
            dns: DnsMetrics {
                // alerts and dashboards know the older names
                lookups: vec![
                    new.counter("thanos_query_endpoints_dns_lookups_total", LOOKUPS)?,
                    new.counter("thanos_query_store_apis_dns_lookups_total", LOOKUPS)?,
                ],
                failures: vec![
                    new.counter("thanos_query_endpoints_dns_failures_total", FAILURES)?,
                    new.counter("thanos_query_store_apis_dns_failures_total", FAILURES)?,
                ],
                results: Some(new.gauges(
                    "thanos_query_endpoints_dns_provider_results",
                    "Addresses that a name was last found to have.",
                    &["addr"],
                )?),
            },
            connections: new.gauges(
                "thanos_store_nodes_grpc_connections",
                "Healthy endpoints by their external labels and kind.",
                &["external_labels", "store_type"],
            )?,
            range_seconds: new.histogram(
                "thanos_query_range_requested_timespan_duration_seconds",
                "Seconds between start and end of range queries.",
                &RANGE_SECONDS.map(f64::from),
            )?,
            client_started: new.counters(
                "grpc_client_started_total",
                "RPCs started on endpoints.",
                &method,
            )?,
            client_handled: new.counters(
                "grpc_client_handled_total",
                "RPCs on endpoints that ended, whatever their outcome.",
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            )?,
            client_seconds: new.histograms(
                "grpc_client_handling_seconds",
                "Seconds until an RPC on an endpoint ended.",
                &SECONDS,
                &method,
            )?,
        })
    }
}

/// From a quarter of an hour to three months.
const RANGE_SECONDS: [u32; 11] =
    [900, 1800, 3600, 7200, 21600, 43200, 86400, 172_800, 604_800, 2_592_000, 7_776_000];

const LOOKUPS: &str = "DNS lookups of endpoints.";
const FAILURES: &str = "DNS lookups of endpoints that failed.";

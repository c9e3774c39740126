//! The metrics of this crate, under the names that Thanos' dashboards and alerts know.

use prometheus::core::Collector;
use prometheus::{Counter, Gauge, Registry};

use crate::{Error, Kind, Result};

#[derive(Clone, Debug)]
pub(crate) struct SidecarMetrics {
    pub(crate) prometheus_up: Gauge,
    pub(crate) last_heartbeat: Gauge,
}

impl SidecarMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<SidecarMetrics> {
        Ok(SidecarMetrics {
            prometheus_up: register(
                registry,
                Gauge::new("thanos_sidecar_prometheus_up", "1 if the sidecar can reach its Prometheus, else 0."),
            )?,
            last_heartbeat: register(
                registry,
                Gauge::new(
                    "thanos_sidecar_last_heartbeat_success_time_seconds",
                    "Unix time in seconds at which Prometheus last answered.",
                ),
            )?,
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ReloaderMetrics {
    pub(crate) apply_operations: Counter,
    pub(crate) apply_failures: Counter,
    pub(crate) reloads: Counter,
    pub(crate) reload_failures: Counter,
    pub(crate) last_reload_successful: Gauge,
    pub(crate) last_reload_success: Gauge,
}

impl ReloaderMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<ReloaderMetrics> {
        let counter = |name: &str, help: &str| register(registry, Counter::new(name, help));
        let gauge = |name: &str, help: &str| register(registry, Gauge::new(name, help));
        Ok(ReloaderMetrics {
            apply_operations: counter(
                "thanos_sidecar_reloader_config_apply_operations_total",
                "Times the watched files were looked through.",
            )?,
            apply_failures: counter(
                "thanos_sidecar_reloader_config_apply_operations_failed_total",
                "Times looking through the watched files failed.",
            )?,
            reloads: counter("thanos_sidecar_reloader_reloads_total", "Reloads asked of Prometheus.")?,
            reload_failures: counter(
                "thanos_sidecar_reloader_reloads_failed_total",
                "Reloads that Prometheus refused or did not answer.",
            )?,
            last_reload_successful: gauge(
                "thanos_sidecar_reloader_last_reload_successful",
                "1 if the last reload succeeded, else 0.",
            )?,
            last_reload_success: gauge(
                "thanos_sidecar_reloader_last_reload_success_timestamp_seconds",
                "Unix time in seconds of the last successful reload.",
            )?,
        })
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> Result<C> {
    let failed = |e: prometheus::Error| Error::new(Kind::Internal, format!("registering metrics: {e}"));
    let metric = metric.map_err(failed)?;
    registry.register(Box::new(metric.clone())).map_err(failed)?;
    Ok(metric)
}

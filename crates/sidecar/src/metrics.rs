//! The metrics of this crate, under the names that Thanos' dashboards and alerts use.

use prometheus::{Counter, Gauge, Registry};
use serve::Registrar;

use crate::Result;

#[derive(Clone, Debug)]
pub(crate) struct SidecarMetrics {
    pub(crate) prometheus_up: Gauge,
    pub(crate) last_heartbeat: Gauge,
}

impl SidecarMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<SidecarMetrics> {
        let new = Registrar::new(registry);
        Ok(SidecarMetrics {
            prometheus_up: new.gauge(
                "thanos_sidecar_prometheus_up",
                "1 if the sidecar can reach its Prometheus, else 0.",
            )?,
            last_heartbeat: new.gauge(
                "thanos_sidecar_last_heartbeat_success_time_seconds",
                "Unix time in seconds at which Prometheus last answered.",
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
        let new = Registrar::new(registry);
        Ok(ReloaderMetrics {
            apply_operations: new.counter(
                "thanos_sidecar_reloader_config_apply_operations_total",
                "Times the watched files were looked through.",
            )?,
            apply_failures: new.counter(
                "thanos_sidecar_reloader_config_apply_operations_failed_total",
                "Times looking through the watched files failed.",
            )?,
            reloads: new
                .counter("thanos_sidecar_reloader_reloads_total", "Reloads asked of Prometheus.")?,
            reload_failures: new.counter(
                "thanos_sidecar_reloader_reloads_failed_total",
                "Reloads that Prometheus refused or did not answer.",
            )?,
            last_reload_successful: new.gauge(
                "thanos_sidecar_reloader_last_reload_successful",
                "1 if the last reload succeeded, else 0.",
            )?,
            last_reload_success: new.gauge(
                "thanos_sidecar_reloader_last_reload_success_timestamp_seconds",
                "Unix time in seconds of the last successful reload.",
            )?,
        })
    }
}

//! What requests for series return.

use prometheus::{Gauge, Histogram, Registry};
use serve::Registrar;

use merge::Series;

/// The metrics of the service, under Thanos' names.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    series: Histogram,
    chunks: Histogram,
    pending: Gauge,
}

impl ServerMetrics {
    /// # Errors
    /// `Internal` when they are registered already.
    pub fn new(registry: &Registry) -> serve::Result<ServerMetrics> {
        let new = Registrar::new(registry);
        Ok(ServerMetrics {
            series: new.histogram(
                "thanos_store_server_series_requested",
                "Series that a request for series returned.",
                &[1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6],
            )?,
            chunks: new.histogram(
                "thanos_store_server_chunks_requested",
                "Chunks that a request for series returned.",
                &[1.0, 100.0, 1e3, 1e4, 1e5, 1e7, 1e8, 1e9],
            )?,
            pending: new.gauge(
                "thanos_store_server_pending_series_requests",
                "Requests for series being answered now.",
            )?,
        })
    }

    /// A request begins; what it returned is recorded when the result is dropped.
    pub(super) fn begin(&self) -> Returned {
        self.pending.inc();
        Returned { metrics: self.clone(), series: 0, chunks: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Returned {
    metrics: ServerMetrics,
    series: usize,
    chunks: usize,
}

impl Returned {
    pub(super) fn add(&mut self, series: &Series) {
        self.series += 1;
        self.chunks += series.chunks.len();
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        self.metrics.pending.dec();
        self.metrics.series.observe(self.series as f64);
        self.metrics.chunks.observe(self.chunks as f64);
    }
}

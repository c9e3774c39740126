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

#[cfg(test)]
mod tests {
    use merge::{ChunkBytes, ChunkContent, SeriesChunk};
    use model::Labels;
    use tsdb::chunk::Encoding;

    use super::*;

    #[test]
    fn what_a_request_returned_is_recorded_at_its_end() {
        let metrics = ServerMetrics::new(&Registry::new()).unwrap();
        let mut returned = metrics.begin();
        let data = bytes::Bytes::new();
        let content = ChunkContent::Raw(ChunkBytes { encoding: Encoding::Xor, data });
        let chunks = vec![SeriesChunk::new(0, 1, content); 3];
        for _ in 0..2 {
            returned.add(&Series { labels: Labels::empty(), chunks: chunks.clone() });
        }
        assert_eq!((metrics.pending.get(), metrics.series.get_sample_count()), (1.0, 0));
        drop(returned);
        assert_eq!((metrics.pending.get(), metrics.series.get_sample_count()), (0.0, 1));
        assert_eq!((metrics.series.get_sample_sum(), metrics.chunks.get_sample_sum()), (2.0, 6.0));
    }
}

//! At most so many queries at once; the others wait in order.

use std::sync::Arc;

use model::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

#[derive(Clone, Debug)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

/// A query's place; given back on drop.
#[derive(Debug)]
pub(crate) struct Pass {
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// Zero means one: a gate that lets nobody through helps nobody.
    pub(crate) fn new(max: usize, metrics: Metrics, clock: Arc<dyn Clock>) -> Gate {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        metrics.gate_max.set(max as i64);
        Gate { permits: Arc::new(Semaphore::new(max)), metrics, clock }
    }

    pub(crate) async fn enter(&self) -> Option<Pass> {
        let came = self.clock.monotonic();
        // the semaphore is never closed
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        self.metrics.gate_seconds.observe(self.clock.monotonic().saturating_sub(came).as_secs_f64());
        self.metrics.gate_queries.inc();
        self.metrics.gate_in_flight.inc();
        Some(Pass { metrics: self.metrics.clone(), _permit: permit })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.metrics.gate_in_flight.dec();
    }
}

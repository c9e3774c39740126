//! Bounds how many series requests are answered at once.

use std::sync::Arc;

use model::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

#[derive(Debug)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

/// The right to be answered; given back on drop.
#[derive(Debug)]
pub(crate) struct Pass {
    in_flight: prometheus::Gauge,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub(crate) fn new(max: usize, metrics: Metrics, clock: Arc<dyn Clock>) -> Gate {
        metrics.gate_max.set(max as f64);
        Gate { permits: Arc::new(Semaphore::new(max.max(1))), metrics, clock }
    }

    pub(crate) async fn pass(&self) -> Pass {
        let start = self.clock.monotonic();
        // nobody closes it
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let waited = self.clock.monotonic().saturating_sub(start);
        self.metrics.gate_seconds.observe(waited.as_secs_f64());
        self.metrics.gate_total.inc();
        self.metrics.gate_in_flight.inc();
        Pass { in_flight: self.metrics.gate_in_flight.clone(), _permit: permit }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

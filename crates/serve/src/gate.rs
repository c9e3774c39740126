//! Limits how many run at once; the others wait in order.

use std::sync::Arc;

use model::Clock;
use prometheus::{Counter, Gauge, Histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The metrics of a gate. Each component makes them under its own names.
#[derive(Clone, Debug)]
pub struct GateMetrics {
    pub in_flight: Gauge,
    pub max: Gauge,
    /// How many passed.
    pub total: Counter,
    /// How long each of them had waited, in seconds.
    pub seconds: Histogram,
}

/// Bounds how many do something at once. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    permits: Arc<Semaphore>,
    metrics: GateMetrics,
    clock: Arc<dyn Clock>,
}

/// A place behind the gate; released on drop.
#[derive(Debug)]
pub struct Pass {
    in_flight: Gauge,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// Zero means one: a gate that lets nobody through is useless.
    pub fn new(max: usize, metrics: GateMetrics, clock: Arc<dyn Clock>) -> Gate {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        metrics.max.set(max as f64);
        Gate { permits: Arc::new(Semaphore::new(max)), metrics, clock }
    }

    /// Waits for a place, first come, first served. A caller that stops waiting loses only its
    /// turn.
    pub async fn enter(&self) -> Pass {
        let came = self.clock.monotonic();
        // it is never closed, so this cannot fail
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        self.metrics.seconds.observe(self.clock.monotonic().saturating_sub(came).as_secs_f64());
        self.metrics.total.inc();
        self.metrics.in_flight.inc();
        Pass { in_flight: self.metrics.in_flight.clone(), _permit: permit }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use model::SystemClock;
    use prometheus::Registry;

    use super::*;
    use crate::Registrar;

    #[tokio::test]
    async fn a_place_is_given_back_on_drop() {
        let registry = Registry::new();
        let new = Registrar::new(&registry);
        let metrics = GateMetrics {
            in_flight: new.gauge("in_flight", "In.").unwrap(),
            max: new.gauge("max", "Most.").unwrap(),
            total: new.counter("total", "All.").unwrap(),
            seconds: new.histogram("seconds", "Waited.", &[1.0]).unwrap(),
        };
        let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
        let gate = Gate::new(0, metrics.clone(), clock);
        let pass = gate.enter().await;
        assert_eq!((metrics.in_flight.get(), metrics.max.get()), (1.0, 1.0));
        let other = gate.clone();
        let mut waiting = Box::pin(other.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(pass);
        let pass = waiting.await;
        assert_eq!((metrics.in_flight.get(), metrics.total.get()), (1.0, 2.0));
        drop(pass);
        assert_eq!((metrics.in_flight.get(), metrics.seconds.get_sample_count()), (0.0, 2));
    }
}

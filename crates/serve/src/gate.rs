//! Limits how many run at once; the others wait in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use model::Clock;
use prometheus::{Counter, Gauge, Histogram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::Task;

/// How long a stream keeps its place while nobody asks for its next item: longer than its caller is
/// busy with the last one, and much shorter than a client is waited for that does not read.
const KEPT: Duration = Duration::from_secs(5);

/// The metrics of a gate. Each component makes them under its own names.
#[derive(Clone, Debug)]
pub struct GateMetrics {
    pub in_flight: Gauge,
    pub max: Gauge,
    /// How many passed.
    pub total: Counter,
    /// How long each of them had waited, in seconds; the same under each name that it has had.
    pub seconds: Vec<Histogram>,
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
        let pass = self.place().await;
        let waited = self.clock.monotonic().saturating_sub(came).as_secs_f64();
        self.metrics.seconds.iter().for_each(|seconds| seconds.observe(waited));
        self.metrics.total.inc();
        pass
    }

    async fn place(&self) -> Pass {
        // it is never closed, so this cannot fail
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        self.metrics.in_flight.inc();
        Pass { in_flight: self.metrics.in_flight.clone(), _permit: permit }
    }

    /// A stream that has a place behind the gate while its items are made, and gives it to others
    /// while nobody asks for the next one. To be called on a tokio runtime.
    pub fn hold<S>(self, pass: Pass, items: S) -> impl Stream<Item = S::Item> + Send + use<S>
    where
        S: Stream<Item: Send> + Send + Unpin + 'static,
    {
        let lent = Lent { pass: Some(pass), unasked_since: Some(Instant::now()) };
        let lent = Arc::new(Mutex::new(lent));
        let watch = Task::spawn(take_back(Arc::downgrade(&lent)));
        stream::unfold((items, watch), move |(mut items, watch)| {
            let (gate, lent) = (self.clone(), Arc::clone(&lent));
            async move {
                let has_place = lock(&lent).asked();
                if !has_place {
                    let pass = gate.place().await;
                    lock(&lent).pass = Some(pass);
                }
                let item = items.next().await;
                lock(&lent).made(item.is_none());
                Some((item?, (items, watch)))
            }
        })
    }
}

/// A place that a stream has for now.
#[derive(Debug)]
struct Lent {
    pass: Option<Pass>,
    /// `None` while an item is being made.
    unasked_since: Option<Instant>,
}

impl Lent {
    /// Returns whether the place is still there.
    fn asked(&mut self) -> bool {
        self.unasked_since = None;
        self.pass.is_some()
    }

    fn made(&mut self, was_last: bool) {
        self.unasked_since = Some(Instant::now());
        if was_last {
            self.pass = None;
        }
    }
}

fn lock(lent: &Mutex<Lent>) -> MutexGuard<'_, Lent> {
    lent.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take_back(lent: Weak<Mutex<Lent>>) {
    loop {
        tokio::time::sleep(KEPT).await;
        let Some(lent) = lent.upgrade() else { return };
        let mut lent = lock(&lent);
        if lent.unasked_since.is_some_and(|since| since.elapsed() >= KEPT) {
            lent.pass = None;
        }
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

    fn gate(max: usize) -> (Gate, GateMetrics) {
        let registry = Registry::new();
        let new = Registrar::new(&registry);
        let metrics = GateMetrics {
            in_flight: new.gauge("in_flight", "In.").unwrap(),
            max: new.gauge("max", "Most.").unwrap(),
            total: new.counter("total", "All.").unwrap(),
            seconds: vec![new.histogram("seconds", "Waited.", &[1.0]).unwrap()],
        };
        let clock = Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
        (Gate::new(max, metrics.clone(), clock), metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_reads_lets_others_pass() {
        let (gate, metrics) = gate(1);
        let pass = gate.enter().await;
        let mut held = Box::pin(gate.clone().hold(pass, stream::iter(0..3)));
        assert_eq!(held.next().await, Some(0));
        assert!(gate.enter().now_or_never().is_none(), "its reader may only be busy");
        let came = Instant::now();
        let other = gate.enter().await;
        assert!((KEPT..3 * KEPT).contains(&came.elapsed()), "{:?}", came.elapsed());
        // now it is the one that waits
        assert!(held.next().now_or_never().is_none());
        drop(other);
        assert_eq!((held.next().await, metrics.in_flight.get()), (Some(1), 1.0));
        assert_eq!(metrics.total.get(), 2.0, "requests are counted, not turns");
        drop(held);
        assert_eq!(metrics.in_flight.get(), 0.0);
    }

    #[tokio::test]
    async fn a_place_is_given_back_on_drop() {
        let (gate, metrics) = gate(0);
        let pass = gate.enter().await;
        assert_eq!((metrics.in_flight.get(), metrics.max.get()), (1.0, 1.0));
        let other = gate.clone();
        let mut waiting = Box::pin(other.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(pass);
        let pass = waiting.await;
        assert_eq!((metrics.in_flight.get(), metrics.total.get()), (1.0, 2.0));
        drop(pass);
        assert_eq!((metrics.in_flight.get(), metrics.seconds[0].get_sample_count()), (0.0, 2));
    }
}

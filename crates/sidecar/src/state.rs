//! What the sidecar currently knows about its Prometheus.

use std::sync::{Arc, PoisonError, RwLock};

use model::{Clock, Labels};
use tokio::sync::watch;

use crate::settings::MinTime;

/// Shared by the heartbeat, which writes it, and the store and shipper, which read it.
#[derive(Debug)]
pub(crate) struct State {
    known: RwLock<Known>,
    ready: watch::Sender<bool>,
    limit: MinTime,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Debug)]
struct Known {
    external_labels: Labels,
    /// The oldest sample Prometheus says it has, in milliseconds.
    lowest: i64,
}

impl State {
    pub(crate) fn new(limit: MinTime, clock: Arc<dyn Clock>) -> State {
        let known = RwLock::new(Known { external_labels: Labels::empty(), lowest: i64::MIN });
        State { known, ready: watch::channel(false).0, limit, clock }
    }

    pub(crate) fn external_labels(&self) -> Labels {
        self.known().external_labels
    }

    /// The oldest time to serve, in milliseconds.
    pub(crate) fn min_time(&self) -> i64 {
        self.known().lowest.max(self.limit.as_of(self.clock.now()))
    }

    /// Whether Prometheus answered when it was last asked.
    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub(crate) fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub(crate) fn set_labels(&self, external_labels: Labels) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).external_labels =
            external_labels;
    }

    pub(crate) fn set_lowest(&self, lowest: i64) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).lowest = lowest;
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

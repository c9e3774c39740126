//! What a query may hold of the process' memory, as DataFusion's memory pool.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion_common::{DataFusionError, Result};
use datafusion_execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use model::{Budget, BudgetExceeded, Reservation};
use tokio::sync::oneshot;

use crate::error::{Error, Kind, fail};

/// Charges what the operators of one query hold to its share of a [`Budget`].
#[derive(Debug)]
pub(crate) struct QueryMemory {
    share: Budget,
    /// The least that the plan needs.
    estimate: u64,
    held: Mutex<Reservation>,
    /// Gone with the query's last reservation; dropped after what is held.
    _returned: oneshot::Sender<()>,
}

/// The end of a query's memory.
#[derive(Debug)]
pub(crate) struct MemoryReturned(oneshot::Receiver<()>);

impl MemoryReturned {
    /// Waits until all that the query held is back in its share: operators on other threads end a
    /// moment after the query did.
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the sender is dropped.
        let _ = self.0.await;
    }
}

impl QueryMemory {
    pub(crate) fn new(share: Budget, estimate: u64) -> (QueryMemory, MemoryReturned) {
        let held = Mutex::new(share.reserve("the query"));
        let (sender, receiver) = oneshot::channel();
        let memory = QueryMemory { share, estimate, held, _returned: sender };
        (memory, MemoryReturned(receiver))
    }

    fn held(&self) -> MutexGuard<'_, Reservation> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query over the budget. `needed` is what it would hold in all.
pub(crate) fn refused(exceeded: &BudgetExceeded, needed: u64, estimate: u64) -> Error {
    let BudgetExceeded { used, limit, .. } = exceeded;
    Error::new(
        Kind::Execution,
        format!(
            "the query needs {needed} bytes (estimated before it ran: at least {estimate}), but \
             {used} of the {limit} bytes of the memory budget are in use; raise --memory-budget or \
             ask for less"
        ),
    )
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        // Only `try_grow` can refuse; our operators use no other.
        drop(self.try_grow(reservation, additional));
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.held().shrink(shrink as u64);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Result<()> {
        let mut held = self.held();
        let needed = held.bytes() + additional as u64;
        let grown = held.grow(additional as u64);
        grown.map_err(|e| -> DataFusionError { fail(refused(&e, needed, self.estimate)) })
    }

    fn reserved(&self) -> usize {
        usize::try_from(self.held().bytes()).unwrap_or(usize::MAX)
    }

    fn memory_limit(&self) -> MemoryLimit {
        usize::try_from(self.share.limit()).map_or(MemoryLimit::Infinite, MemoryLimit::Finite)
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query(used: {} of {})", self.held().bytes(), self.share.limit())
    }
}

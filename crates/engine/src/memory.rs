//! What a query may hold of the process' memory, as DataFusion's memory pool.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion_common::{DataFusionError, Result};
use datafusion_execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use model::{Budget, BudgetExceeded, Reservation};

use crate::error::{Error, Kind, fail};

/// Charges what the operators of one query hold to a [`Budget`]. The least that the plan needs is
/// reserved before it runs, so that a query that cannot fit does no work, and one that is admitted
/// gets at least that much.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    budget: Budget,
    estimate: u64,
    held: Mutex<HeldMemory>,
}

#[derive(Debug)]
struct HeldMemory {
    reservation: Reservation,
    used: u64,
}

impl QueryMemory {
    /// Reserves the estimate.
    pub(crate) fn admit(budget: &Budget, estimate: u64) -> Result<QueryMemory, Error> {
        let mut reservation = budget.reserve("the query");
        reservation.grow(estimate).map_err(|e| refused(&e, estimate, estimate))?;
        let held = Mutex::new(HeldMemory { reservation, used: 0 });
        Ok(QueryMemory { budget: budget.clone(), estimate, held })
    }

    fn held(&self) -> MutexGuard<'_, HeldMemory> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resize(&self, held: &mut HeldMemory, used: u64) -> Result<(), DataFusionError> {
        let resized = held.reservation.resize(used.max(self.estimate));
        resized.map_err(|e| fail(refused(&e, used, self.estimate)))?;
        held.used = used;
        Ok(())
    }
}

/// `needed` is what the query would hold in all.
fn refused(exceeded: &BudgetExceeded, needed: u64, estimate: u64) -> Error {
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

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        // Only `try_grow` can refuse; our operators use no other.
        let mut held = self.held();
        held.used += additional as u64;
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        let mut held = self.held();
        held.used = held.used.saturating_sub(shrink as u64);
        let kept = held.used.max(self.estimate);
        let surplus = held.reservation.bytes().saturating_sub(kept);
        held.reservation.shrink(surplus);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Result<()> {
        let mut held = self.held();
        let used = held.used + additional as u64;
        self.resize(&mut held, used)
    }

    fn reserved(&self) -> usize {
        usize::try_from(self.held().used).unwrap_or(usize::MAX)
    }

    fn memory_limit(&self) -> MemoryLimit {
        usize::try_from(self.budget.limit()).map_or(MemoryLimit::Infinite, MemoryLimit::Finite)
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query(used: {} of {})", self.held().used, self.budget.limit())
    }
}

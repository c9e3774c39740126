//! The process' memory budget as DataFusion's memory pool.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use model::{Budget, Reservation};

use crate::QueryError;

/// Charges what operators hold to a [`Budget`].
#[derive(Debug)]
pub(crate) struct BudgetPool {
    budget: Budget,
    held: Mutex<Reservation>,
}

impl BudgetPool {
    pub(crate) fn new(budget: Budget) -> BudgetPool {
        let held = Mutex::new(budget.reserve("the query"));
        BudgetPool { budget, held }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Reservation> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryPool for BudgetPool {
    fn name(&self) -> &str {
        "budget"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        // Only `try_grow` can refuse; our operators use no other.
        let _ = self.held().grow(additional as u64);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.held().shrink(shrink as u64);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Result<()> {
        let refused =
            |e: model::BudgetExceeded| DataFusionError::External(Box::new(QueryError::Execution(e.to_string())));
        self.held().grow(additional as u64).map_err(refused)
    }

    fn reserved(&self) -> usize {
        usize::try_from(self.held().bytes()).unwrap_or(usize::MAX)
    }

    fn memory_limit(&self) -> MemoryLimit {
        usize::try_from(self.budget.limit()).map_or(MemoryLimit::Infinite, MemoryLimit::Finite)
    }
}

impl fmt::Display for BudgetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "budget(used: {} of {})", self.budget.used(), self.budget.limit())
    }
}

//! The process' memory budget: one counter, shared by reservations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A reservation would exceed the budget.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{what} needs {wanted} bytes, but {used} of the {limit} bytes of the memory budget are in use; \
     raise --memory-budget or ask for less"
)]
pub struct BudgetExceeded {
    pub what: String,
    pub wanted: u64,
    pub used: u64,
    pub limit: u64,
}

#[derive(Debug)]
struct Pool {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

/// A number of bytes that users share. Clones share one budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Pool>);

impl Budget {
    pub fn new(limit_bytes: u64) -> Budget {
        Budget(Arc::new(Pool {
            limit: limit_bytes,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }))
    }

    pub fn unlimited() -> Budget {
        Budget::new(u64::MAX)
    }

    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most that was ever in use at once.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// An empty reservation; `what` names the user of the memory in errors.
    pub fn reserve(&self, what: impl Into<String>) -> Reservation {
        Reservation { pool: Arc::clone(&self.0), what: what.into(), bytes: 0 }
    }
}

/// Bytes held from a [`Budget`]; returned on drop.
#[derive(Debug)]
pub struct Reservation {
    pool: Arc<Pool>,
    what: String,
    bytes: u64,
}

impl Reservation {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        let limit = self.pool.limit;
        let grown = self.pool.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|total| *total <= limit)
        });
        match grown {
            Ok(before) => {
                self.pool.peak.fetch_max(before + bytes, Ordering::Relaxed);
                self.bytes += bytes;
                Ok(())
            }
            Err(used) => {
                Err(BudgetExceeded { what: self.what.clone(), wanted: bytes, used, limit })
            }
        }
    }

    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn resize(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.shrink(self.bytes - bytes);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_share_the_limit_and_give_back() {
        let budget = Budget::new(100);
        let mut a = budget.reserve("a");
        let mut b = budget.reserve("b");
        a.grow(60).unwrap();
        let refused = b.grow(50).unwrap_err();
        assert_eq!((refused.used, refused.limit), (60, 100));
        drop(a);
        b.grow(50).unwrap();
        assert_eq!((budget.used(), budget.peak()), (50, 60));
    }
}

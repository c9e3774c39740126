//! Memory that one request takes in turns, such as for reads from many blocks at once: it is
//! reserved before it is allocated, and how much is under way is bounded in bytes over all of them.
//!
//! Who wants more waits for its turn, in the order of asking; what is larger than all of the share
//! goes alone. A turn must end without one that was asked for later: a read holds it while the
//! bucket answers and a processor decodes, and no longer.

use std::sync::Arc;

use model::{Budget, BudgetExceeded, Reservation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All turns together are at most one part in this many of the budget.
const SHARE: u64 = 4;
/// More does not make it faster.
const MAX_BYTES: u64 = 96 << 20;
/// Turns are counted in units of this many bytes.
const UNIT: u64 = 4 << 10;

/// The memory of which parts are taken in turns. Cloning shares it.
#[derive(Clone, Debug)]
pub struct MemoryTurns {
    budget: Budget,
    turns: Arc<Semaphore>,
    units: u32,
}

/// Memory that was taken, given back on drop.
#[derive(Debug)]
pub struct MemoryTurn {
    held: Reservation,
    // given back after the memory, so that the next one finds it
    _units: Option<OwnedSemaphorePermit>,
}

impl MemoryTurn {
    /// Corrects an estimate.
    ///
    /// # Errors
    /// It was too low, and the rest does not fit into the budget.
    pub fn resize(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.held.resize(bytes)
    }
}

impl MemoryTurns {
    pub fn new(budget: Budget) -> MemoryTurns {
        let bytes = (budget.limit() / SHARE).min(MAX_BYTES);
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        MemoryTurns { budget, turns: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// How many bytes are under way at a time at most, unless one turn takes more.
    pub fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Waits until `bytes` may be taken.
    ///
    /// # Errors
    /// They do not fit into the budget even when no other turn is under way.
    pub async fn take(&self, what: &str, bytes: u64) -> Result<MemoryTurn, BudgetExceeded> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        let turn = self.turn(units).await;
        if let Ok(held) = self.reserved(what, bytes) {
            return Ok(MemoryTurn { held, _units: turn });
        }
        // other turns may be what is in the way
        drop(turn);
        let turn = self.turn(self.units).await;
        Ok(MemoryTurn { held: self.reserved(what, bytes)?, _units: turn })
    }

    async fn turn(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        // it is never closed
        Arc::clone(&self.turns).acquire_many_owned(units).await.ok()
    }

    fn reserved(&self, what: &str, bytes: u64) -> Result<Reservation, BudgetExceeded> {
        let mut held = self.budget.reserve(what);
        held.grow(bytes)?;
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn turns_under_way_stay_within_the_share_and_the_others_wait() {
        let budget = Budget::new(400 << 10);
        let memory = MemoryTurns::new(budget.clone());
        assert_eq!(memory.bytes(), 100 << 10);
        let first = memory.take("a", 60 << 10).await.unwrap();
        let mut second = Box::pin(memory.take("b", 60 << 10));
        assert!((&mut second).now_or_never().is_none(), "it has to wait");
        assert_eq!(budget.used(), 60 << 10);
        drop(first);
        let second = second.await.unwrap();
        // larger than the share: alone
        let mut large = Box::pin(memory.take("c", 300 << 10));
        assert!((&mut large).now_or_never().is_none());
        drop(second);
        let large = large.await.unwrap();
        assert_eq!(budget.used(), 300 << 10);
        let mut small = Box::pin(memory.take("d", 1));
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.await.is_ok());
    }

    #[tokio::test]
    async fn a_turn_is_refused_only_when_no_other_is_in_the_way() {
        let budget = Budget::new(400 << 10);
        let mut others = budget.reserve("others");
        others.grow(350 << 10).unwrap();
        let memory = MemoryTurns::new(budget);
        let first = memory.take("a", 40 << 10).await.unwrap();
        let mut second = Box::pin(memory.take("b", 40 << 10));
        assert!((&mut second).now_or_never().is_none(), "the first one is in the way");
        drop(first);
        assert!(second.await.is_ok());
        let refused = memory.take("c", 60 << 10).await.unwrap_err();
        assert_eq!((refused.wanted, refused.limit), (60 << 10, 400 << 10));
    }
}

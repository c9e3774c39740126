//! The process' memory budget: one counter, shared by reservations, and a queue for requests that
//! have to wait for their share of it.

mod queue;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use queue::Admission;
use queue::Queue;

/// A reservation would exceed the budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// A number of bytes that users share. Clones share one budget.
///
/// A request that holds much gets a [share](Budget::share): a budget of its own, whose bytes are
/// taken from this one before the request begins and given back when the last of its clones and
/// reservations is dropped.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
enum Pool {
    Whole(Whole),
    Share(Share),
}

/// What all users share.
#[derive(Debug)]
struct Whole {
    limit: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
    queue: Queue,
    /// Bytes that were given back since the last relief.
    returned: AtomicU64,
    relief: OnceLock<Relief>,
}

/// What gives to the system what the allocator keeps of freed memory.
struct Relief(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Relief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relief")
    }
}

/// Relief is sought when this part of the budget was given back.
const RELIEF_AFTER: u64 = 16;

/// What one request may use without asking, and what it uses.
#[derive(Debug)]
struct Share {
    budget: Budget,
    state: Mutex<ShareState>,
}

#[derive(Debug, Default)]
struct ShareState {
    least: u64,
    used: u64,
    peak: u64,
    /// Taken from the budget: the least, or what is used if that is more.
    held: u64,
    /// The most that would have been used when a reservation was refused.
    refused: u64,
}

impl Budget {
    pub fn new(limit_bytes: u64) -> Budget {
        Budget(Arc::new(Pool::Whole(Whole {
            limit: AtomicU64::new(limit_bytes),
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            queue: Queue::default(),
            returned: AtomicU64::new(0),
            relief: OnceLock::new(),
        })))
    }

    /// Has `relief` called before more memory is granted, whenever a sixteenth of the budget was
    /// given back since the last time: what is given back here may still be with the allocator,
    /// and what is granted comes on top of it. Only the first call has an effect.
    pub fn relieve_by(&self, relief: impl Fn() + Send + Sync + 'static) {
        // a second one is for nothing
        let _ = self.whole().relief.set(Relief(Box::new(relief)));
    }

    pub fn unlimited() -> Budget {
        Budget::new(u64::MAX)
    }

    pub fn limit(&self) -> u64 {
        self.whole().limit.load(Ordering::Relaxed)
    }

    /// Takes bytes out of the budget for as long as there is a budget: for caches, which nobody
    /// need wait for. The limit is lower by as much from then on.
    ///
    /// # Errors
    /// There are not as many.
    pub fn set_aside(&self, what: &str, bytes: u64) -> Result<(), BudgetExceeded> {
        let lower = |limit: u64| limit.checked_sub(bytes);
        let lowered = self.whole().limit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lower);
        lowered.map(drop).map_err(|limit| BudgetExceeded {
            what: what.to_owned(),
            wanted: bytes,
            used: self.used(),
            limit,
        })
    }

    /// Of a share, what the request uses of it.
    pub fn used(&self) -> u64 {
        match &*self.0 {
            Pool::Whole(whole) => whole.used.load(Ordering::SeqCst),
            Pool::Share(share) => share.state().used,
        }
    }

    /// The most that was ever in use at once.
    pub fn peak(&self) -> u64 {
        match &*self.0 {
            Pool::Whole(whole) => whole.peak.load(Ordering::Relaxed),
            Pool::Share(share) => share.state().peak,
        }
    }

    /// An empty reservation; `what` names the user of the memory in errors.
    pub fn reserve(&self, what: impl Into<String>) -> Reservation {
        Reservation { budget: self.clone(), what: what.into(), bytes: 0 }
    }

    /// Waits until `least` bytes are free and all who came earlier have theirs, and takes them.
    /// The request may use more, as far as there is more. Ready at once where there is room;
    /// dropping the future gives up the place in the queue.
    ///
    /// # Errors
    /// `least` is more than the whole budget.
    pub fn share(&self, what: &str, least: u64) -> Admission {
        Admission::new(self.root().clone(), what, least)
    }

    /// The most that would have been in use when a reservation of this share was refused; `None` if
    /// none was. With so much from the start, the request gets further.
    pub fn refused(&self) -> Option<u64> {
        match &*self.0 {
            Pool::Whole(_) => None,
            Pool::Share(share) => Some(share.state().refused).filter(|bytes| *bytes > 0),
        }
    }

    /// Makes sure that a share has `least` bytes, now or later, if they are free.
    pub fn ensure(&self, what: &str, least: u64) -> Result<(), BudgetExceeded> {
        match &*self.0 {
            Pool::Whole(_) => Ok(()),
            Pool::Share(share) => share.ensure(what, least),
        }
    }

    fn root(&self) -> &Budget {
        match &*self.0 {
            Pool::Whole(_) => self,
            Pool::Share(share) => share.budget.root(),
        }
    }

    fn whole(&self) -> &Whole {
        match &*self.0 {
            Pool::Whole(whole) => whole,
            Pool::Share(share) => share.budget.whole(),
        }
    }

    fn grow(&self, what: &str, bytes: u64) -> Result<(), BudgetExceeded> {
        match &*self.0 {
            Pool::Whole(whole) => whole.grow(what, bytes),
            Pool::Share(share) => share.grow(what, bytes),
        }
    }

    fn shrink(&self, bytes: u64) {
        match &*self.0 {
            Pool::Whole(whole) => whole.shrink(bytes),
            Pool::Share(share) => share.shrink(bytes),
        }
    }
}

impl Whole {
    fn grow(&self, what: &str, bytes: u64) -> Result<(), BudgetExceeded> {
        let limit = self.limit.load(Ordering::SeqCst);
        let grown = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            used.checked_add(bytes).filter(|total| *total <= limit)
        });
        match grown {
            Ok(before) => {
                self.peak.fetch_max(before + bytes, Ordering::Relaxed);
                self.relieve(limit);
                Ok(())
            }
            Err(used) => Err(BudgetExceeded { what: what.to_owned(), wanted: bytes, used, limit }),
        }
    }

    fn shrink(&self, bytes: u64) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::SeqCst);
            self.returned.fetch_add(bytes, Ordering::Relaxed);
            self.queue.wake_first();
        }
    }

    fn relieve(&self, limit: u64) {
        let due = limit / RELIEF_AFTER;
        if let Some(Relief(relief)) = self.relief.get()
            && self.returned.load(Ordering::Relaxed) > due
            && self.returned.swap(0, Ordering::Relaxed) > due
        {
            relief();
        }
    }
}

impl Share {
    fn state(&self) -> MutexGuard<'_, ShareState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&self, what: &str, bytes: u64) -> Result<(), BudgetExceeded> {
        let mut state = self.state();
        let used = state.used.saturating_add(bytes);
        self.hold(&mut state, what, used).map_err(|e| BudgetExceeded { wanted: bytes, ..e })?;
        state.used = used;
        state.peak = state.peak.max(used);
        Ok(())
    }

    fn ensure(&self, what: &str, least: u64) -> Result<(), BudgetExceeded> {
        let mut state = self.state();
        self.hold(&mut state, what, least)?;
        state.least = state.least.max(least);
        Ok(())
    }

    /// Takes what is missing to `bytes` from the budget.
    fn hold(&self, state: &mut ShareState, what: &str, bytes: u64) -> Result<(), BudgetExceeded> {
        if bytes > state.held {
            if let Err(exceeded) = self.budget.grow(what, bytes - state.held) {
                state.refused = state.refused.max(bytes);
                return Err(exceeded);
            }
            state.held = bytes;
        }
        Ok(())
    }

    fn shrink(&self, bytes: u64) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(bytes);
        let surplus = state.held.saturating_sub(state.used.max(state.least));
        state.held -= surplus;
        drop(state);
        self.budget.shrink(surplus);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let held = self.state().held;
        self.budget.shrink(held);
    }
}

/// Bytes held from a [`Budget`]; returned on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    what: String,
    bytes: u64,
}

impl Reservation {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.budget.grow(&self.what, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.shrink(bytes);
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
mod tests;

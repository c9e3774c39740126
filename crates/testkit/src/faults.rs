//! Which operations fail, and how: shared by the object server and the failing store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An operation on a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    Get,
    Head,
    Put,
    CreateMultipart,
    PutPart,
    CompleteMultipart,
    AbortMultipart,
    Delete,
    List,
    Copy,
}

impl Op {
    pub const ALL: [Op; 10] = [
        Op::Get,
        Op::Head,
        Op::Put,
        Op::CreateMultipart,
        Op::PutPart,
        Op::CompleteMultipart,
        Op::AbortMultipart,
        Op::Delete,
        Op::List,
        Op::Copy,
    ];

    /// Whether it changes the bucket.
    pub fn writes(self) -> bool {
        !matches!(self, Op::Get | Op::Head | Op::List)
    }
}

/// One operation about to happen.
#[derive(Clone, Debug)]
pub struct ObjectCall<'a> {
    /// How many operations there were before it.
    pub number: u64,
    pub op: Op,
    /// The key, or the prefix of a listing.
    pub key: &'a str,
}

/// What goes wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens; the caller is told to try again later.
    Unavailable,
    /// Nothing happens; the caller is told that it may not.
    Denied,
    /// Nothing happens, and the caller is told nothing. Listings of a decorated store fail instead.
    Hung,
    /// It happens, and the caller is told that it did not.
    AppliedButUnavailable,
    /// The connection breaks half way: a reader gets half of the body, a writer's body is
    /// discarded.
    Torn,
    /// A reader gets the body with one wrong byte in the middle. Other operations succeed; an
    /// object server has no such fault, because connections have checksums.
    Flipped,
    /// A listing that does not include the newest objects yet. Other operations succeed.
    StaleList,
}

type FaultFn = dyn Fn(&ObjectCall<'_>) -> Option<Fault> + Send + Sync;

/// Decides for each operation whether it fails. Cloning shares the count of operations.
#[derive(Clone)]
pub struct FaultPlan {
    calls: Arc<AtomicU64>,
    plan: Arc<FaultFn>,
}

impl FaultPlan {
    pub fn none() -> FaultPlan {
        FaultPlan::new(|_| None)
    }

    pub fn new(
        plan: impl Fn(&ObjectCall<'_>) -> Option<Fault> + Send + Sync + 'static,
    ) -> FaultPlan {
        FaultPlan { calls: Arc::default(), plan: Arc::new(plan) }
    }

    /// About `per_mille` of a thousand operations fail, with a fault that fits the operation; the
    /// seed decides.
    pub fn seeded(seed: u64, per_mille: u64) -> FaultPlan {
        FaultPlan::new(move |call| {
            let dice = synthetic::Rng::new(seed ^ call.number.wrapping_mul(0x2545_f491_4f6c_dd1d))
                .next_u64();
            if dice % 1000 >= per_mille {
                return None;
            }
            Some(match (dice >> 32) % 3 {
                0 => Fault::Unavailable,
                1 if call.op == Op::List => Fault::StaleList,
                1 if call.op.writes() => Fault::AppliedButUnavailable,
                _ => Fault::Torn,
            })
        })
    }

    /// The first `alive` operations succeed; after that nothing happens any more, as if the process
    /// had been killed.
    pub fn killed_after(alive: u64) -> FaultPlan {
        FaultPlan::new(move |call| (call.number >= alive).then_some(Fault::Unavailable))
    }

    /// Counts the operation and returns how it fails.
    pub(crate) fn draw(&self, op: Op, key: &str) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        (self.plan)(&ObjectCall { number, op, key })
    }

    /// How many operations there were.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPlan").field("calls", &self.calls).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_plans_repeat_and_keep_their_rate() {
        let draw = || {
            let plan = FaultPlan::seeded(3, 100);
            (0..5000).map(|i| plan.draw(Op::ALL[i % Op::ALL.len()], "k")).collect::<Vec<_>>()
        };
        let faults = draw();
        assert_eq!(faults, draw());
        let failed = faults.iter().flatten().count();
        assert!((400..600).contains(&failed), "{failed} of 5000");
        assert!(
            faults.contains(&Some(Fault::AppliedButUnavailable))
                && faults.contains(&Some(Fault::StaleList))
        );
    }

    #[test]
    fn a_killed_process_does_nothing_more() {
        let plan = FaultPlan::killed_after(2);
        let faults: Vec<_> = (0..4).map(|_| plan.draw(Op::Put, "k")).collect();
        assert_eq!(faults, [None, None, Some(Fault::Unavailable), Some(Fault::Unavailable)]);
        assert_eq!(plan.calls(), 4);
    }
}

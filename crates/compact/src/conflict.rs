//! Two Prometheus servers that were given the same external labels by mistake.
//!
//! Their blocks overlap like those of one server with late samples, and once merged they could
//! never be told apart. But one server does not have two values for one instant: where the samples
//! of two blocks at equal times differ again and again, the blocks are of two servers.

use merge::Agreement;

use crate::error::Case;
use crate::{Error, Result};

/// The share of a series' samples at equal times that may differ.
const TOLERATED_SAMPLES: f64 = 0.01;
/// The share of the series with samples at equal times that may differ.
const TOLERATED_SERIES: f64 = 0.10;

/// What the series looked at so far show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conflicts {
    /// The number of series with samples of several blocks at equal times.
    common: u64,
    /// The number of those that differ in more samples than tolerated.
    differing: u64,
}

impl Conflicts {
    pub(crate) fn add(&mut self, agreement: Agreement) -> Result<()> {
        /// The number of series after which an overwhelming disagreement needs no further proof.
        const ENOUGH: u64 = 10_000;
        let Agreement { shared, differing } = agreement;
        self.common += u64::from(shared > 0);
        self.differing += u64::from(differing as f64 > shared as f64 * TOLERATED_SAMPLES);
        match self.common >= ENOUGH && self.differing * 2 > self.common {
            true => self.settle(),
            false => Ok(()),
        }
    }

    /// An error if the blocks are of two servers.
    pub(crate) fn settle(&self) -> Result<()> {
        let Conflicts { common, differing } = *self;
        if differing as f64 > common as f64 * TOLERATED_SERIES {
            return Err(Error(Case::Conflicting { common, differing }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(series: &[(u64, u64)]) -> bool {
        let mut conflicts = Conflicts::default();
        for &(shared, differing) in series {
            conflicts.add(Agreement { shared, differing }).unwrap();
        }
        conflicts.settle().is_ok()
    }

    #[test]
    fn one_server_is_told_from_two() {
        assert!(settled(&[]));
        assert!(settled(&[(0, 0), (0, 0)]), "no sample at equal times says nothing");
        assert!(settled(&[(100, 1), (100, 1)]), "a sample in a hundred is tolerated");
        assert!(!settled(&[(100, 2), (100, 0)]), "half of the series differ");
        let one_in = |n: usize| -> Vec<(u64, u64)> {
            (0..n).map(|i| (240, if i == 0 { 240 } else { 0 })).collect()
        };
        assert!(settled(&one_in(10)), "one series in ten is tolerated");
        assert!(!settled(&one_in(9)));
    }

    #[test]
    fn plain_contradiction_ends_the_work_early() {
        let mut conflicts = Conflicts::default();
        let differing = Agreement { shared: 10, differing: 10 };
        let ended = (0..20_000).position(|_| conflicts.add(differing).is_err());
        assert_eq!(ended, Some(9_999));
    }
}

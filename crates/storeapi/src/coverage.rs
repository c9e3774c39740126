//! Which data exists for which spans of time.

use model::{Resolution, TimeRange};

use crate::Spans;

/// The spans of time for which a store has data, by resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage([Spans; 3]);

impl Coverage {
    /// The most spans per resolution that are reported for a stretch of data; where there are more,
    /// the shortest gaps are filled.
    pub const MAX_SPANS: usize = 256;

    /// Raw data for a span.
    pub fn raw(range: TimeRange) -> Coverage {
        Coverage::default().with(Resolution::Raw, range.into())
    }

    pub fn of(&self, resolution: Resolution) -> &Spans {
        &self.0[resolution as usize]
    }

    /// The same with these spans at a resolution, instead of what was there.
    #[must_use]
    pub fn with(mut self, resolution: Resolution, spans: Spans) -> Coverage {
        self.0[resolution as usize] = spans;
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Spans::is_empty)
    }

    pub fn union(&self, other: &Coverage) -> Coverage {
        Coverage(Resolution::ALL.map(|r| self.of(r).union(other.of(r))))
    }

    /// The part of it inside a span.
    pub fn within(&self, range: TimeRange) -> Coverage {
        Coverage(Resolution::ALL.map(|r| self.of(r).intersect(&range.into())))
    }

    /// The spans of all resolutions but one.
    pub fn of_others(&self, resolution: Resolution) -> Spans {
        let others = Resolution::ALL.into_iter().filter(|r| *r != resolution);
        others.flat_map(|r| self.of(r).iter()).collect()
    }
}

//! What is known of the bucket, and how old that is.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::Clock;

use super::listed::Listed;
use super::looks::CatalogReading;
use crate::catalog::Generation;
use crate::layout::BlockLocation;

/// A full look of one's own comes after so many full intervals, even while the catalog is up to
/// date: what it lacks is found.
const OWN_LOOK: u32 = 4;

/// A listing said to be this far in the future is not believed.
const MAX_SKEW_MS: i64 = 5 * 60_000;

/// The time of the day, which compares with other processes', and the one that never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) wall_ms: i64,
    pub(super) monotonic: Duration,
}

impl Moment {
    pub(super) fn of(clock: &dyn Clock) -> Moment {
        Moment { wall_ms: clock.now().0, monotonic: clock.monotonic() }
    }

    fn since(self, earlier: Moment) -> Duration {
        self.monotonic.saturating_sub(earlier.monotonic)
    }
}

/// The blocks of the bucket as they were last looked at.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) blocks: BTreeMap<BlockLocation, Listed>,
    /// When the last full listing of one's own began.
    pub(super) full: Option<Moment>,
    /// When the last look of one's own began, full or not.
    pub(super) look: Option<Moment>,
    /// When the listing began that the catalog in use was made from, by the clock of its writer.
    pub(super) cataloged_ms: Option<i64>,
    /// The newest generations when they were last looked at.
    pub(super) newest: Vec<Generation>,
    /// When the first look was due.
    pub(super) start: Option<Moment>,
    /// Blocks that were doubted, and when they were looked at because of it.
    pub(super) checked: HashMap<BlockLocation, Moment>,
}

/// How much of the bucket has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// What is known is young enough.
    None,
    /// Which folders there are.
    Top,
    /// All objects.
    Full(FullReason),
}

/// Why the whole bucket is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FullReason {
    /// No catalog can be used.
    NoCatalog,
    /// The catalog is old.
    OldCatalog,
    /// The last full look is some time ago.
    Interval,
    /// Too many blocks would have to be looked at one by one.
    ManyBlocks,
}

/// The values of the label `reason`.
pub(crate) const FULL_LOOK_REASONS: [&str; 4] =
    ["no-catalog", "old-catalog", "interval", "many-blocks"];

impl FullReason {
    pub(super) fn as_str(self) -> &'static str {
        FULL_LOOK_REASONS[self as usize]
    }
}

impl View {
    /// How old what the catalog says is; `None` without one.
    fn catalog_age(&self, now: Moment) -> Option<Duration> {
        let age_ms = now.wall_ms.saturating_sub(self.cataloged_ms?);
        // clocks of two machines may differ a little
        Some(Duration::from_millis(u64::try_from(age_ms).unwrap_or_default()))
    }

    /// What has to be looked at now.
    pub(super) fn due(&self, reading: &CatalogReading, now: Moment) -> Look {
        let own = |look: Option<Moment>| look.map(|at| now.since(at));
        let catalog_age = self.catalog_age(now);
        let youngest = |own: Option<Duration>| own.into_iter().chain(catalog_age).min();
        let is_over = |age: Option<Duration>, most: Duration| age.is_none_or(|age| age >= most);
        if is_over(youngest(own(self.full)), reading.full_interval) {
            return Look::Full(match (self.full, catalog_age) {
                (Some(_), _) => FullReason::Interval,
                (None, Some(_)) => FullReason::OldCatalog,
                (None, None) => FullReason::NoCatalog,
            });
        }
        if is_over(own(self.full.or(self.start)), reading.full_interval * OWN_LOOK) {
            return Look::Full(FullReason::Interval);
        }
        // so that a new block is seen after one and a half sync intervals at most
        match is_over(youngest(own(self.look)), reading.sync_interval / 2) {
            true => Look::Top,
            false => Look::None,
        }
    }

    /// When what is known was looked at, by one's own look.
    pub(super) fn looked_ms(&self) -> Option<i64> {
        self.look.map(|at| at.wall_ms)
    }
}

/// When a catalog's listing began, where that can be believed. The store knows when it got the
/// object, so that a writer whose clock is ahead makes no old catalog young.
pub(super) fn believed_ms(listed_ms: i64, generation: &Generation, now: Moment) -> Option<i64> {
    (listed_ms <= now.wall_ms.saturating_add(MAX_SKEW_MS))
        .then_some(listed_ms.min(generation.modified_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    fn at(minutes: i64) -> Moment {
        let monotonic = Duration::from_secs(minutes.unsigned_abs() * MINUTE);
        Moment { wall_ms: minutes * 60_000, monotonic }
    }

    #[test]
    fn looks_are_due_by_the_youngest_that_is_known() {
        let reading = CatalogReading {
            sync_interval: Duration::from_secs(10 * MINUTE),
            full_interval: Duration::from_secs(15 * MINUTE),
            whole_metas: false,
        };
        let view = |full: Option<i64>, look: Option<i64>, cataloged: Option<i64>| View {
            full: full.map(at),
            look: look.map(at),
            cataloged_ms: cataloged.map(|minutes| minutes * 60_000),
            start: Some(at(0)),
            ..View::default()
        };
        let now = at(50);
        for (view, expected) in [
            (view(None, None, None), Look::Full(FullReason::NoCatalog)),
            (view(None, None, Some(30)), Look::Full(FullReason::OldCatalog)),
            (view(Some(30), Some(40), None), Look::Full(FullReason::Interval)),
            (view(Some(36), Some(36), None), Look::Top),
            (view(Some(36), Some(46), None), Look::None),
            (view(Some(0), Some(0), Some(46)), Look::None),
            (view(Some(0), Some(0), Some(52)), Look::None),
            (view(None, None, Some(46)), Look::None),
            (view(None, None, Some(44)), Look::Top),
        ] {
            assert_eq!(view.due(&reading, now), expected, "{view:?}");
        }
        let own = view(Some(0), Some(0), Some(60));
        assert_eq!(own.due(&reading, at(59)), Look::None);
        assert_eq!(own.due(&reading, at(60)), Look::Full(FullReason::Interval));
        let at_start = view(None, None, Some(60));
        assert_eq!(at_start.due(&reading, at(60)), Look::Full(FullReason::Interval));
    }

    #[test]
    fn no_catalog_is_younger_than_its_object() {
        let generation =
            Generation { sequence: 1, hash: "0".repeat(16), size: 1, modified_ms: 500 };
        let now = Moment { wall_ms: 1_000, monotonic: Duration::ZERO };
        assert_eq!(believed_ms(400, &generation, now), Some(400));
        assert_eq!(believed_ms(900, &generation, now), Some(500));
        assert_eq!(believed_ms(1_000 + MAX_SKEW_MS + 1, &generation, now), None);
    }
}

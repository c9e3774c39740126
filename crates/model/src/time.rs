//! Points and spans of time in milliseconds since the Unix epoch.

use std::fmt;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMs(pub i64);

impl TimestampMs {
    pub const MIN: TimestampMs = TimestampMs(i64::MIN);
    pub const MAX: TimestampMs = TimestampMs(i64::MAX);
    /// The earliest and the latest time that Prometheus' API supports: those of Go whose seconds do
    /// not overflow.
    pub const PROMETHEUS_MIN: TimestampMs = TimestampMs(-9_223_309_901_257_974_000);
    pub const PROMETHEUS_MAX: TimestampMs = TimestampMs(9_223_309_901_257_974_999);

    pub fn saturating_add(self, ms: i64) -> TimestampMs {
        TimestampMs(self.0.saturating_add(ms))
    }
}

impl fmt::Display for TimestampMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open span `[start, end)` in milliseconds. An end of `i64::MAX` means unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    pub start: i64,
    pub end: i64,
}

impl TimeRange {
    pub const ALL: TimeRange = TimeRange { start: i64::MIN, end: i64::MAX };

    pub fn new(start: i64, end: i64) -> TimeRange {
        TimeRange { start, end }
    }

    /// From the closed range `[min, max]` of wires and queriers.
    pub fn from_closed(min: i64, max: i64) -> TimeRange {
        TimeRange { start: min, end: max.saturating_add(1) }
    }

    /// The last millisecond inside; `i64::MAX` when unbounded.
    pub fn last(self) -> i64 {
        if self.end == i64::MAX { i64::MAX } else { self.end.saturating_sub(1) }
    }

    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    pub fn contains(self, t: i64) -> bool {
        t >= self.start && (t < self.end || self.end == i64::MAX)
    }

    pub fn overlaps(self, other: TimeRange) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether the closed span `[min, max]` (a chunk's) touches this range.
    pub fn overlaps_closed(self, min: i64, max: i64) -> bool {
        min <= self.last() && max >= self.start
    }

    pub fn intersect(self, other: TimeRange) -> TimeRange {
        TimeRange { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    pub fn duration_ms(self) -> i64 {
        self.end.saturating_sub(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_ranges_convert_and_saturate() {
        assert_eq!(TimeRange::from_closed(1, 5), TimeRange::new(1, 6));
        assert_eq!(TimeRange::from_closed(1, i64::MAX).last(), i64::MAX);
        assert!(TimeRange::from_closed(1, i64::MAX).contains(i64::MAX));
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        assert!(!TimeRange::new(0, 10).overlaps(TimeRange::new(10, 20)));
        assert!(TimeRange::new(0, 10).overlaps_closed(9, 12));
        assert!(!TimeRange::new(0, 10).overlaps_closed(10, 12));
    }
}

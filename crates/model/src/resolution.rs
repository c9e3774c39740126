//! The resolutions blocks are kept at.

use std::fmt;

use crate::time::TimeRange;

/// How far apart the samples of a block are: raw as scraped, or one aggregate per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    Raw,
    FiveMinutes,
    OneHour,
}

impl Resolution {
    pub const ALL: [Resolution; 3] =
        [Resolution::Raw, Resolution::FiveMinutes, Resolution::OneHour];

    /// The window in milliseconds, as `meta.json` states it: 0 for raw.
    pub fn millis(self) -> i64 {
        match self {
            Resolution::Raw => 0,
            Resolution::FiveMinutes => 300_000,
            Resolution::OneHour => 3_600_000,
        }
    }

    /// `range` and the rest of the window that its end falls into: the time of a window is its end,
    /// and it stands for the samples before.
    pub fn to_whole_windows(self, range: TimeRange) -> TimeRange {
        match self.millis() {
            length if length > 0 && range.end < i64::MAX => {
                let over = range.end.rem_euclid(length);
                let rest = if over == 0 { 0 } else { length - over };
                TimeRange::new(range.start, range.end.saturating_add(rest))
            }
            _ => range,
        }
    }

    /// `range` with the windows beside it that show whether and how series continue inside a
    /// window: two before it and one after it.
    pub fn with_neighbours(self, range: TimeRange) -> TimeRange {
        let length = self.millis();
        TimeRange::new(range.start.saturating_sub(2 * length), range.end.saturating_add(length))
    }

    pub fn from_millis(ms: i64) -> Option<Resolution> {
        Resolution::ALL.into_iter().find(|r| r.millis() == ms)
    }

    /// The coarsest resolution whose window is no longer than `ms`.
    pub fn coarsest_within(ms: i64) -> Resolution {
        Resolution::ALL.into_iter().rev().find(|r| r.millis() <= ms).unwrap_or(Resolution::Raw)
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resolution::Raw => "raw",
            Resolution::FiveMinutes => "5m",
            Resolution::OneHour => "1h",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_two_windows_before_and_one_behind() {
        let range = TimeRange::new(10_000_000, 20_000_000);
        assert_eq!(Resolution::Raw.with_neighbours(range), range);
        assert_eq!(
            Resolution::FiveMinutes.with_neighbours(range),
            TimeRange::new(9_400_000, 20_300_000)
        );
        assert_eq!(Resolution::OneHour.with_neighbours(TimeRange::ALL), TimeRange::ALL);
    }

    #[test]
    fn ranges_reach_to_the_end_of_a_window() {
        let reach = |r: Resolution, start, end| r.to_whole_windows(TimeRange::new(start, end)).end;
        assert_eq!(reach(Resolution::Raw, 0, 7), 7);
        assert_eq!(reach(Resolution::FiveMinutes, 0, 300_000), 300_000);
        assert_eq!(reach(Resolution::FiveMinutes, 0, 300_001), 600_000);
        assert_eq!(reach(Resolution::OneHour, -9_000_000, -7_200_001), -7_200_000);
        assert_eq!(reach(Resolution::OneHour, 0, i64::MAX), i64::MAX);
    }
}

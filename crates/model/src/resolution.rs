//! The resolutions blocks are kept at.

use std::fmt;

/// How far apart the samples of a block stand at least: raw as scraped, or one aggregate per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    Raw,
    FiveMinutes,
    OneHour,
}

impl Resolution {
    pub const ALL: [Resolution; 3] = [Resolution::Raw, Resolution::FiveMinutes, Resolution::OneHour];

    /// The window in milliseconds, as `meta.json` states it: 0 for raw.
    pub fn millis(self) -> i64 {
        match self {
            Resolution::Raw => 0,
            Resolution::FiveMinutes => 300_000,
            Resolution::OneHour => 3_600_000,
        }
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

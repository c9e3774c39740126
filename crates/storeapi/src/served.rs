//! What an answer says about data that is coarser than raw.

use model::{Resolution, TimeRange, TimestampMs, rfc3339};

use crate::Frame;

const COARSE: [Resolution; 2] = [Resolution::FiveMinutes, Resolution::OneHour];

/// The span for which downsampled data answered, per resolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServedCoarse([Option<TimeRange>; 2]);

impl ServedCoarse {
    /// Notes that a chunk of this resolution and closed span was sent; raw ones are not recorded.
    pub fn note(&mut self, resolution: Resolution, min_time: i64, max_time: i64) {
        for (coarse, span) in COARSE.into_iter().zip(&mut self.0) {
            if coarse == resolution {
                let hull = |s: TimeRange| {
                    TimeRange::from_closed(s.start.min(min_time), s.last().max(max_time))
                };
                *span = Some(span.map_or(TimeRange::from_closed(min_time, max_time), hull));
            }
        }
    }

    pub fn add(&mut self, other: &ServedCoarse) {
        for (resolution, span) in COARSE.into_iter().zip(other.0) {
            if let Some(span) = span {
                self.note(resolution, span.start, span.last());
            }
        }
    }

    /// The resolution that one of [`ServedCoarse::infos`] is about.
    pub fn resolution_of(info: &str) -> Option<Resolution> {
        COARSE
            .into_iter()
            .find(|resolution| info.starts_with(&format!("served {resolution} data ")))
    }

    /// One for each resolution.
    pub fn infos(&self) -> Vec<Frame> {
        let info = |(resolution, span): (Resolution, Option<TimeRange>)| {
            let span = span?;
            let (from, to) = (
                rfc3339::format(TimestampMs(span.start)),
                rfc3339::format(TimestampMs(span.last())),
            );
            Some(Frame::Info(format!("served {resolution} data for {from} to {to}")))
        };
        COARSE.into_iter().zip(self.0).filter_map(info).collect()
    }
}

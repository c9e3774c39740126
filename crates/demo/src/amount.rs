//! How much work compacting and downsampling a new fleet is, in hours of data that are written.

use compact::Event;
use model::TimeRange;

const HOUR_MS: i64 = 3_600_000;

/// The ranges that blocks grow to, in hours.
const RANGES: [i64; 3] = [8, 48, 336];

/// What is downsampled: blocks of this many hours and more, by both resolutions at once.
const DOWNSAMPLED: i64 = 48;

/// The hours of one server that will be written. The newest blocks are left alone and a range may be
/// skipped, so it is an estimate.
pub(crate) fn expected_hours(data: TimeRange) -> u64 {
    RANGES.into_iter().chain([DOWNSAMPLED]).map(|hours| whole_ranges(data, hours)).sum()
}

/// The hours in aligned ranges that lie in the data.
fn whole_ranges(data: TimeRange, hours: i64) -> u64 {
    let width = hours * HOUR_MS;
    let first = (data.start + width - 1).div_euclid(width);
    let count = data.end.div_euclid(width) - first;
    u64::try_from(count * hours).unwrap_or(0)
}

/// What something finished adds to it.
pub(crate) fn hours(event: &Event) -> u64 {
    let span = |range: TimeRange| u64::try_from((range.end - range.start) / HOUR_MS).unwrap_or(0);
    match event {
        Event::Compacted { output, .. } => output.as_ref().map_or(0, |meta| span(meta.range())),
        Event::Downsampled { outputs } => outputs.first().map_or(0, |meta| span(meta.range())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_aligned_ranges_count() {
        let day = 24 * HOUR_MS;
        assert_eq!(expected_hours(TimeRange::new(0, 14 * day)), 4 * 336);
        assert_eq!(expected_hours(TimeRange::new(day, 5 * day)), 96 + 2 * 48);
        assert_eq!(expected_hours(TimeRange::new(1, 2)), 0);
    }
}

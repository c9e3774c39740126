use tsdb::Error;
use tsdb::tombstones::{Interval, Tombstones, covers, covers_span};

use super::{meter, seal};

/// Deleted spans ascend and stand apart, and come back when they are written again.
pub(crate) fn tombstones(bytes: &[u8]) -> Result<(), Error> {
    let _ = read(bytes);
    read(&seal::tombstones(bytes))
}

fn read(bytes: &[u8]) -> Result<(), Error> {
    // an entry takes three bytes at least
    let most = 1024 + 8 * bytes.len();
    let read = meter::within(most, || Tombstones::parse(bytes));
    assert_eq!(read, Tombstones::parse(bytes), "the same bytes give the same");
    let tombstones = read?;
    let mut spans = 0;
    for (series, intervals) in tombstones.iter() {
        assert!(intervals.iter().all(|i| i.min_time <= i.max_time), "{intervals:?}");
        let apart = |w: &[Interval]| w[0].max_time.saturating_add(1) < w[1].min_time;
        assert!(intervals.windows(2).all(apart), "{intervals:?}");
        assert_eq!(tombstones.get(series), intervals);
        for interval in &intervals {
            assert!(covers(&intervals, interval.min_time) && covers(&intervals, interval.max_time));
            assert!(covers_span(&intervals, *interval));
        }
        spans += intervals.len();
    }
    assert_eq!(tombstones.len(), spans);
    assert!(tombstones.memory() <= Tombstones::memory_of(Tombstones::count(bytes)?));
    assert_eq!(Tombstones::parse(&tombstones.to_bytes()), Ok(tombstones));
    Ok(())
}

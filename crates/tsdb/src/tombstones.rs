//! Tombstones: spans of time in which samples of a series are deleted; the file `tombstones` of a
//! block.
//!
//! ```text
//! u32 BE magic 0x0130ba30 | version 1 | entries | u32 BE crc32c of the entries
//! entry:  uvarint series reference | varint min time | varint max time
//! ```
//! Source of the format: `tsdb/docs/format/tombstones.md` of Prometheus.

use std::ops::Range;

use crate::error::{Case, Error};
use crate::varint::{put_uvarint, put_varint, read_uvarint, read_varint};

const WHAT: &str = "tombstones";
const HEADER: [u8; 5] = [0x01, 0x30, 0xba, 0x30, 1];
const CRC_LEN: usize = 4;

/// A closed span `[min_time, max_time]` in milliseconds, as the format has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    pub min_time: i64,
    pub max_time: i64,
}

/// Whether the time `t` lies in one of the spans, which ascend.
pub fn covers(intervals: &[Interval], t: i64) -> bool {
    covers_span(intervals, Interval { min_time: t, max_time: t })
}

/// Whether all of `span` lies in one of the spans, which ascend and do not touch each other.
pub fn covers_span(intervals: &[Interval], span: Interval) -> bool {
    let at = intervals.partition_point(|i| i.max_time < span.min_time);
    intervals.get(at).is_some_and(|i| i.min_time <= span.min_time && span.max_time <= i.max_time)
}

/// The deleted spans of a block's series, by series reference as the index has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// By series; those of each ascend and neither overlap nor touch. One list of all, because
    /// files may name millions of series.
    spans: Vec<(u64, Interval)>,
}

impl Tombstones {
    /// Reads the file.
    ///
    /// # Errors
    /// Truncated bytes, a wrong checksum, another magic number or version.
    pub fn parse(bytes: &[u8]) -> Result<Tombstones, Error> {
        let mut entries = entries_of(bytes)?;
        let mut spans = Vec::with_capacity(count(bytes, entries)?);
        while let Some(entry) = take_entry(&mut entries) {
            spans.push(entry);
        }
        spans.retain(|(_, interval)| interval.min_time <= interval.max_time);
        spans.sort_unstable();
        spans.dedup_by(|(series, next), (of, last)| {
            let joins = series == of && next.min_time <= last.max_time.saturating_add(1);
            if joins {
                last.max_time = last.max_time.max(next.max_time);
            }
            joins
        });
        Ok(Tombstones { spans })
    }

    /// How many spans the file names, before those that touch become one. Takes no memory.
    ///
    /// # Errors
    /// As [`parse`](Tombstones::parse).
    pub fn count(bytes: &[u8]) -> Result<usize, Error> {
        count(bytes, entries_of(bytes)?)
    }

    /// Bytes of memory that so many spans take, also while they are read.
    pub fn memory_of(spans: usize) -> usize {
        size_of::<Tombstones>() + spans * size_of::<(u64, Interval)>()
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        Tombstones::memory_of(self.spans.capacity())
    }

    /// The file's bytes, entries in order of series and time.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for (series, interval) in &self.spans {
            put_uvarint(&mut bytes, *series);
            put_varint(&mut bytes, interval.min_time);
            put_varint(&mut bytes, interval.max_time);
        }
        let crc = crc32c::crc32c(&bytes[HEADER.len()..]);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Deletes a span of a series; it becomes one with those it overlaps or touches. An empty span
    /// does nothing.
    pub fn add(&mut self, series: u64, interval: Interval) {
        if interval.min_time > interval.max_time {
            return;
        }
        let Range { start, end } = self.range_of(series);
        let old = &self.spans[start..end];
        let from =
            old.partition_point(|(_, old)| old.max_time.saturating_add(1) < interval.min_time);
        let to =
            old.partition_point(|(_, old)| old.min_time <= interval.max_time.saturating_add(1));
        let to = to.max(from);
        let mut merged = interval;
        for (_, old) in &old[from..to] {
            merged.min_time = merged.min_time.min(old.min_time);
            merged.max_time = merged.max_time.max(old.max_time);
        }
        self.spans.splice(start + from..start + to, [(series, merged)]);
    }

    fn range_of(&self, series: u64) -> Range<usize> {
        let start = self.spans.partition_point(|(of, _)| *of < series);
        let spans = self.spans[start..].partition_point(|(of, _)| *of == series);
        start..start + spans
    }

    /// The deleted spans of a series, ascending.
    pub fn get(&self, series: u64) -> Vec<Interval> {
        self.spans[self.range_of(series)].iter().map(|(_, interval)| *interval).collect()
    }

    /// All series with deleted spans, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Vec<Interval>)> {
        let of_series = self.spans.chunk_by(|(a, _), (b, _)| a == b);
        of_series.map(|spans| (spans[0].0, spans.iter().map(|(_, interval)| *interval).collect()))
    }

    /// Deleted spans of all series, as `meta.json` counts them.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

/// The entries of a file that is whole.
fn entries_of(bytes: &[u8]) -> Result<&[u8], Error> {
    if bytes.len() < HEADER.len() + CRC_LEN {
        return Err(Error::truncated(WHAT, bytes.len()));
    }
    let (body, crc) = bytes.split_at(bytes.len() - CRC_LEN);
    let (header, entries) = body.split_at(HEADER.len());
    if header[..4] != HEADER[..4] {
        return Err(Error::corrupt(WHAT, 0, "magic number is not that of tombstones"));
    }
    if header[4] != HEADER[4] {
        return Err(Error(Case::Unsupported {
            what: WHAT,
            reason: format!("version {}", header[4]),
        }));
    }
    let stored = u32::from_be_bytes(crc.try_into().expect("four bytes"));
    let computed = crc32c::crc32c(entries);
    if stored != computed {
        let offset = body.len() as u64;
        return Err(Error(Case::Checksum { what: WHAT, offset, stored, computed }));
    }
    Ok(entries)
}

fn count(bytes: &[u8], mut entries: &[u8]) -> Result<usize, Error> {
    let end = bytes.len() - CRC_LEN;
    let mut count = 0;
    while !entries.is_empty() {
        take_entry(&mut entries).ok_or(Error::truncated(WHAT, end - entries.len()))?;
        count += 1;
    }
    Ok(count)
}

fn take_entry(entries: &mut &[u8]) -> Option<(u64, Interval)> {
    let mut rest = *entries;
    let (series, len) = read_uvarint(rest)?;
    rest = &rest[len..];
    let (min_time, len) = read_varint(rest)?;
    rest = &rest[len..];
    let (max_time, len) = read_varint(rest)?;
    *entries = &rest[len..];
    Some((series, Interval { min_time, max_time }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn added_spans_cover_what_was_added(spans in prop::collection::vec((0u64..3, 0i64..60, 0i64..12), 0..40)) {
            let mut tombstones = Tombstones::default();
            let mut deleted = std::collections::BTreeSet::new();
            for &(series, min_time, len) in &spans {
                tombstones.add(series, Interval { min_time, max_time: min_time + len });
                deleted.extend((min_time..=min_time + len).map(|t| (series, t)));
            }
            for series in 0..3 {
                let intervals = tombstones.get(series);
                prop_assert!(intervals.windows(2).all(|w| w[0].max_time + 1 < w[1].min_time));
                for t in -1..80 {
                    let covered = intervals.iter().any(|i| i.min_time <= t && t <= i.max_time);
                    prop_assert_eq!(covered, deleted.contains(&(series, t)));
                }
            }
            prop_assert_eq!(Tombstones::parse(&tombstones.to_bytes()).unwrap(), tombstones);
        }

        #[test]
        fn entries_in_any_order_are_read_as_if_they_were_added(
            spans in prop::collection::vec((0u64..3, 0i64..60, -2i64..12), 0..40),
        ) {
            let mut expected = Tombstones::default();
            let mut entries = Vec::new();
            for &(series, min_time, len) in &spans {
                expected.add(series, Interval { min_time, max_time: min_time + len });
                put_uvarint(&mut entries, series);
                put_varint(&mut entries, min_time);
                put_varint(&mut entries, min_time + len);
            }
            let bytes = file_of(&entries);
            prop_assert_eq!(Tombstones::count(&bytes).unwrap(), spans.len());
            prop_assert_eq!(Tombstones::parse(&bytes).unwrap(), expected);
        }

        #[test]
        fn arbitrary_entries_never_panic(entries in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = file_of(&entries);
            prop_assert_eq!(Tombstones::parse(&bytes).is_ok(), Tombstones::count(&bytes).is_ok());
        }
    }

    fn file_of(entries: &[u8]) -> Vec<u8> {
        let crc = crc32c::crc32c(entries).to_be_bytes();
        [&HEADER[..], entries, &crc].concat()
    }

    #[test]
    fn the_whole_of_time_can_be_deleted() {
        let mut tombstones = Tombstones::default();
        tombstones.add(1, Interval { min_time: 5, max_time: 6 });
        tombstones.add(1, Interval { min_time: i64::MIN, max_time: i64::MAX });
        tombstones.add(1, Interval { min_time: 7, max_time: 3 });
        assert_eq!(tombstones.get(1), [Interval { min_time: i64::MIN, max_time: i64::MAX }]);
        assert_eq!(tombstones.len(), 1);
    }

    #[test]
    fn damage_is_named() {
        let mut tombstones = Tombstones::default();
        tombstones.add(300, Interval { min_time: -5, max_time: 6 });
        let good = tombstones.to_bytes();
        let mut bad = good.clone();
        bad[6] ^= 1;
        assert!(matches!(Tombstones::parse(&bad), Err(Error(Case::Checksum { .. }))));
        bad = good.clone();
        bad[4] = 2;
        assert!(matches!(Tombstones::parse(&bad), Err(Error(Case::Unsupported { .. }))));
        assert!(matches!(Tombstones::parse(&good[..8]), Err(Error(Case::Truncated { .. }))));
    }
}

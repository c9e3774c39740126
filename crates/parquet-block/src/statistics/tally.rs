//! Counts of many things in bounded memory.

use std::cmp::Reverse;
use std::collections::HashMap;

/// Ends the name in a key; no byte of UTF-8.
const NAME_END: u8 = 0xff;

/// What a column can hold.
pub(super) const MAX_COUNT: u64 = i64::MAX as u64;

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub series: u64,
    pub samples: u64,
    pub bytes: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Counts) {
        let sum = |a: u64, b: u64| a.saturating_add(b).min(MAX_COUNT);
        self.series = sum(self.series, other.series);
        self.samples = sum(self.samples, other.samples);
        self.bytes = sum(self.bytes, other.bytes);
    }
}

/// Rows by falling number of series, then by name and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking<'a> {
    pub rows: Vec<RankingRow<'a>>,
    /// The most series by which a row may be too low, and the most that something without a row
    /// may have. 0: everything is here and exact.
    pub missing: u64,
}

/// A metric, whose name is `__name__`; a label name, whose value is empty; or a label pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankingRow<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub counts: Counts,
}

/// Counts by name and value. With more of them than there is room for, those of the fewest series
/// are dropped, half of all at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// By [`Key`].
    counts: HashMap<Box<[u8]>, Counts>,
    limit: usize,
    /// As in [`Ranking`]: what was dropped adds up.
    missing: u64,
}

impl Tally {
    pub(super) fn new(limit: usize) -> Tally {
        Tally { counts: HashMap::new(), limit, missing: 0 }
    }

    pub(super) fn add(&mut self, key: &Key, counts: Counts) {
        match self.counts.get_mut(key.0.as_slice()) {
            Some(own) => own.add(counts),
            None => self.insert(key.0.as_slice().into(), counts),
        }
    }

    pub(super) fn add_missing(&mut self, series: u64) {
        self.missing = self.missing.saturating_add(series);
    }

    /// Adds all of the other's counts, of which so many would be listed.
    pub(super) fn merge(&mut self, other: &Tally, listed: usize) {
        let ranking = other.ranking(listed);
        let mut key = Key::default();
        for row in &ranking.rows {
            self.add(key.set(row.name.as_bytes(), row.value.as_bytes()), row.counts);
        }
        self.add_missing(ranking.missing);
    }

    /// The first so many.
    pub(super) fn ranking(&self, most: usize) -> Ranking<'_> {
        let rows = self.counts.iter().map(|(key, counts)| {
            let (name, value) = unpack(key);
            RankingRow { name, value, counts: *counts }
        });
        let mut rows: Vec<RankingRow<'_>> = rows.collect();
        rows.sort_unstable_by_key(|row| (Reverse(row.counts.series), row.name, row.value));
        let unlisted = rows.len() > most;
        rows.truncate(most);
        let least = rows.last().filter(|_| unlisted).map_or(0, |row| row.counts.series);
        Ranking { rows, missing: self.missing.saturating_add(least) }
    }

    fn insert(&mut self, key: Box<[u8]>, counts: Counts) {
        if self.counts.len() >= self.limit {
            self.drop_rarest();
        }
        self.counts.insert(key, counts);
    }

    /// Which ones go depends on their counts alone, so that equal input gives equal statistics.
    fn drop_rarest(&mut self) {
        let mut series: Vec<u64> = self.counts.values().map(|counts| counts.series).collect();
        let middle = series.len() / 2;
        let (_, most, _) = series.select_nth_unstable(middle);
        let most = *most;
        self.counts.retain(|_, counts| counts.series > most);
        self.add_missing(most);
    }
}

/// Name and value as one text, so that a map is searched without allocating; reused.
#[derive(Debug, Default)]
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Both must be UTF-8.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> &Key {
        self.0.clear();
        self.0.extend_from_slice(name);
        self.0.push(NAME_END);
        self.0.extend_from_slice(value);
        self
    }
}

fn unpack(key: &[u8]) -> (&str, &str) {
    let end = key.iter().position(|byte| *byte == NAME_END).expect("a key has a name");
    let text = |bytes| std::str::from_utf8(bytes).expect("a key is made of text");
    (text(&key[..end]), text(&key[end + 1..]))
}

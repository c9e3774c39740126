//! Counts the series of a block as they are written.

use model::{Labels, METRIC_NAME};

use super::tally::{Counts, Key};
use super::{MAX_DISTINCT, Statistics};

/// What a series takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesSize {
    pub samples: u64,
    /// In the files of the block.
    pub bytes: u64,
}

/// Takes every series of a block once, in any order.
#[derive(Debug)]
pub struct StatisticsBuilder {
    counted: Statistics,
    key: Key,
}

impl Default for StatisticsBuilder {
    fn default() -> StatisticsBuilder {
        StatisticsBuilder::with_limit(MAX_DISTINCT)
    }
}

impl StatisticsBuilder {
    pub(super) fn with_limit(limit: usize) -> StatisticsBuilder {
        StatisticsBuilder { counted: Statistics::counting(limit), key: Key::default() }
    }

    pub fn push(&mut self, labels: &Labels, size: SeriesSize) {
        let is_text = labels.iter().all(|(name, value)| is_text(name) && is_text(value));
        match is_text {
            true => self.count(labels, size),
            // of names that become the same one stays, so that the series counts once
            false => self.count(&Labels::from_pairs(labels.to_text()), size),
        }
    }

    pub fn finish(self) -> Statistics {
        self.counted
    }

    fn count(&mut self, labels: &Labels, size: SeriesSize) {
        let StatisticsBuilder { counted, key } = self;
        let counts = Counts { series: 1, samples: size.samples, bytes: size.bytes };
        counted.totals.add(counts);
        let metric = labels.metric_name().unwrap_or_default();
        counted.metrics.add(key.set(METRIC_NAME.as_bytes(), metric), counts);
        for (name, value) in labels.iter() {
            counted.label_names.add(key.set(name, b""), counts);
            if name != METRIC_NAME.as_bytes() {
                counted.label_pairs.add(key.set(name, value), counts);
            }
        }
    }
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

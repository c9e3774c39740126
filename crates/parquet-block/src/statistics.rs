//! What a block has many of: counts per metric, label name and label pair, in one small file of it,
//! so that nobody has to read the block to know.
//!
//! `statistics.parquet` lies in the folder of a block, Parquet or TSDB. Its columns:
//!
//! | id | column    | type  | |
//! |---:|-----------|-------|-|
//! |  1 | `kind`    | text  | `total`, `metric`, `label_name` or `label_pair` |
//! |  2 | `name`    | text  | of the label; `__name__` for a metric, empty for `total` |
//! |  3 | `value`   | text  | of the label; empty for `total` and `label_name` |
//! |  4 | `series`  | INT64 | series that have it |
//! |  5 | `samples` | INT64 | samples of those; windows in downsampled blocks |
//! |  6 | `bytes`   | INT64 | bytes that those samples take in the block's files |
//!
//! - One row `total` is about the whole block.
//! - A row `metric` per metric name; series without a metric have the one with an empty `value`.
//! - A row `label_name` per label name.
//! - Rows `label_pair` for the 1000 pairs that most series have, of equal ones the first by name
//!   and value. Pairs of `__name__` are not among them: they are the metrics.
//!
//! Rows follow each other in this order, within a kind by falling `series`, then by name and value.
//! Text that is not UTF-8 is written with replacement characters; what becomes the same text is one
//! row. A series counts once in each row.
//!
//! Counts are exact while a block has no more than 500,000 metrics, label names or pairs each.
//! Beyond that the rarest are dropped while counting, which bounds the memory; the key-value
//! metadata say how much may be missing from a count of each kind: `drumlin.missing.metric`,
//! `drumlin.missing.label_name` and `drumlin.missing.label_pair` are the most series by which a row
//! may be too low, and the most that something without a row may have. What only few series have is
//! dropped first, so these numbers are small next to the counts that matter. `drumlin.format` and
//! `drumlin.block` name format and block.

mod builder;
mod file;
mod tally;

pub use builder::{SeriesSize, StatisticsBuilder};
pub use tally::{Counts, Ranking, RankingRow};

use tally::Tally;

/// The name of the file in the block's folder.
pub const STATISTICS_FILE: &str = "statistics.parquet";

/// The most label pairs that are listed.
pub const TOP_PAIRS: usize = 1000;

/// Metrics, label names or label pairs that are counted at a time.
const MAX_DISTINCT: usize = 500_000;

/// Statistics of a block, or of several together.
///
/// Those of a block that was just counted know all of its label pairs, those from a file the ones
/// listed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    totals: Counts,
    metrics: Tally,
    label_names: Tally,
    label_pairs: Tally,
}

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics::counting(MAX_DISTINCT)
    }
}

impl Statistics {
    /// Of nothing yet, with room for so many of each kind.
    fn counting(limit: usize) -> Statistics {
        let tally = || Tally::new(limit);
        Statistics {
            totals: Counts::default(),
            metrics: tally(),
            label_names: tally(),
            label_pairs: tally(),
        }
    }

    /// Adds those of another block. Sums of metrics and label names are exact if both were. Of
    /// label pairs all are kept that either lists; the series of a pair may be more by what
    /// [`Ranking::missing`] says, because a block does not list what is rare in it.
    ///
    /// A series that is in both blocks counts twice.
    pub fn merge(&mut self, other: &Statistics) {
        self.totals.add(other.totals);
        self.metrics.merge(&other.metrics, usize::MAX);
        self.label_names.merge(&other.label_names, usize::MAX);
        self.label_pairs.merge(&other.label_pairs, TOP_PAIRS);
    }

    pub fn totals(&self) -> Counts {
        self.totals
    }

    /// Every metric.
    pub fn by_metric(&self) -> Ranking<'_> {
        self.metrics.ranking(usize::MAX)
    }

    /// Every label name.
    pub fn by_label_name(&self) -> Ranking<'_> {
        self.label_names.ranking(usize::MAX)
    }

    /// The first [`TOP_PAIRS`] label pairs.
    pub fn by_label_pair(&self) -> Ranking<'_> {
        self.label_pairs.ranking(TOP_PAIRS)
    }
}

#[cfg(test)]
mod tests;

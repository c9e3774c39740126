//! The settings of a gateway.

use std::path::PathBuf;
use std::time::Duration;

use block::sync::{CatalogReading, RelabelConfig};
use blocks_api::BlocksApiSettings;
use model::{Budget, TimeRange, TimestampMs};
use storeapi::SeriesLimits;

use crate::{Error, Kind, Result};

/// A point in time, fixed or moving with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBound {
    At(TimestampMs),
    /// This many milliseconds after now; negative for the past, as `--min-time=-6w` means it.
    FromNow(i64),
}

impl TimeBound {
    fn at(self, now: TimestampMs) -> i64 {
        match self {
            TimeBound::At(time) => time.0,
            TimeBound::FromNow(ms) => now.0.saturating_add(ms),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where metas of blocks are kept over restarts; without it they are fetched again.
    pub data_dir: Option<PathBuf>,
    /// How often it is looked which blocks there are.
    pub sync_interval: Duration,
    /// How often the whole bucket is listed, be it by the writer of its catalog; zero lists it at
    /// every sync and reads no catalog.
    pub full_interval: Duration,
    /// Whether to write the catalog of the bucket, for buckets without a compactor of ours.
    pub writes_catalog: bool,
    /// Metas fetched at a time.
    pub meta_concurrency: usize,
    /// Blocks whose index header or footers are read at a time.
    pub open_concurrency: usize,
    /// Only blocks that reach into `min_time..=max_time` are served.
    pub min_time: TimeBound,
    pub max_time: TimeBound,
    /// Only blocks whose external labels these rules keep are served.
    pub relabel: Vec<RelabelConfig>,
    /// Blocks younger than this are not served yet.
    pub consistency_delay: Duration,
    /// How long blocks marked for deletion are still served.
    pub ignore_deletion_marks_delay: Duration,
    /// Whether blocks are opened, the newest first, before a request needs them.
    pub open_ahead: bool,
    /// Bytes of index headers, postings, series entries and Parquet footers kept in memory; at most
    /// an eighth of the budget.
    pub index_cache_bytes: u64,
    /// Bytes of chunks and pages of Parquet kept in memory; at most an eighth of the budget.
    pub bucket_cache_bytes: u64,
    /// The most series and samples one request may return; 0 = no limit.
    pub limits: SeriesLimits,
    /// Bytes that one request may fetch from the bucket; 0 = no limit.
    pub downloaded_bytes_limit: u64,
    /// Requests for series and for labels that are answered at once; more wait.
    pub series_max_concurrency: usize,
    pub blocks_api: BlocksApiSettings,
    /// Requests charge what they hold to it.
    pub budget: Budget,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            data_dir: None,
            sync_interval: Duration::from_secs(15 * 60),
            full_interval: Duration::ZERO,
            writes_catalog: false,
            meta_concurrency: 32,
            open_concurrency: 20,
            min_time: TimeBound::At(TimestampMs::MIN),
            max_time: TimeBound::At(TimestampMs::MAX),
            relabel: Vec::new(),
            consistency_delay: Duration::ZERO,
            ignore_deletion_marks_delay: Duration::from_secs(24 * 3600),
            open_ahead: true,
            index_cache_bytes: 250 << 20,
            bucket_cache_bytes: 1 << 30,
            limits: SeriesLimits::default(),
            downloaded_bytes_limit: 0,
            series_max_concurrency: 20,
            blocks_api: BlocksApiSettings::default(),
            budget: Budget::unlimited(),
        }
    }
}

impl Settings {
    pub(crate) fn range(&self, now: TimestampMs) -> TimeRange {
        TimeRange::from_closed(self.min_time.at(now), self.max_time.at(now))
    }

    /// How the catalog of the bucket is read. Marks that others write must be seen in a quarter of
    /// the time for which marked blocks are served.
    pub(crate) fn catalog_reading(&self) -> Option<CatalogReading> {
        let full_interval = self.full_interval.min(self.ignore_deletion_marks_delay / 4);
        (!full_interval.is_zero()).then_some(CatalogReading {
            sync_interval: self.sync_interval,
            full_interval,
            whole_metas: self.writes_catalog,
        })
    }

    pub(crate) fn validate(&self, now: TimestampMs) -> Result<()> {
        let (min, max) = (self.min_time.at(now), self.max_time.at(now));
        if min > max {
            let text = format!(
                "--min-time ({min} ms) is after --max-time ({max} ms): no block could be served"
            );
            return Err(Error::new(Kind::Invalid, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_move_with_the_clock_and_must_not_cross() {
        let hour = 3_600_000;
        let settings = Settings {
            min_time: TimeBound::FromNow(-2 * hour),
            max_time: TimeBound::FromNow(-hour),
            ..Settings::default()
        };
        assert_eq!(
            settings.range(TimestampMs(10 * hour)),
            TimeRange::from_closed(8 * hour, 9 * hour)
        );
        assert!(settings.validate(TimestampMs(0)).is_ok());
        let crossed = Settings { max_time: TimeBound::At(TimestampMs(0)), ..settings };
        let error = crossed.validate(TimestampMs(10 * hour)).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("--min-time"), "{error}");
        assert_eq!(Settings::default().range(TimestampMs(0)), TimeRange::ALL);
    }
}

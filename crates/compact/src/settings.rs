//! The settings of a compactor.

use std::path::PathBuf;
use std::time::Duration;

use block::sync::RelabelConfig;
use blocks_api::BlocksApiSettings;
use merge::Dedup;
use model::{Resolution, TimeRange};
use parquet_block::FormatVersion;

use crate::downsample_plan::{MIN_5M_SPAN_MS, MIN_RAW_SPAN_MS};
use crate::error::Case;
use crate::identity::ENCODER_VERSION;
use crate::{Error, Result};

/// The version of Parquet that is written unless told otherwise.
pub const PARQUET_VERSION: FormatVersion = FormatVersion::V2;

/// How downsampled blocks are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DownsampleFormat {
    /// Both in a bucket that shows a sign of Thanos, until Parquet was once asked for; Parquet in
    /// any other.
    #[default]
    Auto,
    /// Plain Parquet, also from now on where nothing else is asked for.
    Parquet,
    /// TSDB blocks of AggrChunks, for fleets with Thanos store gateways.
    Thanos,
    Both,
}

/// How long blocks of each resolution are kept; zero = for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub raw: Duration,
    pub five_minutes: Duration,
    pub one_hour: Duration,
}

impl Retention {
    pub(crate) fn of(&self, resolution: Resolution) -> Option<Duration> {
        let kept = match resolution {
            Resolution::Raw => self.raw,
            Resolution::FiveMinutes => self.five_minutes,
            Resolution::OneHour => self.one_hour,
        };
        (!kept.is_zero()).then_some(kept)
    }
}

/// What tells a release of this program from others that work on the same bucket. Not for users:
/// tests let two releases meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Of the bytes of outputs.
    pub encoder_version: u32,
    /// What `format` may say in the `meta.json` of blocks that are read.
    pub formats: &'static [&'static str],
}

impl Default for Release {
    /// This one.
    fn default() -> Release {
        Release { encoder_version: ENCODER_VERSION, formats: parquet_block::FORMATS }
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where metas are kept over restarts; nothing else needs a disk.
    pub data_dir: Option<PathBuf>,
    pub range: TimeRange,
    pub selector: Vec<RelabelConfig>,
    /// External labels that tell replicas apart; blocks that differ only in them are merged.
    pub replica_labels: Vec<String>,
    /// How replicas in overlapping blocks become one series.
    pub dedup: Dedup,
    /// Merge overlapping blocks of equal labels even if their samples contradict each other.
    pub merge_conflicting: bool,
    /// How old a block must be before it is touched.
    pub consistency_delay: Duration,
    /// How long a block stays after it was marked for deletion.
    pub delete_delay: Duration,
    pub retention: Retention,
    pub downsampling: bool,
    pub downsample_format: DownsampleFormat,
    /// The version of Parquet that is written; a block that has a copy in another one that is read
    /// here is not downsampled again.
    pub parquet_version: FormatVersion,
    /// Blocks may go for copies that stores of the previous release do not read.
    pub allow_retire: bool,
    /// Groups compacted at a time.
    pub compact_concurrency: usize,
    /// Blocks downsampled at a time.
    pub downsample_concurrency: usize,
    /// Threads that aggregate one block.
    pub downsample_workers: usize,
    pub meta_fetch_concurrency: usize,
    /// Bytes of index beyond which blocks are not merged further.
    pub max_index_size: u64,
    /// The pause between iterations; `None`: one iteration, and the work is done.
    pub wait: Option<Duration>,
    pub release: Release,
    pub blocks_api: BlocksApiSettings,
}

impl Default for Settings {
    fn default() -> Settings {
        const HOUR: Duration = Duration::from_secs(3600);
        Settings {
            data_dir: None,
            range: TimeRange::ALL,
            selector: Vec::new(),
            replica_labels: Vec::new(),
            dedup: Dedup::Chain,
            merge_conflicting: false,
            consistency_delay: HOUR / 2,
            delete_delay: 48 * HOUR,
            retention: Retention::default(),
            downsampling: true,
            downsample_format: DownsampleFormat::Auto,
            parquet_version: PARQUET_VERSION,
            allow_retire: false,
            compact_concurrency: 1,
            downsample_concurrency: 1,
            downsample_workers: 2,
            meta_fetch_concurrency: 32,
            max_index_size: 64 << 30,
            wait: None,
            release: Release::default(),
            blocks_api: BlocksApiSettings::default(),
        }
    }
}

impl Settings {
    /// Refuses settings that would delete data before its coarser copy can exist, or write what is
    /// not read here.
    pub fn validate(&self) -> Result<()> {
        if !self.downsampling {
            return Ok(());
        }
        let written = self.parquet_version.as_str();
        let writes_parquet = self.downsample_format != DownsampleFormat::Thanos;
        if writes_parquet && !self.release.formats.contains(&written) {
            let text = format!(
                "--downsample.parquet-version: this version of drumlin does not read {written}; \
                 set one of {}",
                self.release.formats.join(", ")
            );
            return Err(Error(Case::Settings(text)));
        }
        let too_short =
            |kept: Duration, least_ms: i64| !kept.is_zero() && (kept.as_millis() as i64) < least_ms;
        if too_short(self.retention.raw, MIN_RAW_SPAN_MS) {
            let text = "--retention.resolution-raw is below 40h: raw blocks would go before they \
                are downsampled; raise it or set --downsampling.disable";
            return Err(Error(Case::Settings(text.into())));
        }
        if too_short(self.retention.five_minutes, MIN_5M_SPAN_MS) {
            let text = "--retention.resolution-5m is below 10d: 5m blocks would go before their 1h \
                copies exist; raise it or set --downsampling.disable";
            return Err(Error(Case::Settings(text.into())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_that_outruns_downsampling_is_refused() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let with = |raw, five_minutes| Settings {
            retention: Retention { raw, five_minutes, one_hour: Duration::ZERO },
            ..Settings::default()
        };
        assert!(with(hours(0), hours(0)).validate().is_ok());
        assert!(with(hours(40), hours(240)).validate().is_ok());
        assert!(
            with(hours(39), hours(0))
                .validate()
                .unwrap_err()
                .to_string()
                .contains("resolution-raw")
        );
        assert!(
            with(hours(0), hours(239))
                .validate()
                .unwrap_err()
                .to_string()
                .contains("resolution-5m")
        );
        assert!(Settings { downsampling: false, ..with(hours(1), hours(1)) }.validate().is_ok());
    }

    #[test]
    fn a_format_that_is_not_read_is_not_written() {
        let release = Release { formats: &["parquet/1"], ..Release::default() };
        let writing =
            |parquet_version| Settings { parquet_version, release, ..Settings::default() };
        assert!(writing(FormatVersion::V1).validate().is_ok());
        let refused = writing(FormatVersion::V2);
        let error = refused.validate().unwrap_err().to_string();
        assert!(error.contains("parquet/2") && error.contains("parquet-version"), "{error}");
        let thanos = Settings { downsample_format: DownsampleFormat::Thanos, ..refused };
        assert!(thanos.validate().is_ok(), "nothing is written as Parquet");
    }
}

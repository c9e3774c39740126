//! What the sidecar is told.

use std::path::PathBuf;
use std::time::Duration;

use model::TimestampMs;
use storeapi::SeriesLimits;

use crate::reloader::ReloaderSettings;

/// The oldest data to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinTime {
    At(TimestampMs),
    /// So long before now.
    Before(Duration),
}

impl MinTime {
    /// The limit in milliseconds as of `now`.
    pub fn as_of(self, now: TimestampMs) -> i64 {
        match self {
            MinTime::At(time) => time.0,
            MinTime::Before(span) => now.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// How blocks are shipped; the defaults are Thanos'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipperSettings {
    /// `--tsdb.path`: where Prometheus keeps its blocks.
    pub tsdb_path: PathBuf,
    /// `--shipper.upload-compacted`: also blocks that Prometheus compacted.
    pub upload_compacted: bool,
    /// `--shipper.ignore-unequal-block-size`: go on although Prometheus compacts.
    pub ignore_unequal_block_size: bool,
    /// `--shipper.allow-out-of-order-uploads`: one failing block does not hold up newer ones.
    pub allow_out_of_order_uploads: bool,
    /// `--shipper.skip-corrupted-blocks`: blocks without readable `meta.json` do not hold up others.
    pub skip_corrupted_blocks: bool,
    /// `--shipper.upload-concurrency`: chunk files at a time; 0 = one.
    pub upload_concurrency: usize,
    /// `--shipper.meta-file-name`.
    pub meta_file_name: String,
    /// How often to look for new blocks.
    pub interval: Duration,
}

impl Default for ShipperSettings {
    fn default() -> ShipperSettings {
        ShipperSettings {
            tsdb_path: PathBuf::from("./data"),
            upload_compacted: false,
            ignore_unequal_block_size: false,
            allow_out_of_order_uploads: false,
            skip_corrupted_blocks: false,
            upload_concurrency: 0,
            meta_file_name: "thanos.shipper.json".to_owned(),
            interval: Duration::from_secs(30),
        }
    }
}

/// Everything the sidecar is told; the defaults are Thanos'.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--prometheus.url`, with any path prefix.
    pub prometheus_url: String,
    /// The content of `--prometheus.http-client`; empty = nothing special.
    pub http_client: String,
    /// `--prometheus.ready_timeout`: how long the shipper waits for Prometheus to come up.
    pub ready_timeout: Duration,
    /// `--prometheus.get_config_interval`.
    pub get_config_interval: Duration,
    /// `--prometheus.get_config_timeout`.
    pub get_config_timeout: Duration,
    /// `--min-time`.
    pub min_time: MinTime,
    /// `--store.limits.request-series`, `--store.limits.request-samples`.
    pub limits: SeriesLimits,
    pub shipper: ShipperSettings,
    pub reloader: ReloaderSettings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            prometheus_url: "http://localhost:9090".to_owned(),
            http_client: String::new(),
            ready_timeout: Duration::from_secs(600),
            get_config_interval: Duration::from_secs(30),
            get_config_timeout: Duration::from_secs(30),
            min_time: MinTime::At(TimestampMs::MIN),
            limits: SeriesLimits::default(),
            shipper: ShipperSettings::default(),
            reloader: ReloaderSettings::default(),
        }
    }
}

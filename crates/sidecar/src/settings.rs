//! The settings of the sidecar.

use std::time::Duration;

use block::ship::ShipperSettings;
use model::TimestampMs;
use storeapi::SeriesLimits;

use crate::reloader::ReloaderSettings;

/// The oldest data to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinTime {
    At(TimestampMs),
    /// This long before now.
    Before(Duration),
}

impl MinTime {
    /// The limit in milliseconds as of `now`.
    pub fn as_of(self, now: TimestampMs) -> i64 {
        match self {
            MinTime::At(time) => time.0,
            MinTime::Before(span) => {
                now.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}

/// All settings of the sidecar; the defaults are Thanos'.
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
    /// `--tsdb.path` and `--shipper.*`.
    pub shipper: ShipperSettings,
    /// How often to look for new blocks.
    pub ship_interval: Duration,
    /// `--shipper.ignore-unequal-block-size`: continue although Prometheus compacts.
    pub ignore_unequal_block_size: bool,
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
            ship_interval: Duration::from_secs(30),
            ignore_unequal_block_size: false,
            reloader: ReloaderSettings::default(),
        }
    }
}

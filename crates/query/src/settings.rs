//! The settings of a querier.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use engine::Dedup;
use model::{Budget, Labels};
use promql::ParserOptions;
use storeapi::SeriesLimits;
use storeapi::client::{Compression, TlsSettings};

use crate::{Error, Kind};

/// How messages to endpoints are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrpcCompression {
    #[default]
    None,
    Snappy,
}

impl GrpcCompression {
    pub(crate) fn applied(self) -> Option<Compression> {
        match self {
            GrpcCompression::None => None,
            GrpcCompression::Snappy => Some(Compression::Snappy),
        }
    }
}

impl std::str::FromStr for GrpcCompression {
    type Err = Error;

    fn from_str(name: &str) -> Result<GrpcCompression, Error> {
        match name {
            "" | "none" => Ok(GrpcCompression::None),
            "snappy" => Ok(GrpcCompression::Snappy),
            _ => {
                Err(Error::new(Kind::Invalid, format!("compression {name:?}: use none or snappy")))
            }
        }
    }
}

/// Whether an endpoint is reached over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EndpointTls {
    /// As the settings for all endpoints say.
    #[default]
    AsForAll,
    Off,
    On(TlsSettings),
}

/// One endpoint as configured: an address, or a `dns+…` name that stands for several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    pub address: String,
    /// Queried even while it does not answer, so that its absence is an error or a warning from the
    /// first second.
    pub strict: bool,
    /// One address in front of several equal servers.
    pub group: bool,
    pub tls: EndpointTls,
    /// `None`: as for all.
    pub compression: Option<GrpcCompression>,
}

/// A configuration given as text or as a file that is read again while the process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    Inline(String),
    File(PathBuf),
}

#[derive(Clone, Debug)]
pub struct EndpointSettings {
    pub specs: Vec<EndpointSpec>,
    pub config: Option<ConfigSource>,
    pub config_reload: Duration,
    /// Files in the format of Prometheus' file discovery.
    pub sd_files: Vec<PathBuf>,
    pub sd_files_reload: Duration,
    pub dns_refresh: Duration,
    /// How long an endpoint may take to describe itself, and how often it is asked.
    pub info_timeout: Duration,
    /// How long an endpoint that stopped answering stays known.
    pub unhealthy_timeout: Duration,
    /// For endpoints that have no TLS settings of their own.
    pub tls: Option<TlsSettings>,
    /// For endpoints that do not say how.
    pub compression: GrpcCompression,
    /// The longest wait for the next message of an endpoint.
    pub response_timeout: Option<Duration>,
}

impl Default for EndpointSettings {
    fn default() -> EndpointSettings {
        EndpointSettings {
            specs: Vec::new(),
            config: None,
            config_reload: Duration::from_secs(300),
            sd_files: Vec::new(),
            sd_files_reload: Duration::from_secs(300),
            dns_refresh: Duration::from_secs(30),
            info_timeout: Duration::from_secs(5),
            unhealthy_timeout: Duration::from_secs(300),
            tls: None,
            compression: GrpcCompression::None,
            response_timeout: None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct WebSettings {
    /// Path under which everything is served, such as `/thanos`; empty for none.
    pub route_prefix: String,
    /// The path under which users see it, behind a proxy that strips it.
    pub external_prefix: String,
    pub disable_cors: bool,
}

/// What the status endpoints report.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub version: String,
    pub revision: String,
    pub flags: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub endpoints: EndpointSettings,
    pub replica_labels: Vec<String>,
    /// How replicas are merged when a query asks for deduplication.
    pub dedup: Dedup,
    /// Labels that this querier adds to its own description.
    pub selector_labels: Labels,
    pub timeout: Duration,
    pub max_concurrent: usize,
    /// Samples one query may hold; 0 for no limit.
    pub max_samples: u64,
    pub lookback: Duration,
    /// Look back over the windows of the downsampled data that a query allows, however long.
    pub dynamic_lookback: bool,
    /// Let range queries that name no resolution read windows up to a fifth of their step.
    pub auto_downsampling: bool,
    pub instant_max_source_resolution: Duration,
    pub partial_response: bool,
    pub default_evaluation_interval: Duration,
    pub default_step: Duration,
    /// The range of metadata calls that name none; zero for all time.
    pub metadata_default_range: Duration,
    /// Limits on what one select may return.
    pub limits: SeriesLimits,
    /// Which parts of the language are enabled.
    pub language: ParserOptions,
    /// Metric names are dropped at the end of a query, not by each function.
    pub delayed_name_removal: bool,
    pub engine_threads: usize,
    pub budget: Budget,
    pub web: WebSettings,
    pub about: About,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            endpoints: EndpointSettings::default(),
            replica_labels: Vec::new(),
            dedup: Dedup::Penalty,
            selector_labels: Labels::empty(),
            timeout: Duration::from_secs(120),
            max_concurrent: 20,
            max_samples: 50_000_000,
            lookback: Duration::from_secs(300),
            dynamic_lookback: true,
            auto_downsampling: false,
            instant_max_source_resolution: Duration::ZERO,
            partial_response: true,
            default_evaluation_interval: Duration::from_secs(60),
            default_step: Duration::from_secs(1),
            metadata_default_range: Duration::ZERO,
            limits: SeriesLimits::default(),
            language: ParserOptions::default(),
            delayed_name_removal: false,
            engine_threads: std::thread::available_parallelism().map_or(1, usize::from),
            budget: Budget::unlimited(),
            web: WebSettings::default(),
            about: About::default(),
        }
    }
}

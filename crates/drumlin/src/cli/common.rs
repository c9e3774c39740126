//! Flags that every component has.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::Budget;
use model::secret::shown_path;
use serve::{ClientAuth, Pem, ServerTls, TlsChoice, TlsVersion};
use storeapi::SeriesLimits;

use super::kingpin::Foreign;
use super::values::{ByteSize, TimeOrOffset, duration, split_commas};
use crate::{allocator, memory};

/// Accepted by every component without effect.
pub(crate) const FOREIGN: &[Foreign] = &[
    Foreign::value("tracing.config"),
    Foreign::value("tracing.config-file"),
    Foreign::switch("enable-auto-gomemlimit"),
    Foreign::value("auto-gomemlimit.ratio"),
    Foreign::value("request.logging-config"),
    Foreign::value("request.logging-config-file"),
    Foreign::value("hash-func"),
    Foreign::value("debug.name"),
];

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logs and memory")]
pub(crate) struct ProcessArgs {
    /// Minimum level of log messages: debug, info, warn or error.
    #[arg(id = "log.level", long = "log.level", default_value = "info", value_name = "LEVEL")]
    log_level: String,
    /// Format of log lines: logfmt or json.
    #[arg(id = "log.format", long = "log.format", default_value = "logfmt", value_name = "FORMAT")]
    log_format: String,
    /// Memory that queries and caches may use together, such as 4GB; by default three quarters of
    /// the container's limit or of the machine's memory. Of less than 768 MiB, all but 192 MiB, and
    /// half at least.
    #[arg(id = "memory-budget", long = "memory-budget", value_name = "SIZE")]
    memory_budget: Option<ByteSize>,
}

impl ProcessArgs {
    pub(crate) fn log_settings(&self) -> Result<serve::logs::Settings> {
        Ok(serve::logs::Settings {
            level: self.log_level.clone(),
            format: self.log_format.parse()?,
        })
    }

    pub(crate) fn budget(&self) -> Budget {
        self.part_of_budget(1)
    }

    /// One of so many equal parts, for processes that have several.
    pub(crate) fn part_of_budget(&self, parts: u64) -> Budget {
        let whole = self.memory_budget.map_or_else(memory::default_budget, |size| size.0);
        let limit = whole / parts;
        let budget = Budget::new(limit);
        budget.relieve_by(move || allocator::give_back_above(limit / 4 * 3));
        budget
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "HTTP server")]
pub(crate) struct HttpArgs {
    /// Address of the HTTP API, health and metrics; port 0 picks a free port and logs it.
    #[arg(
        id = "http-address",
        long = "http-address",
        default_value = "0.0.0.0:10902",
        value_name = "ADDRESS"
    )]
    address: String,
    /// How long to let running requests finish when the process is told to stop.
    #[arg(
        id = "http-grace-period",
        long = "http-grace-period",
        default_value = "2m",
        value_name = "DURATION",
        value_parser = duration
    )]
    grace: Duration,
    /// Web configuration file in the format of Prometheus' exporter toolkit: TLS, users, headers and
    /// limits; reread when it changes.
    #[arg(
        id = "http.config",
        long = "http.config",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    config: String,
}

impl HttpArgs {
    pub(crate) fn settings(&self) -> serve::HttpSettings {
        serve::HttpSettings {
            address: self.address.clone(),
            grace: self.grace,
            config: path(&self.config),
            patience: serve::Patience::default(),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "gRPC server")]
pub(crate) struct GrpcArgs {
    /// Address on which StoreAPI is served to queriers.
    #[arg(
        id = "grpc-address",
        long = "grpc-address",
        default_value = "0.0.0.0:10901",
        value_name = "ADDRESS"
    )]
    address: String,
    /// How long to let running streams finish when the process is told to stop.
    #[arg(
        id = "grpc-grace-period",
        long = "grpc-grace-period",
        default_value = "2m",
        value_name = "DURATION",
        value_parser = duration
    )]
    grace: Duration,
    /// Server certificate, in PEM; reread when it changes, like the other files.
    #[arg(
        id = "grpc-server-tls-cert",
        long = "grpc-server-tls-cert",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    cert: String,
    /// Private key of the certificate.
    #[arg(
        id = "grpc-server-tls-key",
        long = "grpc-server-tls-key",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    key: String,
    /// Accept only clients with a certificate signed by this CA.
    #[arg(
        id = "grpc-server-tls-client-ca",
        long = "grpc-server-tls-client-ca",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    client_ca: String,
    /// Minimum TLS version: 1.2 or 1.3.
    #[arg(
        id = "grpc-server-tls-min-version",
        long = "grpc-server-tls-min-version",
        default_value = "1.3",
        value_name = "VERSION"
    )]
    min_version: String,
    /// A cipher suite that TLS 1.2 may use, by Go's name; all that are secure if none is given.
    /// Repeatable.
    #[arg(id = "grpc-server-tls-ciphers", long = "grpc-server-tls-ciphers", value_name = "SUITE")]
    ciphers: Vec<String>,
    /// A curve for exchanging keys: CurveP256, CurveP384 or X25519; all if none is given.
    /// Repeatable.
    #[arg(id = "grpc-server-tls-curves", long = "grpc-server-tls-curves", value_name = "CURVE")]
    curves: Vec<String>,
    /// Close connections after this time, so that clients spread over servers again.
    #[arg(
        id = "grpc-server-max-connection-age",
        long = "grpc-server-max-connection-age",
        default_value = "60m",
        value_name = "DURATION",
        value_parser = duration
    )]
    max_connection_age: Duration,
}

impl GrpcArgs {
    pub(crate) fn settings(&self) -> Result<serve::GrpcSettings> {
        let choice = TlsChoice {
            min_version: tls_version("grpc-server-tls-min-version", &self.min_version)?,
            cipher_suites: split_commas(&self.ciphers),
            curves: split_commas(&self.curves),
            ..TlsChoice::default()
        };
        choice.check().context("--grpc-server-tls-ciphers, --grpc-server-tls-curves")?;
        let tls = match (path(&self.cert), path(&self.key), path(&self.client_ca)) {
            (None, None, None) => None,
            (Some(cert), Some(key), client_ca) => Some(ServerTls {
                cert: Pem::File(cert),
                key: Pem::File(key),
                client_auth: match client_ca {
                    Some(_) => ClientAuth::RequireAndVerify,
                    None => ClientAuth::None,
                },
                client_ca: client_ca.map(Pem::File),
                choice,
                ..ServerTls::default()
            }),
            (None, None, Some(_)) => {
                bail!(
                    "--grpc-server-tls-client-ca needs --grpc-server-tls-cert and \
                     --grpc-server-tls-key"
                )
            }
            _ => bail!("--grpc-server-tls-cert and --grpc-server-tls-key must be given together"),
        };
        Ok(serve::GrpcSettings {
            address: self.address.clone(),
            grace: self.grace,
            tls,
            max_connection_age: Some(self.max_connection_age).filter(|age| !age.is_zero()),
            patience: serve::Patience::grpc(),
        })
    }
}

/// The range of time whose data a component uses; each component describes it in its own help.
#[derive(Debug, clap::Args)]
pub(crate) struct TimeArgs {
    #[arg(
        id = "min-time",
        long = "min-time",
        default_value = "0000-01-01T00:00:00Z",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    pub(crate) min: TimeOrOffset,
    #[arg(
        id = "max-time",
        long = "max-time",
        default_value = "9999-12-31T23:59:59Z",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    pub(crate) max: TimeOrOffset,
}

/// Limits on one request to StoreAPI.
#[derive(Debug, clap::Args)]
pub(crate) struct RequestLimitArgs {
    /// Maximum series per request; 0 for no limit.
    #[arg(
        id = "store.limits.request-series",
        long = "store.limits.request-series",
        default_value_t = 0,
        value_name = "N"
    )]
    series: u64,
    /// Maximum samples per request, counted as 120 per chunk; 0 for no limit.
    #[arg(
        id = "store.limits.request-samples",
        long = "store.limits.request-samples",
        default_value_t = 0,
        value_name = "N"
    )]
    samples: u64,
}

impl RequestLimitArgs {
    pub(crate) fn settings(&self) -> SeriesLimits {
        SeriesLimits { series: self.series, samples: self.samples }
    }
}

/// The version of TLS that a flag names.
pub(crate) fn tls_version(flag: &str, name: &str) -> Result<TlsVersion> {
    name.parse().with_context(|| format!("--{flag}={name}"))
}

/// Manifests use an empty value where no file is wanted.
pub(crate) fn path(text: &str) -> Option<PathBuf> {
    Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// The text of a pair of flags `--name` (content) and `--name-file` (path), of which one may be
/// given.
pub(crate) fn content(
    name: &str,
    content: &Option<String>,
    file: &Option<String>,
) -> Result<Option<String>> {
    let content = content.as_ref().filter(|text| !text.is_empty());
    match (content, file.as_deref().and_then(path)) {
        (Some(_), Some(_)) => bail!("--{name} and --{name}-file are both given; give one"),
        (Some(text), None) => Ok(Some(text.clone())),
        (None, Some(file)) => {
            let read = std::fs::read_to_string(&file);
            read.map(Some).with_context(|| format!("--{name}-file: read {}", shown_path(&file)))
        }
        (None, None) => Ok(None),
    }
}

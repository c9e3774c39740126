//! `drumlin sidecar`: flags to settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use block::ship::ShipperSettings;
use model::TimestampMs;
use sidecar::{MinTime, ReloaderSettings, Settings, Sidecar, SidecarParts};

use crate::bucket::BucketArgs;
use crate::cli::common::{GrpcArgs, HttpArgs, ProcessArgs, RequestLimitArgs, content, path};
use crate::cli::kingpin::Foreign;
use crate::cli::values::{TimeOrOffset, duration};
use crate::process::ProcessContext;

/// Flags of `thanos sidecar` that are accepted without effect.
pub(crate) const FOREIGN: &[Foreign] = &[Foreign::value("reloader.process-name")];

/// Serves the recent data of a Prometheus and uploads its finished blocks to a bucket.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    prometheus: PrometheusArgs,
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    shipper: ShipperArgs,
    #[command(flatten)]
    reloader: ReloaderArgs,
    #[command(flatten)]
    serving: ServingArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    grpc: GrpcArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Prometheus")]
struct PrometheusArgs {
    /// URL of Prometheus, with its path prefix if it has one.
    #[arg(
        id = "prometheus.url",
        long = "prometheus.url",
        default_value = "http://localhost:9090",
        value_name = "URL"
    )]
    url: String,
    /// How to authenticate to Prometheus and which certificates to trust, as YAML.
    #[arg(id = "prometheus.http-client", long = "prometheus.http-client", value_name = "CONTENT")]
    http_client: Option<String>,
    /// A file with that YAML.
    #[arg(
        id = "prometheus.http-client-file",
        long = "prometheus.http-client-file",
        value_name = "FILE"
    )]
    http_client_file: Option<String>,
    /// How long to wait for Prometheus to become ready before giving up.
    #[arg(
        id = "prometheus.ready_timeout",
        long = "prometheus.ready_timeout",
        default_value = "10m",
        value_name = "DURATION",
        value_parser = duration
    )]
    ready_timeout: Duration,
    /// How often the external labels of Prometheus are read.
    #[arg(
        id = "prometheus.get_config_interval",
        long = "prometheus.get_config_interval",
        default_value = "30s",
        value_name = "DURATION",
        value_parser = duration
    )]
    get_config_interval: Duration,
    /// How long reading them may take.
    #[arg(
        id = "prometheus.get_config_timeout",
        long = "prometheus.get_config_timeout",
        default_value = "30s",
        value_name = "DURATION",
        value_parser = duration
    )]
    get_config_timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Shipping blocks")]
struct ShipperArgs {
    /// Prometheus' data folder.
    #[arg(id = "tsdb.path", long = "tsdb.path", default_value = "./data", value_name = "FOLDER")]
    tsdb_path: PathBuf,
    /// Also upload blocks that Prometheus compacted, such as those from before the sidecar was
    /// added.
    #[arg(id = "shipper.upload-compacted", long = "shipper.upload-compacted")]
    upload_compacted: bool,
    /// Number of files of a block uploaded at a time; 0 means one.
    #[arg(
        id = "shipper.upload-concurrency",
        long = "shipper.upload-concurrency",
        default_value_t = 0,
        value_name = "N"
    )]
    upload_concurrency: usize,
    /// Name of the file in the data folder that records what was uploaded; Prometheus can be told
    /// to read it.
    #[arg(
        id = "shipper.meta-file-name",
        long = "shipper.meta-file-name",
        default_value = "thanos.shipper.json",
        value_name = "NAME"
    )]
    meta_file_name: String,
    /// Upload blocks even though Prometheus compacts its blocks itself.
    #[arg(
        id = "shipper.ignore-unequal-block-size",
        long = "shipper.ignore-unequal-block-size",
        hide = true
    )]
    ignore_unequal_block_size: bool,
    /// Upload newer blocks even though an older one failed.
    #[arg(
        id = "shipper.allow-out-of-order-uploads",
        long = "shipper.allow-out-of-order-uploads",
        hide = true
    )]
    allow_out_of_order_uploads: bool,
    /// Skip blocks whose meta.json cannot be read.
    #[arg(
        id = "shipper.skip-corrupted-blocks",
        long = "shipper.skip-corrupted-blocks",
        hide = true
    )]
    skip_corrupted_blocks: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Reloading Prometheus")]
struct ReloaderArgs {
    /// Prometheus' configuration file to watch; Prometheus is told to reload when it changes.
    #[arg(
        id = "reloader.config-file",
        long = "reloader.config-file",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    config_file: String,
    /// Where to write the configuration with $(NAME) replaced by environment variables.
    #[arg(
        id = "reloader.config-envsubst-file",
        long = "reloader.config-envsubst-file",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    output_file: String,
    /// A folder of rule files to watch. Repeatable.
    #[arg(id = "reloader.rule-dir", long = "reloader.rule-dir", value_name = "FOLDER")]
    rule_dir: Vec<PathBuf>,
    /// How often the files are checked; 0 checks once.
    #[arg(
        id = "reloader.watch-interval",
        long = "reloader.watch-interval",
        default_value = "3m",
        value_name = "DURATION",
        value_parser = duration
    )]
    watch_interval: Duration,
    /// How long to wait before retrying a failed reload.
    #[arg(
        id = "reloader.retry-interval",
        long = "reloader.retry-interval",
        default_value = "5s",
        value_name = "DURATION",
        value_parser = duration
    )]
    retry_interval: Duration,
    /// How Prometheus is told to reload: http.
    #[arg(
        id = "reloader.method",
        long = "reloader.method",
        default_value = "http",
        value_name = "METHOD"
    )]
    method: String,
}

impl ReloaderArgs {
    fn settings(&self, environment: &BTreeMap<String, String>) -> Result<ReloaderSettings> {
        let settings = ReloaderSettings {
            config_file: path(&self.config_file),
            output_file: path(&self.output_file),
            rule_dirs: self.rule_dir.clone(),
            watch_interval: self.watch_interval,
            retry_interval: self.retry_interval,
            environment: environment.clone(),
        };
        if self.method != "http" && settings.is_active() {
            bail!(
                "--reloader.method={}: only http is supported; start Prometheus with \
                 --web.enable-lifecycle",
                self.method
            );
        }
        Ok(settings)
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Serving data")]
struct ServingArgs {
    /// Serve no older data than this: a time, or an offset from now such as -2h.
    #[arg(
        id = "min-time",
        long = "min-time",
        default_value = "0000-01-01T00:00:00Z",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    min_time: TimeOrOffset,
    #[command(flatten)]
    request: RequestLimitArgs,
}

impl Args {
    pub(crate) fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn settings(
        &self,
        now: TimestampMs,
        environment: &BTreeMap<String, String>,
    ) -> Result<Settings> {
        let (prometheus, shipper, serving) = (&self.prometheus, &self.shipper, &self.serving);
        let http_client = content(
            "prometheus.http-client",
            &prometheus.http_client,
            &prometheus.http_client_file,
        )?;
        Ok(Settings {
            prometheus_url: prometheus.url.clone(),
            http_client: http_client.unwrap_or_default(),
            ready_timeout: prometheus.ready_timeout,
            get_config_interval: prometheus.get_config_interval,
            get_config_timeout: prometheus.get_config_timeout,
            min_time: match serving.min_time {
                TimeOrOffset::Offset(ms) if ms < 0 => {
                    MinTime::Before(Duration::from_millis(ms.unsigned_abs()))
                }
                other => MinTime::At(TimestampMs(other.at(now))),
            },
            limits: serving.request.settings(),
            shipper: ShipperSettings {
                tsdb_path: shipper.tsdb_path.clone(),
                upload_compacted: shipper.upload_compacted,
                allow_out_of_order_uploads: shipper.allow_out_of_order_uploads,
                skip_corrupted_blocks: shipper.skip_corrupted_blocks,
                upload_concurrency: shipper.upload_concurrency,
                meta_file_name: shipper.meta_file_name.clone(),
                ..ShipperSettings::default()
            },
            ignore_unequal_block_size: shipper.ignore_unequal_block_size,
            reloader: self.reloader.settings(environment)?,
            ..Settings::default()
        })
    }
}

pub(crate) async fn run(args: Args, context: ProcessContext) -> Result<()> {
    let settings = args.settings(context.clock.now(), &context.environment)?;
    let parts = SidecarParts {
        clock: context.clock.clone(),
        budget: args.process.budget(),
        registry: context.registry.clone(),
        bucket: args.bucket.open(&context)?,
    };
    let sidecar = Sidecar::new(settings, parts)?;
    let listeners =
        serve::Settings { http: args.http.settings(), grpc: Some(args.grpc.settings()?) };
    context.serve(listeners, sidecar.into_component()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn values_reach_the_settings() {
        let words = "sidecar --prometheus.url=http://p:1/x --tsdb.path=/prometheus --min-time=-2h \
                     --shipper.upload-compacted --prometheus.ready_timeout=1m";
        let settings = Line::try_parse_from(words.split_whitespace())
            .unwrap()
            .args
            .settings(TimestampMs(0), &BTreeMap::new())
            .unwrap();
        assert_eq!(settings.prometheus_url, "http://p:1/x");
        assert_eq!(settings.min_time, MinTime::Before(Duration::from_secs(7200)));
        assert_eq!(settings.shipper.tsdb_path, PathBuf::from("/prometheus"));
        assert!(settings.shipper.upload_compacted);
        assert_eq!(settings.ready_timeout, Duration::from_secs(60));
        let signal =
            Line::try_parse_from(["sidecar", "--reloader.method=signal", "--reloader.rule-dir=/r"])
                .unwrap();
        assert!(signal.args.settings(TimestampMs(0), &BTreeMap::new()).is_err());
        let defaults = Line::try_parse_from(["sidecar"])
            .unwrap()
            .args
            .settings(TimestampMs(0), &BTreeMap::new())
            .unwrap();
        assert_eq!(defaults.shipper, ShipperSettings::default());
    }
}

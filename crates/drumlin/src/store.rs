//! `drumlin store`: flags to settings.

use anyhow::Result;
use block::config::Environment;
use store::{Gateway, Settings};

use crate::bucket::{BlocksApiArgs, BucketArgs, BucketUse, SelectorArgs};
use crate::cli::common::{GrpcArgs, HttpArgs, ProcessArgs, RequestLimitArgs, TimeArgs};
use crate::cli::kingpin::Foreign;
use crate::gateway::{GatewayArgs, GatewayContext};
use crate::process::ProcessContext;

/// Flags of `thanos store` that are accepted without effect.
pub(crate) const FOREIGN: &[Foreign] = &[
    Foreign::switch("cache-index-header"),
    Foreign::value("chunk-pool-size"),
    Foreign::value("store.grpc.touched-series-limit"),
    Foreign::value("store.grpc.series-sample-limit"),
    Foreign::value("objstore-parquet.config"),
    Foreign::value("objstore-parquet.config-file"),
    Foreign::value("block-discovery-strategy"),
    Foreign::switch("store.enable-index-header-lazy-reader"),
    Foreign::value("store.index-header-lazy-reader-idle-timeout"),
    Foreign::value("store.index-header-posting-offsets-in-mem-sampling"),
    Foreign::switch("store.enable-lazy-expanded-postings"),
    Foreign::value("store.posting-group-max-key-series-ratio"),
    Foreign::value("matcher-cache-size"),
    Foreign::value("debug.series-batch-size"),
    Foreign::value("debug.estimated-max-series-size"),
    Foreign::value("debug.estimated-max-chunk-size"),
    Foreign::switch("debug.advertise-compatibility-label"),
    Foreign::switch("web.disable"),
    Foreign::value("web.external-prefix"),
    Foreign::value("web.prefix-header"),
    Foreign::switch("web.disable-cors"),
];

/// Serves the blocks of a bucket to queriers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    time: ServedTimeArgs,
    #[command(flatten)]
    selector: SelectorArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    blocks_api: BlocksApiArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    grpc: GrpcArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Which blocks",
    mut_arg("min-time", |arg| arg.help("Serve no older data than this: a time, or an offset from \
        now such as -6w")),
    mut_arg("max-time", |arg| arg.help("Serve no newer data than this"))
)]
struct ServedTimeArgs {
    #[command(flatten)]
    time: TimeArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    #[command(flatten)]
    request: RequestLimitArgs,
}

impl Args {
    pub(crate) fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn settings(&self, environment: &Environment) -> Result<Settings> {
        let context =
            GatewayContext { time: &self.time.time, budget: self.process.budget(), environment };
        Ok(Settings {
            relabel: self.selector.relabel_configs()?,
            limits: self.limits.request.settings(),
            blocks_api: self.blocks_api.settings(),
            ..self.gateway.settings(context)?
        })
    }
}

pub(crate) async fn run(args: Args, context: ProcessContext) -> Result<()> {
    let settings = args.settings(&context.environment)?;
    let bucket = args.bucket.require(BucketUse::Read, &context)?;
    let gateway = Gateway::new(settings, bucket, &context.registry, context.clock.clone())?;
    let listeners =
        serve::Settings { http: args.http.settings(), grpc: Some(args.grpc.settings()?) };
    context.serve(listeners, gateway.into_component()?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use store::TimeBound;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn values_reach_the_settings() {
        let words = "store --data-dir=/var/d --index-cache-size=1GB --min-time=-6w \
            --store.limits.request-series=7 --sync-block-duration=3m \
            --sync.full-interval=1h --catalog.write";
        let line = Line::try_parse_from(words.split_whitespace()).unwrap();
        let settings = line.args.settings(&Environment::new()).unwrap();
        assert_eq!(settings.data_dir, Some("/var/d".into()));
        assert_eq!(settings.index_cache_bytes, 1 << 30);
        assert_eq!(settings.min_time, TimeBound::FromNow(-6 * 7 * 86_400_000));
        assert_eq!((settings.limits.series, settings.limits.samples), (7, 0));
        assert_eq!(settings.sync_interval, Duration::from_secs(180));
        assert_eq!(settings.full_interval, Duration::from_secs(3600));
        assert!(settings.writes_catalog);
    }

    #[test]
    fn the_configuration_of_the_index_cache_goes_before_its_size() {
        let yaml = "--index-cache.config={type: IN-MEMORY, config: {max_size: 7MB}}";
        let line = Line::try_parse_from(["store", "--index-cache-size=1GB", yaml]).unwrap();
        let settings = line.args.settings(&Environment::new()).unwrap();
        assert_eq!(settings.index_cache_bytes, 7 << 20);
        for refused in ["--index-cache.config", "--store.caching-bucket.config"] {
            let line = Line::try_parse_from(["store", &format!("{refused}={{type: REDIS}}")]);
            let error = line.unwrap().args.settings(&Environment::new()).unwrap_err();
            assert!(error.to_string().contains(refused), "{error}");
            assert!(error.to_string().contains("REDIS"), "{error}");
        }
    }

    #[test]
    fn marks_over_http_can_be_refused() {
        for (words, admin_operations) in
            [("store", true), ("store --disable-admin-operations", false)]
        {
            let line = Line::try_parse_from(words.split_whitespace()).unwrap();
            let settings = line.args.settings(&Environment::new()).unwrap();
            assert_eq!(settings.blocks_api.admin_operations, admin_operations, "{words}");
        }
    }
}

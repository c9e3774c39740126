//! `drumlin demo`: flags to settings.

use std::path::PathBuf;

use anyhow::Result;
use demo::{Budgets, Settings};

use crate::cli::common::ProcessArgs;
use crate::process::{self, ProcessContext};

/// Runs a whole fleet on synthetic data in one process: two clusters, a bucket on disk, compactor,
/// store gateway and querier. Nothing has to be installed or configured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the bucket; by default a temporary one. A folder from an earlier demo is served
    /// again.
    #[arg(id = "data-dir", long = "data-dir", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// How many days of data to generate.
    #[arg(id = "days", long = "days", default_value_t = 30, value_name = "N")]
    days: u32,
    /// Seed of the generator; a different seed makes a different fleet.
    #[arg(id = "seed", long = "seed", default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Compare all answers with what the generator knows, then exit with code 0 if they agree.
    #[arg(id = "check", long = "check")]
    check: bool,
    /// URL of a Prometheus of yours to add to the fleet, with a sidecar.
    #[arg(id = "prometheus.url", long = "prometheus.url", value_name = "URL")]
    prometheus_url: Option<String>,
    /// Address on which the querier serves HTTP.
    #[arg(
        id = "http-address",
        long = "http-address",
        default_value = "127.0.0.1:10902",
        value_name = "ADDRESS"
    )]
    http_address: String,
    #[command(flatten)]
    process: ProcessArgs,
}

impl Args {
    pub(crate) fn process(&self) -> &ProcessArgs {
        &self.process
    }
}

pub(crate) async fn run(args: Args, context: ProcessContext) -> Result<()> {
    let settings = Settings {
        budgets: Budgets {
            stores: args.process.part_of_budget(2),
            querier: args.process.part_of_budget(2),
        },
        data_dir: args.data_dir,
        days: args.days,
        seed: args.seed,
        check: args.check,
        prometheus_url: args.prometheus_url,
        http_address: args.http_address,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        build: process::build_info(),
    };
    demo::run(settings, context.clock, context.shutdown).await
}

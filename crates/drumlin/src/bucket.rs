//! Flags that name a bucket, and which of its blocks are used.

use anyhow::{Context as _, Result, bail};
use block::config::ObjectStoreConfig;
use block::sync::{RelabelConfig, parse_relabel_configs};
use block::{Bucket, BucketMetrics};
use blocks_api::BlocksApiSettings;

use crate::cli::common::content;
use crate::process::ProcessContext;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Bucket")]
pub(crate) struct BucketArgs {
    /// The bucket as YAML: `{type: S3|GCS|AZURE|FILESYSTEM, config: {…}, prefix: …}`; $(NAME) is
    /// replaced by an environment variable.
    #[arg(id = "objstore.config", long = "objstore.config", value_name = "CONTENT")]
    config: Option<String>,
    /// A file with that YAML.
    #[arg(id = "objstore.config-file", long = "objstore.config-file", value_name = "FILE")]
    config_file: Option<String>,
    /// Maximum number of requests to the bucket at a time; others wait.
    #[arg(
        id = "bucket.max-inflight",
        long = "bucket.max-inflight",
        default_value_t = 256,
        value_name = "N",
        value_parser = at_least_one
    )]
    max_in_flight: usize,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a number from 1 on".to_owned())
}

/// What a component does with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketUse {
    Read,
    Write,
}

impl BucketArgs {
    /// The bucket, if one is configured.
    pub(crate) fn open(&self, context: &ProcessContext) -> Result<Option<Bucket>> {
        self.open_for(BucketUse::Write, context)
    }

    pub(crate) fn open_for(
        &self,
        used: BucketUse,
        context: &ProcessContext,
    ) -> Result<Option<Bucket>> {
        let Some(yaml) = content("objstore.config", &self.config, &self.config_file)? else {
            return Ok(None);
        };
        let config = ObjectStoreConfig::parse(&yaml, &context.environment)?
            .with_max_in_flight(self.max_in_flight);
        if used == BucketUse::Read {
            config.must_exist()?;
        }
        for warning in config.warnings() {
            tracing::warn!(warning, "object store configuration");
        }
        let bucket = config.build(BucketMetrics::new(&context.registry)?, context.clock.clone())?;
        tracing::info!(
            provider = config.provider().as_str(),
            bucket = config.bucket_name(),
            "using bucket"
        );
        Ok(Some(bucket))
    }

    /// The bucket of a component that needs one.
    pub(crate) fn require(&self, used: BucketUse, context: &ProcessContext) -> Result<Bucket> {
        match self.open_for(used, context)? {
            Some(bucket) => Ok(bucket),
            None => bail!("no bucket: give --objstore.config-file or --objstore.config"),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which blocks")]
pub(crate) struct SelectorArgs {
    /// Use only blocks whose external labels these relabelings keep, as YAML; `__block_id` can be
    /// used too.
    #[arg(
        id = "selector.relabel-config",
        long = "selector.relabel-config",
        value_name = "CONTENT"
    )]
    relabel: Option<String>,
    /// A file with that YAML.
    #[arg(
        id = "selector.relabel-config-file",
        long = "selector.relabel-config-file",
        value_name = "FILE"
    )]
    relabel_file: Option<String>,
}

impl SelectorArgs {
    pub(crate) fn relabel_configs(&self) -> Result<Vec<RelabelConfig>> {
        relabel_configs("selector.relabel-config", &self.relabel, &self.relabel_file)
    }
}

/// The rules of a pair of flags, for content and for a file; as [`content`] reads them.
pub(crate) fn relabel_configs(
    flag: &str,
    text: &Option<String>,
    file: &Option<String>,
) -> Result<Vec<RelabelConfig>> {
    match content(flag, text, file)? {
        Some(yaml) => parse_relabel_configs(&yaml).with_context(|| format!("--{flag}")),
        None => Ok(Vec::new()),
    }
}

/// The HTTP API of blocks. The gateway inside the querier has it without marks.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "HTTP server")]
pub(crate) struct BlocksApiArgs {
    /// Refuse to mark blocks over HTTP (POST /api/v1/blocks/mark), for deletion or against
    /// compaction.
    #[arg(id = "disable-admin-operations", long = "disable-admin-operations")]
    disable_admin_operations: bool,
    /// External label by which viewers of /api/v1/blocks group blocks.
    #[arg(
        id = "bucket-web-label",
        long = "bucket-web-label",
        default_value = "",
        value_name = "LABEL",
        hide_default_value = true
    )]
    label: String,
}

impl BlocksApiArgs {
    pub(crate) fn settings(&self) -> BlocksApiSettings {
        BlocksApiSettings {
            label: self.label.clone(),
            admin_operations: !self.disable_admin_operations,
        }
    }
}

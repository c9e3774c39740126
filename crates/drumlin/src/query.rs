//! `drumlin query`: flags to settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use block::config::Environment;
use engine::Dedup;
use model::Budget;
use query::{
    About, ConfigSource, EndpointSettings, EndpointSpec, LocalStore, ParserOptions, Querier,
    Settings, WebSettings,
};
use store::{Gateway, GatewayParts};
use storeapi::client::TlsSettings;

use crate::bucket::{BucketArgs, BucketUse, relabel_configs};
use crate::cli::common::{
    GrpcArgs, HttpArgs, ProcessArgs, RequestLimitArgs, TimeArgs, path, tls_version,
};
use crate::cli::kingpin::Foreign;
use crate::cli::values::{duration, label, labels, split_commas};
use crate::gateway::{GatewayArgs, GatewayContext};
use crate::process::{self, ProcessContext};

/// Flags of `thanos query` that are not implemented here.
pub(crate) const FOREIGN: &[Foreign] = &[
    Foreign::value("store").replaced_by("endpoint"),
    Foreign::value("rule").replaced_by("endpoint"),
    Foreign::value("target").replaced_by("endpoint"),
    Foreign::value("metadata").replaced_by("endpoint"),
    Foreign::value("exemplar").replaced_by("endpoint"),
    Foreign::value("store-strict").replaced_by("endpoint-strict"),
    Foreign::value("grpc.proxy-strategy"),
    Foreign::value("web.prefix-header"),
    Foreign::value("query.promql-engine"),
    Foreign::switch("query.disable-fallback"),
    Foreign::value("query.mode"),
    Foreign::switch("query.distributed-with-overlapping-interval"),
    Foreign::value("query.max-concurrent-select"),
    Foreign::value("query.conn-metric.label"),
    Foreign::value("query.partition-label"),
    Foreign::value("query.active-query-path"),
    Foreign::value("query.telemetry.request-duration-seconds-quantiles"),
    Foreign::value("query.telemetry.request-samples-quantiles"),
    Foreign::value("query.telemetry.request-series-seconds-quantiles"),
    Foreign::value("query.tenant-header"),
    Foreign::value("query.default-tenant-id"),
    Foreign::value("query.tenant-certificate-field"),
    Foreign::switch("query.enforce-tenancy").refused(),
    Foreign::value("query.tenant-label-name"),
    Foreign::value("query.lazy-retrieval-max-buffered-responses"),
    Foreign::switch("rule.partial-response"),
    Foreign::switch("target.partial-response"),
    Foreign::switch("metric-metadata.partial-response"),
    Foreign::switch("exemplar.partial-response"),
    Foreign::switch("status.partial-response"),
    Foreign::value("alert.query-url"),
    Foreign::value("store.sd-dns-resolver"),
    Foreign::value("inject-test-addresses"),
    Foreign::value("selector.relabel-config").refused(),
    Foreign::value("selector.relabel-config-file").refused(),
];

/// Thanos' querier has a flag without `objstore.`, which is about endpoints, too.
const RELABEL: &str = "objstore.selector.relabel-config";

const EXPERIMENTAL_FUNCTIONS: &str = "promql-experimental-functions";
const EXTENDED_RANGE_SELECTORS: &str = "promql-extended-range-selectors";
const FILL_MODIFIERS: &str = "promql-binop-fill-modifiers";
const DELAYED_NAME_REMOVAL: &str = "promql-delayed-name-removal";

/// The features of `--enable-feature`; names are those of Prometheus.
const FEATURES: [&str; 4] =
    [EXPERIMENTAL_FUNCTIONS, EXTENDED_RANGE_SELECTORS, FILL_MODIFIERS, DELAYED_NAME_REMOVAL];

/// Answers PromQL queries over many sidecars, store gateways and queriers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    endpoints: EndpointArgs,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    #[command(flatten)]
    defaults: DefaultArgs,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    bucket: InsideArgs,
    #[command(flatten)]
    web: WebArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    grpc: GrpcArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Endpoints")]
struct EndpointArgs {
    /// A sidecar, store gateway or querier to query: host:port, or a name to look up: dns+host:port
    /// (A and AAAA records), dnssrv+_grpc._tcp.name (SRV records), dnssrvnoa+name,
    /// dnsdualstack+host:port. Repeatable.
    #[arg(id = "endpoint", long = "endpoint", value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// An endpoint that is queried even while it is down, so that its absence is never silent; of a
    /// name, each of its addresses. Repeatable.
    #[arg(id = "endpoint-strict", long = "endpoint-strict", value_name = "ENDPOINT")]
    endpoint_strict: Vec<String>,
    /// One name for several equivalent servers, any of which may answer: they are asked in turn.
    /// Repeatable.
    #[arg(id = "endpoint-group", long = "endpoint-group", value_name = "ENDPOINT")]
    endpoint_group: Vec<String>,
    /// A group that is queried even while it is down. Repeatable.
    #[arg(id = "endpoint-group-strict", long = "endpoint-group-strict", value_name = "ENDPOINT")]
    endpoint_group_strict: Vec<String>,
    /// Endpoints as YAML: `endpoints: [{address: …, strict: …, group: …, client_config:
    /// {tls_config: …}}]`.
    #[arg(id = "endpoint.sd-config", long = "endpoint.sd-config", value_name = "CONTENT")]
    sd_config: Option<String>,
    /// A file with that YAML, reread while the process runs.
    #[arg(id = "endpoint.sd-config-file", long = "endpoint.sd-config-file", value_name = "FILE")]
    sd_config_file: Option<String>,
    /// How often that file is reread.
    #[arg(
        id = "endpoint.sd-config-reload-interval",
        long = "endpoint.sd-config-reload-interval",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration
    )]
    sd_config_reload: Duration,
    /// Files in the format of Prometheus' file discovery; the file name may contain a *.
    /// Repeatable.
    #[arg(id = "store.sd-files", long = "store.sd-files", value_name = "FILE")]
    sd_files: Vec<PathBuf>,
    /// How often those files are reread.
    #[arg(
        id = "store.sd-interval",
        long = "store.sd-interval",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration
    )]
    sd_interval: Duration,
    /// How often names are looked up again.
    #[arg(
        id = "store.sd-dns-interval",
        long = "store.sd-dns-interval",
        default_value = "30s",
        value_name = "DURATION",
        value_parser = duration
    )]
    dns_interval: Duration,
    /// How long an endpoint that stopped responding is remembered; until then, answers warn that
    /// its data is missing.
    #[arg(
        id = "store.unhealthy-timeout",
        long = "store.unhealthy-timeout",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration
    )]
    unhealthy_timeout: Duration,
    /// How long an endpoint may take to describe itself, and how often it is asked.
    #[arg(
        id = "endpoint.info-timeout",
        long = "endpoint.info-timeout",
        default_value = "5s",
        value_name = "DURATION",
        value_parser = duration,
        hide = true
    )]
    info_timeout: Duration,
    /// An endpoint that sends nothing for this long is left out of the answer; 0 waits until the
    /// query times out.
    #[arg(
        id = "store.response-timeout",
        long = "store.response-timeout",
        default_value = "0ms",
        value_name = "DURATION",
        value_parser = duration
    )]
    response_timeout: Duration,
    /// A label that this querier adds when it describes itself, as name="value". Repeatable.
    #[arg(
        id = "selector-label",
        long = "selector-label",
        value_name = "LABEL",
        value_parser = label
    )]
    selector_label: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Replicas, limits and time",
    mut_arg("store.limits.request-series", |arg| arg.help("Maximum series per selector of a query; \
        0 for no limit")),
    mut_arg("store.limits.request-samples", |arg| {
        arg.help("Maximum samples per selector of a query, counted as 120 per chunk; 0 for no \
            limit")
    })
)]
struct EvaluationArgs {
    /// A label in which replicas differ and along which they are merged. Repeatable, or separated
    /// by commas.
    #[arg(id = "query.replica-label", long = "query.replica-label", value_name = "LABEL")]
    replica_label: Vec<String>,
    /// How replicas are merged: penalty uses one and switches at gaps, chain interleaves all
    /// samples.
    #[arg(
        id = "deduplication.func",
        long = "deduplication.func",
        default_value = "penalty",
        value_name = "FUNCTION"
    )]
    dedup: String,
    /// Maximum time a query may take.
    #[arg(
        id = "query.timeout",
        long = "query.timeout",
        default_value = "2m",
        value_name = "DURATION",
        value_parser = duration
    )]
    timeout: Duration,
    /// Maximum number of queries evaluated at once; others wait.
    #[arg(
        id = "query.max-concurrent",
        long = "query.max-concurrent",
        default_value_t = 20,
        value_name = "N"
    )]
    max_concurrent: usize,
    /// Maximum number of samples a query may hold at once, as Prometheus counts them; 0 for no
    /// limit.
    #[arg(
        id = "query.max-samples",
        long = "query.max-samples",
        default_value_t = 50_000_000,
        value_name = "N"
    )]
    max_samples: u64,
    #[command(flatten)]
    request: RequestLimitArgs,
    /// How long the last sample of a series remains current.
    #[arg(
        id = "query.lookback-delta",
        long = "query.lookback-delta",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration
    )]
    lookback: Duration,
    /// Look back over whole windows when downsampled data is read.
    #[arg(
        id = "query.dynamic-lookback-delta",
        long = "query.dynamic-lookback-delta",
        default_value_t = true,
        action = clap::ArgAction::Set,
        hide = true
    )]
    dynamic_lookback: bool,
    /// Features of Prometheus to enable, separated by commas: promql-experimental-functions,
    /// promql-extended-range-selectors (anchored, smoothed), promql-binop-fill-modifiers,
    /// promql-delayed-name-removal.
    #[arg(id = "enable-feature", long = "enable-feature", value_name = "FEATURE")]
    enable_feature: Vec<String>,
    /// Enable xrate, xincrease and xdelta, which start at the last sample before their range.
    #[arg(id = "query.enable-x-functions", long = "query.enable-x-functions")]
    extended_rate_functions: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What requests mean that do not say")]
struct DefaultArgs {
    /// When an endpoint fails, return the data that is available, with a warning; otherwise the
    /// query fails.
    #[arg(
        id = "query.partial-response",
        long = "query.partial-response",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    partial_response: bool,
    /// Let range queries read downsampled data with windows of up to a fifth of their step.
    #[arg(id = "query.auto-downsampling", long = "query.auto-downsampling")]
    auto_downsampling: bool,
    /// Maximum window of downsampled data that instant queries read.
    #[arg(
        id = "query.instant.default.max_source_resolution",
        long = "query.instant.default.max_source_resolution",
        default_value = "0s",
        value_name = "DURATION",
        value_parser = duration,
        hide = true
    )]
    instant_resolution: Duration,
    /// Step of subqueries that do not specify one.
    #[arg(
        id = "query.default-evaluation-interval",
        long = "query.default-evaluation-interval",
        default_value = "1m",
        value_name = "DURATION",
        value_parser = duration
    )]
    default_evaluation_interval: Duration,
    /// Minimum step of range queries that do not specify one.
    #[arg(
        id = "query.default-step",
        long = "query.default-step",
        default_value = "1s",
        value_name = "DURATION",
        value_parser = duration
    )]
    default_step: Duration,
    /// How far back requests for labels and series look by default; 0 for everything.
    #[arg(
        id = "query.metadata.default-time-range",
        long = "query.metadata.default-time-range",
        default_value = "0s",
        value_name = "DURATION",
        value_parser = duration
    )]
    metadata_range: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connections to endpoints")]
struct ClientArgs {
    /// Use TLS for connections to endpoints.
    #[arg(id = "grpc-client-tls-secure", long = "grpc-client-tls-secure")]
    secure: bool,
    /// Accept any certificate. For tests only.
    #[arg(id = "grpc-client-tls-skip-verify", long = "grpc-client-tls-skip-verify")]
    skip_verify: bool,
    /// Certificate to present to endpoints.
    #[arg(
        id = "grpc-client-tls-cert",
        long = "grpc-client-tls-cert",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    cert: String,
    /// Key of that certificate.
    #[arg(
        id = "grpc-client-tls-key",
        long = "grpc-client-tls-key",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    key: String,
    /// Certificates to trust; the system's if not given.
    #[arg(
        id = "grpc-client-tls-ca",
        long = "grpc-client-tls-ca",
        default_value = "",
        value_name = "FILE",
        hide_default_value = true
    )]
    ca: String,
    /// The name that endpoints' certificates must have, if it differs from their host name.
    #[arg(
        id = "grpc-client-server-name",
        long = "grpc-client-server-name",
        default_value = "",
        value_name = "NAME",
        hide_default_value = true
    )]
    server_name: String,
    /// Oldest version of TLS to use: 1.2 or 1.3.
    #[arg(
        id = "grpc-client-tls-min-version",
        long = "grpc-client-tls-min-version",
        default_value = "1.3",
        value_name = "VERSION"
    )]
    min_version: String,
    /// Compress messages to and from endpoints that can: none or snappy.
    #[arg(
        id = "grpc-compression",
        long = "grpc-compression",
        default_value = "none",
        value_name = "NAME"
    )]
    compression: String,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Web")]
struct WebArgs {
    /// Path under which everything is served; by default that of --web.external-prefix.
    #[arg(
        id = "web.route-prefix",
        long = "web.route-prefix",
        default_value = "",
        value_name = "PATH",
        hide_default_value = true
    )]
    route_prefix: String,
    /// Path under which users see this server, behind a proxy that strips it.
    #[arg(
        id = "web.external-prefix",
        long = "web.external-prefix",
        default_value = "",
        value_name = "PATH",
        hide_default_value = true
    )]
    external_prefix: String,
    /// Accept requests from web pages of the same origin only.
    #[arg(id = "web.disable-cors", long = "web.disable-cors")]
    disable_cors: bool,
}

/// The gateway inside the querier. Without a bucket, none of these flags has an effect.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("objstore.config", |arg| arg.help("A bucket to query without a store gateway, as \
        YAML: `{type: S3|GCS|AZURE|FILESYSTEM, config: {…}, prefix: …}`; $(NAME) is replaced by an \
        environment variable")),
    mut_arg("min-time", |arg| arg.long("objstore.min-time").help("Query no older data of the \
        bucket than this: a time, or an offset from now such as -6w")),
    mut_arg("max-time", |arg| arg.long("objstore.max-time").help("Query no newer data of the \
        bucket than this"))
)]
struct InsideArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten, next_help_heading = "Which blocks")]
    time: TimeArgs,
    #[command(flatten)]
    selector: InsideSelectorArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which blocks")]
struct InsideSelectorArgs {
    /// Use only blocks whose external labels these relabelings keep, as YAML; `__block_id` can be
    /// used too.
    #[arg(id = RELABEL, long = RELABEL, value_name = "CONTENT")]
    relabel: Option<String>,
    /// A file with that YAML.
    #[arg(
        id = "objstore.selector.relabel-config-file",
        long = "objstore.selector.relabel-config-file",
        value_name = "FILE"
    )]
    relabel_file: Option<String>,
}

/// What the bucket is called where endpoints are listed.
const LOCAL_BUCKET: &str = "local bucket";

impl InsideArgs {
    fn settings(&self, budget: Budget, environment: &Environment) -> Result<store::Settings> {
        let context = GatewayContext { time: &self.time, budget, environment };
        let InsideSelectorArgs { relabel, relabel_file } = &self.selector;
        Ok(store::Settings {
            relabel: relabel_configs(RELABEL, relabel, relabel_file)?,
            ..self.gateway.settings(context)?
        })
    }

    /// The bucket as a store in this process, if one is given.
    fn open(&self, budget: Budget, context: &ProcessContext) -> Result<Option<LocalStore>> {
        let Some(bucket) = self.bucket.open_for(BucketUse::Read, context)? else { return Ok(None) };
        let settings = self.settings(budget, &context.environment)?;
        let gateway = Gateway::new(settings, bucket, &context.registry, context.clock.clone())?;
        let GatewayParts { store, ready, run, routes } = gateway.into_parts();
        Ok(Some(LocalStore { name: LOCAL_BUCKET.to_owned(), store, ready, run, routes }))
    }
}

impl Args {
    pub(crate) fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn settings(&self, flags: BTreeMap<String, String>, budget: Budget) -> Result<Settings> {
        let (evaluation, defaults) = (&self.evaluation, &self.defaults);
        let build = process::build_info();
        let features = self.features();
        let enabled = |feature: &str| features.iter().any(|f| f == feature);
        Ok(Settings {
            endpoints: self.endpoint_settings()?,
            replica_labels: split_commas(&evaluation.replica_label),
            dedup: match evaluation.dedup.as_str() {
                "penalty" | "" => Dedup::Penalty,
                "chain" => Dedup::Chain,
                other => bail!("--deduplication.func={other}: expected penalty or chain"),
            },
            selector_labels: labels(&self.endpoints.selector_label),
            timeout: evaluation.timeout,
            max_concurrent: evaluation.max_concurrent,
            max_samples: evaluation.max_samples,
            lookback: evaluation.lookback,
            dynamic_lookback: evaluation.dynamic_lookback,
            auto_downsampling: defaults.auto_downsampling,
            instant_max_source_resolution: defaults.instant_resolution,
            partial_response: defaults.partial_response,
            default_evaluation_interval: defaults.default_evaluation_interval,
            default_step: defaults.default_step,
            metadata_default_range: defaults.metadata_range,
            limits: evaluation.request.settings(),
            language: ParserOptions {
                experimental_functions: enabled(EXPERIMENTAL_FUNCTIONS),
                extended_range_selectors: enabled(EXTENDED_RANGE_SELECTORS),
                fill_modifiers: enabled(FILL_MODIFIERS),
                extended_rate_functions: evaluation.extended_rate_functions,
            },
            delayed_name_removal: enabled(DELAYED_NAME_REMOVAL),
            budget,
            web: self.web_settings(),
            about: About { version: build.version, revision: build.revision, flags },
            ..Settings::default()
        })
    }

    /// The enabled features that exist here.
    fn features(&self) -> Vec<String> {
        let features = split_commas(&self.evaluation.enable_feature);
        let (known, unknown): (Vec<_>, Vec<_>) =
            features.into_iter().partition(|feature| FEATURES.contains(&feature.as_str()));
        for feature in unknown {
            // Thanos drops features over time and old manifests still name them
            tracing::warn!(feature, "feature has no effect");
        }
        known
    }

    fn web_settings(&self) -> WebSettings {
        let WebArgs { route_prefix, external_prefix, disable_cors } = &self.web;
        let route_prefix = if route_prefix.is_empty() { external_prefix } else { route_prefix };
        WebSettings {
            route_prefix: route_prefix.clone(),
            external_prefix: external_prefix.clone(),
            disable_cors: *disable_cors,
        }
    }

    fn endpoint_settings(&self) -> Result<EndpointSettings> {
        let args = &self.endpoints;
        let kinds = [
            (&args.endpoint, false, false),
            (&args.endpoint_strict, true, false),
            (&args.endpoint_group, false, true),
            (&args.endpoint_group_strict, true, true),
        ];
        let spec = |address: &String, strict, group| EndpointSpec {
            address: address.clone(),
            strict,
            group,
            ..EndpointSpec::default()
        };
        let specs: Vec<EndpointSpec> = kinds
            .into_iter()
            .flat_map(|(addresses, strict, group)| {
                addresses.iter().map(move |address| spec(address, strict, group))
            })
            .collect();
        let file = args.sd_config_file.as_deref().and_then(path);
        let config = match (args.sd_config.as_ref().filter(|text| !text.is_empty()), file) {
            (Some(_), Some(_)) => {
                bail!("--endpoint.sd-config and --endpoint.sd-config-file are both given; give one")
            }
            (Some(text), None) => Some(ConfigSource::Inline(text.clone())),
            (None, Some(file)) => Some(ConfigSource::File(file)),
            (None, None) => None,
        };
        Ok(EndpointSettings {
            specs,
            config,
            config_reload: args.sd_config_reload,
            sd_files: args.sd_files.clone(),
            sd_files_reload: args.sd_interval,
            dns_refresh: args.dns_interval,
            info_timeout: args.info_timeout,
            unhealthy_timeout: args.unhealthy_timeout,
            tls: self.client_tls()?,
            compression: self.client.compression.parse().context("--grpc-compression")?,
            response_timeout: Some(args.response_timeout).filter(|timeout| !timeout.is_zero()),
        })
    }

    fn client_tls(&self) -> Result<Option<TlsSettings>> {
        let client = &self.client;
        let min_version = tls_version("grpc-client-tls-min-version", &client.min_version)?;
        Ok(client.secure.then(|| TlsSettings {
            ca: path(&client.ca),
            cert: path(&client.cert),
            key: path(&client.key),
            server_name: client.server_name.clone(),
            skip_verify: client.skip_verify,
            min_version,
        }))
    }
}

pub(crate) async fn run(args: Args, context: ProcessContext) -> Result<()> {
    let budget = args.process.budget();
    // takes the place for caches out of the budget, which the querier then divides
    let local = args.bucket.open(budget.clone(), &context)?;
    let settings = args.settings(context.flags.clone(), budget)?;
    let mut querier = Querier::new(settings, &context.registry, context.clock.clone())?;
    if let Some(local) = local {
        querier = querier.beside(local);
    }
    let listeners =
        serve::Settings { http: args.http.settings(), grpc: Some(args.grpc.settings()?) };
    context.serve(listeners, querier.into_component()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;

//! Makes object stores from checked values.

mod azure;
mod gcs;
mod s3;

use std::sync::Arc;
use std::time::Duration;

use object_store::client::HttpConnector;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

#[cfg(test)]
pub(super) use s3::AWS_VARIABLES;

use super::{ObjectStoreConfig, Provider};
use crate::bucket::Hints;
use crate::bucket::filesystem::FolderStore;
use crate::bucket::http::Connector;
use crate::{Error, Kind, Result};

/// The time from the first byte sent to the last received; the longest requests are parts of
/// uploads.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, format!("object store configuration: {}", text.into()))
}

fn refused(error: object_store::Error) -> Error {
    Error::caused(Kind::Invalid, "object store configuration", error)
}

/// What can be known to be wrong without building anything.
pub(super) fn validate(config: &ObjectStoreConfig) -> Result<()> {
    let values = &config.values;
    let required: &[&str] = match config.provider {
        Provider::S3 => &["config.bucket", "config.endpoint"],
        Provider::Gcs => &["config.bucket"],
        Provider::Azure => &["config.container"],
        Provider::Filesystem => &["config.directory"],
    };
    if let Some(missing) = required.iter().find(|path| values.get(path).is_none()) {
        return Err(invalid(format!("{missing} is missing")));
    }
    for path in ["config.endpoint", "config.sts_endpoint"] {
        // errors and logs show it, and nobody takes a user and a password from there
        if values.get(path).is_some_and(|endpoint| endpoint.contains('@')) {
            return Err(invalid(format!(
                "{path} must be a host; credentials have keys of their own"
            )));
        }
    }
    if config.provider == Provider::S3 {
        s3::upload_headers::of(config)?;
        if values.get("config.access_key").is_some() != values.get("config.secret_key").is_some() {
            return Err(invalid("config.access_key and config.secret_key must be set together"));
        }
        if values.is_on("config.aws_sdk_auth") && values.get("config.access_key").is_some() {
            return Err(invalid("config.aws_sdk_auth and config.access_key exclude each other"));
        }
        if let Some(kind @ ("SSE-S3" | "SSE-KMS" | "SSE-C")) = values.get("config.sse_config.type")
        {
            let (needed, key) = match kind {
                "SSE-KMS" => ("kms_key_id", values.get("config.sse_config.kms_key_id")),
                "SSE-C" => ("encryption_key", values.get("config.sse_config.encryption_key")),
                _ => ("", Some("")),
            };
            if key.is_none() {
                return Err(invalid(format!("config.sse_config of type {kind} needs {needed}")));
            }
        } else if let Some(other) = values.get("config.sse_config.type") {
            return Err(invalid(format!(
                "config.sse_config.type {other:?} is not SSE-S3, SSE-KMS or SSE-C"
            )));
        }
        let endpoint = values.get("config.endpoint").unwrap_or_default();
        if let Some((scheme, host)) = endpoint.split_once("://") {
            let insecure = if scheme == "http" { " with config.insecure: true" } else { "" };
            return Err(invalid(format!(
                "config.endpoint {endpoint:?} must be without {scheme}://: write {:?}{insecure}",
                host.trim_end_matches('/')
            )));
        }
        if let Some(other) = values.get("config.bucket_lookup_type")
            && !matches!(other, "auto" | "virtual-hosted" | "path")
        {
            return Err(invalid(format!(
                "config.bucket_lookup_type {other:?} is not auto, virtual-hosted or path"
            )));
        }
    }
    if config.provider == Provider::Azure
        && values.get("config.storage_account").is_none()
        && values.get("config.storage_connection_string").is_none()
    {
        return Err(invalid(
            "config.storage_account or config.storage_connection_string is missing",
        ));
    }
    Ok(())
}

/// The store; listings of a folder and of buckets over HTTP come without the prefix, which other
/// calls still need.
pub(super) fn build(config: &ObjectStoreConfig, hints: &Hints) -> Result<Arc<dyn ObjectStore>> {
    let connector = Connector::new(&config.prefix, hints.clone());
    build_over(config, connector, hints)
}

fn build_over(
    config: &ObjectStoreConfig,
    connector: impl HttpConnector,
    hints: &Hints,
) -> Result<Arc<dyn ObjectStore>> {
    Ok(match config.provider {
        Provider::S3 => Arc::new(s3::build(config, connector)?),
        Provider::Gcs => Arc::new(gcs::build(config, connector)?),
        Provider::Azure => {
            let builder = azure::builder(config)?.with_http_connector(connector);
            Arc::new(builder.build().map_err(refused)?)
        }
        Provider::Filesystem => {
            let folder = config.directory().unwrap_or_default();
            std::fs::create_dir_all(&folder)
                .map_err(|e| Error::local("creating the bucket's folder", &folder, e))?;
            Arc::new(FolderStore::new(&folder, hints.clone()).map_err(refused)?)
        }
    })
}

fn retry(config: &ObjectStoreConfig) -> Result<RetryConfig> {
    let values = &config.values;
    let mut retry = RetryConfig {
        max_retries: 5,
        retry_timeout: REQUEST_TIMEOUT,
        backoff: BackoffConfig::default(),
    };
    let tries = values.number("config.pipeline_config.max_tries")?;
    if let Some(retries) = values.number("config.max_retries")?.or(tries) {
        retry.max_retries = retries.min(100) as usize;
    }
    if let Some(delay) = values.duration("config.pipeline_config.retry_delay")? {
        retry.backoff.init_backoff = delay;
    }
    if let Some(delay) = values.duration("config.pipeline_config.max_retry_delay")? {
        retry.backoff.max_backoff = delay;
    }
    Ok(retry)
}

fn client_options(config: &ObjectStoreConfig, allow_http: bool) -> Result<ClientOptions> {
    let values = &config.values;
    let mut options =
        ClientOptions::new().with_allow_http(allow_http).with_timeout(REQUEST_TIMEOUT);
    if let Some(timeout) = values.duration("config.http_config.idle_conn_timeout")? {
        options = options.with_pool_idle_timeout(timeout);
    }
    if let Some(timeout) = values.duration("config.http_config.tls_handshake_timeout")? {
        options = options.with_connect_timeout(timeout);
    }
    if let Some(idle) = values.number("config.http_config.max_idle_conns_per_host")? {
        options = options.with_pool_max_idle_per_host(idle.min(100_000) as usize);
    }
    let unverified = [
        "config.http_config.insecure_skip_verify",
        "config.http_config.tls_config.insecure_skip_verify",
    ];
    if unverified.iter().any(|path| values.is_on(path)) {
        options = options.with_allow_invalid_certificates(true);
    }
    if let Some(path) = values.get("config.http_config.tls_config.ca_file") {
        let pem = std::fs::read(path)
            .map_err(|e| Error::configured("reading certificates from", path, e))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| {
            let attempt = "object store configuration: config.http_config.tls_config.ca_file";
            Error::caused(
                Kind::Invalid,
                format!("{attempt} {}", model::secret::shown_path(path.as_ref())),
                e,
            )
        })?;
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    Ok(options)
}

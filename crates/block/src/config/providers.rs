//! Makes object stores from checked values.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::HttpConnector;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

use super::{ObjectStoreConfig, Provider};
use crate::bucket::Hints;
use crate::bucket::filesystem::FolderStore;
use crate::bucket::http::Connector;
use crate::{Error, Kind, Result};

/// Where credentials may come from; each is also the name of a setting of the client.
pub(super) const AWS_VARIABLES: [&str; 9] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

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
    if config.provider == Provider::S3 {
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
        Provider::S3 => {
            Arc::new(s3(config)?.with_http_connector(connector).build().map_err(refused)?)
        }
        Provider::Gcs => {
            Arc::new(gcs(config)?.with_http_connector(connector).build().map_err(refused)?)
        }
        Provider::Azure => {
            Arc::new(azure(config)?.with_http_connector(connector).build().map_err(refused)?)
        }
        Provider::Filesystem => {
            let folder = config.directory().unwrap_or_default();
            std::fs::create_dir_all(&folder)
                .map_err(|e| Error::local("creating the bucket's folder", &folder, e))?;
            Arc::new(FolderStore::new(&folder, hints.clone()).map_err(refused)?)
        }
    })
}

fn s3(config: &ObjectStoreConfig) -> Result<AmazonS3Builder> {
    let values = &config.values;
    let bucket = config.bucket_name();
    let endpoint = values.get("config.endpoint").unwrap_or_default();
    let insecure = values.is_on("config.insecure");
    let scheme = if insecure { "http" } else { "https" };
    let virtual_hosted = match values.get("config.bucket_lookup_type") {
        Some("virtual-hosted") => true,
        Some("path") => false,
        // certificates do not cover names with dots before the endpoint
        _ => endpoint.contains("amazonaws.com") && (insecure || !bucket.contains('.')),
    };
    let url = if virtual_hosted {
        format!("{scheme}://{bucket}.{endpoint}")
    } else {
        format!("{scheme}://{endpoint}")
    };
    let region = values
        .get("config.region")
        .or_else(|| region_of(endpoint))
        .or_else(|| config.environment.get("AWS_REGION").map(String::as_str))
        .unwrap_or("us-east-1");
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_endpoint(url)
        .with_virtual_hosted_style_request(virtual_hosted)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry(config)?)
        .with_client_options(client_options(config, insecure)?);
    match (values.get("config.access_key"), values.get("config.secret_key")) {
        (Some(access), Some(secret)) => {
            builder = builder.with_access_key_id(access).with_secret_access_key(secret);
            if let Some(token) = values.get("config.session_token") {
                builder = builder.with_token(token);
            }
        }
        _ => builder = aws_environment(builder, config),
    }
    if let Some(sts) = values.get("config.sts_endpoint") {
        builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, sts);
    }
    encryption(builder, config)
}

/// Keys, the token of a Kubernetes service account, or a container's credentials, as the AWS SDKs
/// read them.
fn aws_environment(mut builder: AmazonS3Builder, config: &ObjectStoreConfig) -> AmazonS3Builder {
    for name in AWS_VARIABLES {
        if let Some(value) = config.environment.get(name)
            && let Ok(key) = name.to_lowercase().parse::<AmazonS3ConfigKey>()
        {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

fn encryption(builder: AmazonS3Builder, config: &ObjectStoreConfig) -> Result<AmazonS3Builder> {
    let values = &config.values;
    Ok(match values.get("config.sse_config.type") {
        Some("SSE-S3") => {
            let key = "aws_server_side_encryption".parse::<AmazonS3ConfigKey>().map_err(refused)?;
            builder.with_config(key, "AES256")
        }
        Some("SSE-KMS") => builder.with_sse_kms_encryption(
            values.get("config.sse_config.kms_key_id").unwrap_or_default(),
        ),
        Some("SSE-C") => {
            let path = values.get("config.sse_config.encryption_key").unwrap_or_default();
            let key = std::fs::read(path)
                .map_err(|e| Error::local("reading the key", path.as_ref(), e))?;
            builder.with_ssec_encryption(base64::engine::general_purpose::STANDARD.encode(key))
        }
        _ => builder,
    })
}

/// `s3.eu-west-1.amazonaws.com` and `s3-eu-west-1.amazonaws.com` name their region.
fn region_of(endpoint: &str) -> Option<&str> {
    let host = endpoint.split(':').next()?;
    let name =
        host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let region = name.strip_prefix("s3.").or_else(|| name.strip_prefix("s3-"))?;
    let region = region.strip_prefix("dualstack.").unwrap_or(region);
    (region.contains('-') && !region.contains('.')).then_some(region)
}

fn gcs(config: &ObjectStoreConfig) -> Result<GoogleCloudStorageBuilder> {
    let values = &config.values;
    let account = values.get("config.service_account");
    let plain = account.is_some_and(|json| json.contains("\"http://"));
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(config.bucket_name())
        .with_retry(retry(config)?)
        .with_client_options(client_options(config, plain)?);
    if let Some(json) = account {
        builder = builder.with_service_account_key(json);
    } else if let Some(path) = config.environment.get("GOOGLE_APPLICATION_CREDENTIALS") {
        builder = builder.with_application_credentials(path);
    }
    Ok(builder)
}

fn azure(config: &ObjectStoreConfig) -> Result<MicrosoftAzureBuilder> {
    let values = &config.values;
    let connection =
        connection_string(values.get("config.storage_connection_string").unwrap_or_default());
    let from_connection =
        |name: &str| connection.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let Some(account) =
        values.get("config.storage_account").or_else(|| from_connection("AccountName"))
    else {
        return Err(invalid("config.storage_connection_string names no AccountName"));
    };
    let blob_endpoint = from_connection("BlobEndpoint").map(str::to_owned);
    let suffix = values
        .get("config.endpoint")
        .map(str::to_owned)
        .or_else(|| from_connection("EndpointSuffix").map(|suffix| format!("blob.{suffix}")));
    let url = blob_endpoint.or_else(|| suffix.map(|suffix| format!("https://{account}.{suffix}")));
    let plain = url.as_ref().is_some_and(|url| url.starts_with("http://"));
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(config.bucket_name())
        .with_retry(retry(config)?)
        .with_client_options(client_options(config, plain)?);
    if let Some(url) = url {
        builder = builder.with_endpoint(url);
    }
    if let Some(key) =
        values.get("config.storage_account_key").or_else(|| from_connection("AccountKey"))
    {
        return Ok(builder.with_access_key(key));
    }
    if let Some(signature) = from_connection("SharedAccessSignature") {
        return Ok(builder.with_config(AzureConfigKey::SasKey, signature));
    }
    let environment = |name: &str| config.environment.get(name).map(String::as_str);
    for (value, key) in [
        (
            values.get("config.az_tenant_id").or(environment("AZURE_TENANT_ID")),
            AzureConfigKey::AuthorityId,
        ),
        (
            values
                .get("config.client_id")
                .or(values.get("config.user_assigned_id"))
                .or(environment("AZURE_CLIENT_ID")),
            AzureConfigKey::ClientId,
        ),
        (
            values.get("config.client_secret").or(environment("AZURE_CLIENT_SECRET")),
            AzureConfigKey::ClientSecret,
        ),
        (environment("AZURE_FEDERATED_TOKEN_FILE"), AzureConfigKey::FederatedTokenFile),
    ] {
        if let Some(value) = value {
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}

fn connection_string(text: &str) -> Vec<(&str, &str)> {
    text.split(';').filter_map(|part| part.split_once('=')).collect()
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
            .map_err(|e| Error::local("reading certificates from", path.as_ref(), e))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| {
            let attempt = "object store configuration: config.http_config.tls_config.ca_file";
            Error::caused(Kind::Invalid, format!("{attempt} {path}"), e)
        })?;
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    Ok(options)
}

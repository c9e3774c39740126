//! S3 and what speaks like it.

pub(super) mod upload_headers;

use std::sync::Arc;

use base64::Engine;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::HttpConnector;

use super::{client_options, refused, retry};
use crate::bucket::upload_headers::{HeaderConnector, UploadHeaders};
use crate::config::ObjectStoreConfig;
use crate::config::aws_profile::{AwsKeys, AwsProfile, WebIdentity};
use crate::{Error, Result};

/// Where credentials may come from; each is also the name of a setting of the client.
pub(in crate::config) const AWS_VARIABLES: [&str; 9] = [
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

/// The client; with headers of our own on uploads where some are configured.
pub(super) fn build(config: &ObjectStoreConfig, connector: impl HttpConnector) -> Result<AmazonS3> {
    let headers = upload_headers::of(config)?;
    let profile = AwsProfile::read(&config.environment)?;
    let s3 = S3Config { config, profile: &profile };
    let builder = s3.builder()?;
    if headers.is_empty() {
        return builder.with_http_connector(connector).build().map_err(refused);
    }
    // one provider for the client and for what signs again
    let credentials = Arc::clone(s3.builder()?.build().map_err(refused)?.credentials());
    let upload = UploadHeaders {
        headers,
        credentials: Arc::clone(&credentials),
        region: s3.region().to_owned(),
    };
    let connector = HeaderConnector { inner: connector, upload: Arc::new(upload) };
    builder.with_credentials(credentials).with_http_connector(connector).build().map_err(refused)
}

/// A bucket, and what the files of the AWS command line say.
struct S3Config<'a> {
    config: &'a ObjectStoreConfig,
    profile: &'a AwsProfile,
}

impl S3Config<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        self.config.values.get(key)
    }

    /// A variable of the environment that is not empty.
    fn variable(&self, name: &str) -> Option<&str> {
        self.config.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn endpoint(&self) -> &str {
        self.value("config.endpoint").unwrap_or_default()
    }

    fn region(&self) -> &str {
        self.value("config.region")
            .or_else(|| region_of(self.endpoint()))
            .or_else(|| self.variable("AWS_REGION"))
            .or_else(|| self.variable("AWS_DEFAULT_REGION"))
            .or(self.profile.region.as_deref())
            .unwrap_or("us-east-1")
    }

    fn builder(&self) -> Result<AmazonS3Builder> {
        let (bucket, endpoint) = (self.config.bucket_name(), self.endpoint());
        let insecure = self.config.values.is_on("config.insecure");
        let scheme = if insecure { "http" } else { "https" };
        let virtual_hosted = match self.value("config.bucket_lookup_type") {
            Some("virtual-hosted") => true,
            Some("path") => false,
            // certificates do not cover names with dots before the endpoint
            _ => endpoint.contains("amazonaws.com") && (insecure || !bucket.contains('.')),
        };
        let url = match virtual_hosted {
            true => format!("{scheme}://{bucket}.{endpoint}"),
            false => format!("{scheme}://{endpoint}"),
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(self.region())
            .with_endpoint(url)
            .with_virtual_hosted_style_request(virtual_hosted)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry(self.config)?)
            .with_client_options(client_options(self.config, insecure)?);
        builder = self.with_credentials(builder);
        if let Some(sts) = self.value("config.sts_endpoint") {
            builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, sts);
        }
        encryption(builder, self.config)
    }

    /// Keys of the configuration, else those of the environment or of a profile, else the token of
    /// a Kubernetes service account or a container's credentials, as the AWS SDKs read them.
    fn with_credentials(&self, builder: AmazonS3Builder) -> AmazonS3Builder {
        if let (Some(access), Some(secret)) =
            (self.value("config.access_key"), self.value("config.secret_key"))
        {
            let keys = AwsKeys {
                id: access.to_owned(),
                secret: secret.to_owned(),
                token: self.value("config.session_token").map(str::to_owned),
            };
            return with_keys(builder, &keys);
        }
        let mut builder = builder;
        for name in AWS_VARIABLES {
            if let Some(value) = self.variable(name)
                && let Ok(key) = name.to_lowercase().parse::<AmazonS3ConfigKey>()
            {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(keys) = self.keys_of_environment().or(self.profile.keys.clone()) {
            return with_keys(builder, &keys);
        }
        let in_environment = self.variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        match self.profile.web_identity.as_ref().filter(|_| !in_environment) {
            Some(WebIdentity { role, token_file }) => builder
                .with_config(AmazonS3ConfigKey::RoleArn, role)
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file),
            None => builder,
        }
    }

    /// Under today's names or those of before.
    fn keys_of_environment(&self) -> Option<AwsKeys> {
        let either = |name: &str, older: &str| {
            self.variable(name).or(self.variable(older)).map(str::to_owned)
        };
        Some(AwsKeys {
            id: either("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY")?,
            secret: either("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY")?,
            token: self.variable("AWS_SESSION_TOKEN").map(str::to_owned),
        })
    }
}

fn with_keys(builder: AmazonS3Builder, keys: &AwsKeys) -> AmazonS3Builder {
    let builder = builder.with_access_key_id(&keys.id).with_secret_access_key(&keys.secret);
    match &keys.token {
        Some(token) => builder.with_token(token),
        None => builder,
    }
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
            let key = std::fs::read(path).map_err(|e| {
                let attempt = "reading the file of config.sse_config.encryption_key";
                Error::configured(attempt, path, e)
            })?;
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

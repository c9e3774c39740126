//! Google Cloud Storage.

use std::io::Write;

use object_store::client::HttpConnector;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use tempfile::NamedTempFile;

use super::{client_options, refused, retry};
use crate::config::ObjectStoreConfig;
use crate::{Error, Kind, Result};

pub(super) fn build(
    config: &ObjectStoreConfig,
    connector: impl HttpConnector,
) -> Result<GoogleCloudStorage> {
    let account = config.values.get("config.service_account");
    let plain = account.is_some_and(|json| json.contains("\"http://"));
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(config.bucket_name())
        .with_retry(retry(config)?)
        .with_client_options(client_options(config, plain)?)
        .with_http_connector(connector);
    // held until the client has read it
    let mut kept = None;
    match account {
        Some(json) if is_authorized_user(json) => {
            let file = kept.insert(credentials_file(json)?);
            builder = builder.with_application_credentials(file.path().to_string_lossy());
        }
        Some(json) => builder = builder.with_service_account_key(json),
        None => {
            if let Some(path) = config.environment.get("GOOGLE_APPLICATION_CREDENTIALS") {
                builder = builder.with_application_credentials(path);
            }
        }
    }
    builder.build().map_err(refused)
}

/// Whether the credentials are of a person who logged in, not of a service account.
fn is_authorized_user(json: &str) -> bool {
    let parsed = serde_json::from_str::<serde_json::Value>(json);
    parsed.is_ok_and(|credentials| credentials["type"] == "authorized_user")
}

/// The client reads such credentials from a file only. Nobody else can read this one, which is
/// gone once the client has.
fn credentials_file(json: &str) -> Result<NamedTempFile> {
    let written = NamedTempFile::new().and_then(|mut file| {
        file.write_all(json.as_bytes())?;
        Ok(file)
    });
    let attempt = "object store configuration: config.service_account: write a temporary file";
    written.map_err(|e| Error::caused(Kind::Internal, attempt, e))
}

//! Azure Blob Storage.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::{client_options, invalid, retry};
use crate::Result;
use crate::config::ObjectStoreConfig;

pub(super) fn builder(config: &ObjectStoreConfig) -> Result<MicrosoftAzureBuilder> {
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

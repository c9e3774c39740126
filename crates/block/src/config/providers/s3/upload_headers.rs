//! The headers that `put_user_metadata` and the context of SSE-KMS add to uploads.

use std::collections::BTreeMap;

use base64::Engine;
use http::{HeaderName, HeaderValue};

use super::super::invalid;
use crate::Result;
use crate::config::ObjectStoreConfig;

/// Headers that S3 keeps with an object as they are.
const STANDARD: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

const METADATA: &str = "config.put_user_metadata";
const KMS_CONTEXT: &str = "config.sse_config.kms_encryption_context";

/// Names that mean something to S3, such as `X-Amz-Acl`, are sent as they are, others as metadata
/// of the object.
pub(in crate::config::providers) fn of(
    config: &ObjectStoreConfig,
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    for (name, value) in config.values.map(METADATA) {
        let name = name.to_lowercase();
        let is_known = name.starts_with("x-amz-") || STANDARD.contains(&name.as_str());
        let name = if is_known { name } else { format!("x-amz-meta-{name}") };
        headers.push(header(METADATA, &name, value)?);
    }
    let context: BTreeMap<&str, &str> = config.values.map(KMS_CONTEXT).collect();
    let is_kms = config.values.get("config.sse_config.type") == Some("SSE-KMS");
    if is_kms && !context.is_empty() {
        let json = serde_json::to_string(&context).unwrap_or_default();
        let value = base64::engine::general_purpose::STANDARD.encode(json);
        headers.push(header(KMS_CONTEXT, "x-amz-server-side-encryption-context", &value)?);
    }
    Ok(headers)
}

fn header(key: &str, name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let impossible = || invalid(format!("{key}: {name} cannot be sent as a header"));
    let parsed = name.parse().map_err(|_| impossible())?;
    Ok((parsed, value.parse().map_err(|_| impossible())?))
}

//! A client of Prometheus' HTTP API, for metadata, configuration and remote read. Any server that
//! speaks it will do.

mod body;
mod selector;

use std::collections::BTreeMap;

use model::{Budget, Labels, Matcher, TimeRange};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wire::prometheus as pb;

use crate::{Error, HttpClient, Kind, Result};

pub use body::Body;

/// The most bytes of Prometheus' `/metrics` that are read.
const MAX_METRICS_BYTES: u64 = 64 << 20;

/// The metric that shows how far back Prometheus' data goes.
const LOWEST_TIMESTAMP: &str = "prometheus_tsdb_lowest_timestamp_seconds";

/// One Prometheus. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct PrometheusClient {
    http: HttpClient,
    base: String,
    budget: Budget,
}

/// The answer to a remote read, not yet read.
pub enum RemoteRead {
    /// Frames, to be taken from the body as they come.
    Chunked(Body),
    /// One message with decoded samples.
    Samples(Body),
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    data: Option<T>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct ConfigData {
    yaml: String,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    global: Option<GlobalConfig>,
}

#[derive(Deserialize)]
struct GlobalConfig {
    #[serde(default)]
    external_labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct PrometheusBuild {
    version: String,
}

impl PrometheusClient {
    /// `url` may have a path prefix. Bodies that must be held whole are charged to `budget`.
    ///
    /// # Errors
    /// `Invalid` for a URL that cannot be used.
    pub fn new(url: &str, http: HttpClient, budget: Budget) -> Result<PrometheusClient> {
        let parsed = reqwest::Url::parse(url)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        if parsed.is_none() {
            return Err(Error::new(Kind::Invalid, format!("{url:?} is not an HTTP URL")));
        }
        let base = url.trim_end_matches('/').to_owned();
        Ok(PrometheusClient { http, base, budget })
    }

    /// The labels that identify this Prometheus; empty when it has none.
    pub async fn external_labels(&self) -> Result<Labels> {
        let config: ConfigData = self.api("/api/v1/status/config", &[]).await?;
        let file: ConfigFile = serde_yaml_ng::from_str(&config.yaml)
            .map_err(|e| Error::caused(Kind::Corrupt, "reading Prometheus' configuration", e))?;
        Ok(Labels::from_pairs(file.global.and_then(|g| g.external_labels).unwrap_or_default()))
    }

    /// Prometheus' command line flags, without the leading dashes.
    pub async fn flags(&self) -> Result<BTreeMap<String, String>> {
        self.api("/api/v1/status/flags", &[]).await
    }

    pub async fn version(&self) -> Result<String> {
        Ok(self.api::<PrometheusBuild>("/api/v1/status/buildinfo", &[]).await?.version)
    }

    /// The time of the oldest sample in milliseconds; `None` when Prometheus does not report it or
    /// has none.
    pub async fn lowest_timestamp(&self) -> Result<Option<i64>> {
        let mut response =
            checked(self.http.get(&format!("{}/metrics", self.base))?.send().await?).await?;
        let (mut line, mut read) = (Vec::new(), 0u64);
        while let Some(piece) = response.chunk().await? {
            read += piece.len() as u64;
            for byte in piece {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                if let Some(time) = lowest_of_line(&line) {
                    return Ok(time);
                }
                line.clear();
            }
            if read > MAX_METRICS_BYTES {
                break;
            }
        }
        Ok(None)
    }

    /// The label sets of matching series, in no particular order.
    pub async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>> {
        let mut query = selector::time_query(range);
        query.push(("match[]", selector::selector(matchers)));
        let sets: Vec<BTreeMap<String, String>> = self.api("/api/v1/series", &query).await?;
        Ok(sets.into_iter().map(Labels::from_pairs).collect())
    }

    /// Names of labels of matching series; without matchers, of all. At most `limit`, 0 = all.
    pub async fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: u64,
    ) -> Result<Vec<String>> {
        self.api("/api/v1/labels", &metadata_query(matchers, range, limit)).await
    }

    /// Values of a label of matching series; without matchers, of all. At most `limit`, 0 = all.
    pub async fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: u64,
    ) -> Result<Vec<String>> {
        let path = format!("/api/v1/label/{}/values", selector::escape_label_name(name));
        self.api(&path, &metadata_query(matchers, range, limit)).await
    }

    /// Has Prometheus read its configuration and rules again.
    pub async fn reload(&self) -> Result<()> {
        checked(self.http.post(&format!("{}/-/reload", self.base))?.send().await?).await?;
        Ok(())
    }

    /// Starts a remote read; frames are preferred.
    pub async fn remote_read(&self, matchers: &[Matcher], range: TimeRange) -> Result<RemoteRead> {
        let request = pb::ReadRequest {
            queries: vec![pb::Query {
                start_timestamp_ms: range.start,
                end_timestamp_ms: range.last(),
                matchers: wire::matchers_to_wire(matchers),
                hints: None,
            }],
            accepted_response_types: vec![
                pb::read_request::ResponseType::StreamedXorChunks as i32,
                pb::read_request::ResponseType::Samples as i32,
            ],
        };
        let request = self
            .http
            .post(&format!("{}/api/v1/read", self.base))?
            .header("Content-Encoding", "snappy")
            .header("Content-Type", "application/x-protobuf")
            .header("X-Prometheus-Remote-Read-Version", "0.1.0")
            .body(wire::remote_read::encode_request(&request)?);
        let response = checked(request.send().await?).await?;
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if content_type.starts_with(wire::remote_read::CONTENT_TYPE_CHUNKED) {
            return Ok(RemoteRead::Chunked(Body(response)));
        }
        if content_type.starts_with("application/x-protobuf") {
            return Ok(RemoteRead::Samples(Body(response)));
        }
        let message =
            format!("remote read answered with content type {content_type:?}, which is not known");
        Err(Error::new(Kind::Invalid, message))
    }

    async fn api<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        let request = self.http.get(&format!("{}{path}", self.base))?.query(query);
        let response = checked(request.send().await?).await?;
        let mut reservation = self.budget.reserve(format!("answer of Prometheus {path}"));
        let body = Body(response).read(&mut reservation).await?;
        let envelope: Envelope<T> = serde_json::from_slice(&body).map_err(|e| {
            Error::caused(Kind::Corrupt, format!("reading the answer of Prometheus {path}"), e)
        })?;
        envelope.data.filter(|_| envelope.status == "success").ok_or_else(|| {
            Error::new(
                Kind::Unavailable,
                format!("Prometheus {path} answered {}: {}", envelope.status, envelope.error),
            )
        })
    }
}

fn metadata_query(
    matchers: &[Matcher],
    range: TimeRange,
    limit: u64,
) -> Vec<(&'static str, String)> {
    let mut query = selector::time_query(range);
    if !matchers.is_empty() {
        query.push(("match[]", selector::selector(matchers)));
    }
    if limit > 0 {
        query.push(("limit", limit.to_string()));
    }
    query
}

/// An answer that is not a success becomes an error with what Prometheus says.
async fn checked(response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let path = response.url().path().to_owned();
    let text = body::first_words(response).await;
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::REQUEST_TIMEOUT => {
            Kind::Unavailable
        }
        StatusCode::TOO_MANY_REQUESTS => Kind::Limit,
        _ if text.contains("exceeded sample limit") => Kind::Limit,
        _ if status.is_client_error() => Kind::Invalid,
        _ => Kind::Unavailable,
    };
    Err(Error::new(kind, format!("Prometheus {path} answered {status}: {text}")))
}

/// `Some` when the line is the metric; the inner `None` for the value that stands for "no data".
fn lowest_of_line(line: &[u8]) -> Option<Option<i64>> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix(LOWEST_TIMESTAMP)?.strip_prefix(' ')?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    // Prometheus without data says i64::MAX / 1000.
    let has_data = seconds.is_finite() && seconds < 9e15;
    Some(has_data.then_some((seconds * 1000.0) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_sample_is_read_from_the_metric() {
        assert_eq!(
            lowest_of_line(b"prometheus_tsdb_lowest_timestamp_seconds 1.7672256e+09"),
            Some(Some(1_767_225_600_000))
        );
        assert_eq!(
            lowest_of_line(b"prometheus_tsdb_lowest_timestamp_seconds 9.223372036854776e+15"),
            Some(None)
        );
        assert_eq!(lowest_of_line(b"# HELP prometheus_tsdb_lowest_timestamp_seconds Lowest"), None);
        assert_eq!(lowest_of_line(b"prometheus_tsdb_lowest_timestamp 1"), None);
    }

    #[test]
    fn urls_that_are_none_are_refused() {
        for url in ["localhost:9090", "ftp://x", "http://"] {
            let error =
                PrometheusClient::new(url, HttpClient::new("").unwrap(), Budget::unlimited())
                    .unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{url}");
        }
    }
}

//! A client of Prometheus' HTTP API, for metadata, configuration and remote read. Any server that
//! speaks it will do.

mod answer;
mod body;
mod selector;

use std::collections::BTreeMap;
use std::marker::PhantomData;

use model::{Budget, Labels, Matcher, Reservation, TimeRange};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wire::prometheus as pb;

use answer::{Charge, Envelope, Item, List};

use crate::{Error, HttpClient, Kind, Result};

pub use body::Body;

/// The most bytes of Prometheus' `/metrics` that are read.
const MAX_METRICS_BYTES: u64 = 64 << 20;

/// The longest line of `/metrics` that can be the metric looked for.
const MAX_LINE_BYTES: usize = 256;

/// The most bytes of the global section of Prometheus' configuration. It has a few hundred; reading
/// YAML takes many times its length.
const MAX_GLOBAL_BYTES: usize = 256 << 10;

/// The most bytes of answers that are short whatever Prometheus does.
const MAX_SHORT_BYTES: u64 = 1 << 20;

/// The metric that shows how far back Prometheus' data goes.
const LOWEST_TIMESTAMP: &str = "prometheus_tsdb_lowest_timestamp_seconds";

/// One Prometheus. Cloning shares the connections.
#[derive(Clone)]
pub struct PrometheusClient {
    http: HttpClient,
    base: String,
    /// As errors show it, without credentials.
    name: String,
    budget: Budget,
}

impl std::fmt::Debug for PrometheusClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrometheusClient").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an answer was read to, and the memory that it is charged with.
#[derive(Debug)]
pub struct Held<T> {
    pub value: T,
    pub reservation: Reservation,
}

/// The answer to a remote read, not yet read.
pub enum RemoteRead {
    /// Frames, to be taken from the body as they come.
    Chunked(Body),
    /// One message with decoded samples.
    Samples(Body),
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
        let Some(parsed) = parsed else {
            return Err(Error::new(
                Kind::Invalid,
                format!("{:?} is not an HTTP URL", model::secret::shown_url(url)),
            ));
        };
        let base = url.trim_end_matches('/').to_owned();
        let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
        let name = format!("{}{port}{}", parsed.host_str().unwrap_or_default(), parsed.path());
        let name = name.trim_end_matches('/').to_owned();
        Ok(PrometheusClient { http, base, name, budget })
    }

    /// Host, port and path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The labels that identify this Prometheus; empty when it has none.
    pub async fn external_labels(&self) -> Result<Labels> {
        let path = "/api/v1/status/config";
        let body = self.body(path, &[]).await?;
        let config: ConfigData = self.data(path, answer::read(&body.value, PhantomData))?;
        let global = global_section(&config.yaml);
        if global.len() > MAX_GLOBAL_BYTES {
            let text = format!(
                "reading the external labels of Prometheus {}: the global section of its \
                 configuration is longer than {MAX_GLOBAL_BYTES} bytes",
                self.name
            );
            return Err(Error::new(Kind::Limit, text));
        }
        let file: ConfigFile = serde_yaml_ng::from_str(global)
            .map_err(|e| Error::caused(Kind::Corrupt, "reading Prometheus' configuration", e))?;
        Ok(Labels::from_pairs(file.global.and_then(|g| g.external_labels).unwrap_or_default()))
    }

    /// Prometheus' command line flags, without the leading dashes.
    pub async fn flags(&self) -> Result<BTreeMap<String, String>> {
        self.short("/api/v1/status/flags").await
    }

    pub async fn version(&self) -> Result<String> {
        Ok(self.short::<PrometheusBuild>("/api/v1/status/buildinfo").await?.version)
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
                    // one more says that it is too long
                    if line.len() <= MAX_LINE_BYTES {
                        line.push(byte);
                    }
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
    pub async fn series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Held<Vec<Labels>>> {
        let mut query = selector::time_query(range);
        query.push(("match[]", selector::selector(matchers)));
        self.list("/api/v1/series", &query).await
    }

    /// Names of labels of matching series; without matchers, of all. At most `limit`, 0 = all.
    pub async fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: u64,
    ) -> Result<Held<Vec<String>>> {
        self.list("/api/v1/labels", &metadata_query(matchers, range, limit)).await
    }

    /// Values of a label of matching series; without matchers, of all. At most `limit`, 0 = all.
    pub async fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: u64,
    ) -> Result<Held<Vec<String>>> {
        let path = format!("/api/v1/label/{}/values", selector::escape_label_name(name));
        self.list(&path, &metadata_query(matchers, range, limit)).await
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

    /// The body of an answer, whatever its length as long as the budget has room for it.
    async fn body(&self, path: &str, query: &[(&str, String)]) -> Result<Held<Vec<u8>>> {
        let request = self.http.get(&format!("{}{path}", self.base))?.query(query);
        let response = checked(request.send().await?).await?;
        let mut reservation = self.reserve(path);
        let value = Body(response).read(&mut reservation).await?;
        Ok(Held { value, reservation })
    }

    /// An answer that is short; what it takes in memory is bounded by its length.
    async fn short<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response =
            checked(self.http.get(&format!("{}{path}", self.base))?.send().await?).await?;
        let short = Budget::new(MAX_SHORT_BYTES);
        let mut reservation =
            short.reserve(format!("the answer of Prometheus {}{path}", self.name));
        let body = Body(response).read(&mut reservation).await?;
        self.data(path, answer::read(&body, PhantomData))
    }

    async fn list<T: Item>(&self, path: &str, query: &[(&str, String)]) -> Result<Held<Vec<T>>> {
        let body = self.body(path, query).await?;
        let mut charge = Charge { reservation: self.reserve(path), refused: None };
        let read = answer::read(&body.value, List::charged_to(&mut charge));
        if let Some(refused) = charge.refused {
            return Err(refused.into());
        }
        Ok(Held { value: self.data(path, read)?, reservation: charge.reservation })
    }

    fn reserve(&self, path: &str) -> Reservation {
        self.budget.reserve(format!("the answer of Prometheus {}{path}", self.name))
    }

    fn data<T>(&self, path: &str, read: serde_json::Result<Envelope<T>>) -> Result<T> {
        let envelope = read.map_err(|e| {
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

/// The part of a configuration that has the external labels, as Prometheus writes it: from the line
/// `global:` to the next that is not indented. All of it where there is no such line.
fn global_section(yaml: &str) -> &str {
    const START: &str = "global:\n";
    let start = if yaml.starts_with(START) {
        0
    } else {
        match yaml.find(&format!("\n{START}")) {
            Some(at) => at + 1,
            None => return yaml,
        }
    };
    let mut end = start + START.len();
    for line in yaml[end..].split_inclusive('\n') {
        if !line.starts_with([' ', '\n', '#']) {
            break;
        }
        end += line.len();
    }
    &yaml[start..end]
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
    fn only_the_global_section_is_read_of_a_configuration() {
        let global = "global:\n  external_labels:\n    a: b\n\n# x\n  scrape_interval: 1m\n";
        for before in ["", "alerting: {}\n", "x:\n  global:\n    y: 1\n"] {
            let yaml = format!("{before}{global}scrape_configs:\n- job_name: x\n");
            assert_eq!(global_section(&yaml), global);
        }
        assert_eq!(global_section("{global: {}}"), "{global: {}}");
    }

    #[test]
    fn names_show_no_credentials() {
        let client = |url| {
            PrometheusClient::new(url, HttpClient::new("").unwrap(), Budget::unlimited()).unwrap()
        };
        assert_eq!(client("http://me:secret@host:9090/prefix/").name(), "host:9090/prefix");
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

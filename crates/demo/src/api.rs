//! Asks the querier over its HTTP API, as Grafana does.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use promql::value::{Point, PointValue, ResultSeries};
use serde_json::Value;
use serve::Task;
use tokio::net::TcpStream;

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FloatSeries {
    pub(crate) labels: BTreeMap<String, String>,
    /// Times in milliseconds; an instant query has one point.
    pub(crate) points: Vec<(i64, f64)>,
}

impl FloatSeries {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The only value of an instant query.
    pub(crate) fn value(&self) -> f64 {
        self.points.first().map_or(f64::NAN, |point| point.1)
    }
}

/// An answer and the querier's warnings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FloatAnswer {
    pub(crate) series: Vec<FloatSeries>,
    pub(crate) warnings: Vec<String>,
}

/// How a query reads downsampled and replicated data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadChoice {
    /// The coarsest windows that may answer, as the API spells it: `0s`, `5m`, `1h`.
    pub(crate) resolution: &'static str,
    pub(crate) dedup: bool,
}

impl ReadChoice {
    pub(crate) const RAW: ReadChoice = ReadChoice { resolution: "0s", dedup: true };
    pub(crate) const COARSE: ReadChoice = ReadChoice { resolution: "1h", dedup: true };
}

/// The points in time of a range query, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuerySpan {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
}

/// The HTTP API at one address.
#[derive(Clone, Debug)]
pub(crate) struct ApiClient {
    address: SocketAddr,
}

impl ApiClient {
    pub(crate) fn new(address: SocketAddr) -> ApiClient {
        ApiClient { address }
    }

    pub(crate) async fn instant(
        &self,
        query: &str,
        t_ms: i64,
        reading: ReadChoice,
    ) -> anyhow::Result<FloatAnswer> {
        let time = seconds(t_ms);
        self.ask("/api/v1/query", query, &[("time", &time)], reading).await
    }

    pub(crate) async fn range(
        &self,
        query: &str,
        span: QuerySpan,
        reading: ReadChoice,
    ) -> anyhow::Result<FloatAnswer> {
        let (start, end, step) = (seconds(span.start), seconds(span.end), seconds(span.step));
        self.ask(
            "/api/v1/query_range",
            query,
            &[("start", &start), ("end", &end), ("step", &step)],
            reading,
        )
        .await
    }

    /// The values of a label over all time.
    pub(crate) async fn label_values(&self, label: &str) -> anyhow::Result<Vec<String>> {
        let data =
            self.call("GET", &format!("/api/v1/label/{label}/values"), String::new()).await?;
        let values = data["data"].as_array().context("label values are no list")?;
        Ok(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Endpoints behind the querier that answer, by kind of component.
    pub(crate) async fn healthy_stores(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let data = self.call("GET", "/api/v1/stores", String::new()).await?;
        let kinds = data["data"].as_object().context("stores are no object")?;
        let healthy = |stores: &Value| {
            let stores = stores.as_array().map(Vec::as_slice).unwrap_or_default();
            stores.iter().filter(|store| store["lastError"].is_null()).count()
        };
        Ok(kinds.iter().map(|(kind, stores)| (kind.clone(), healthy(stores))).collect())
    }

    async fn ask(
        &self,
        path: &str,
        query: &str,
        times: &[(&str, &str)],
        reading: ReadChoice,
    ) -> anyhow::Result<FloatAnswer> {
        let mut form =
            format!("query={}&max_source_resolution={}", encoded(query), reading.resolution);
        form += &format!("&dedup={}", reading.dedup);
        for (name, value) in times {
            form += &format!("&{name}={}", encoded(value));
        }
        let (_, body) =
            self.send("POST", path, form).await.with_context(|| format!("ask {query}"))?;
        parse(&body).with_context(|| format!("read the answer to {query}"))
    }

    async fn call(&self, method: &str, path: &str, form: String) -> anyhow::Result<Value> {
        let (status, body) = self.send(method, path, form).await?;
        let body: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{path}: HTTP {status}, no JSON"))?;
        if status != StatusCode::OK {
            bail!("{path}: HTTP {status}: {}", body["error"].as_str().unwrap_or("no error text"));
        }
        Ok(body)
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        form: String,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("connect to {}", self.address))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let _connection = Task::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

/// The floats of an answer; the demo does not read native histograms.
fn parse(body: &[u8]) -> anyhow::Result<FloatAnswer> {
    let http_api::ApiAnswer { value, notes } = http_api::read_answer(body)?;
    let series = match value {
        promql::value::Value::Scalar { t_ms, value } => {
            vec![FloatSeries { labels: BTreeMap::new(), points: vec![(t_ms, value)] }]
        }
        promql::value::Value::String { .. } => bail!("a string is no series"),
        promql::value::Value::Vector(series) | promql::value::Value::Matrix(series) => {
            series.iter().map(one_series).collect::<anyhow::Result<_>>()?
        }
    };
    Ok(FloatAnswer { series, warnings: notes.warnings })
}

fn one_series(series: &ResultSeries) -> anyhow::Result<FloatSeries> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let float = |point: Point| match point.value {
        PointValue::Float(value) => Ok((point.t_ms, value)),
        PointValue::Histogram(_) => bail!("{} has native histograms", series.labels),
    };
    Ok(FloatSeries {
        labels: series.labels.iter().map(|(name, value)| (text(name), text(value))).collect(),
        points: series.points.iter().map(float).collect::<anyhow::Result<_>>()?,
    })
}

/// Milliseconds after 1970 as seconds.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Encodes a value for a form.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_read_whatever_their_type() {
        let parse = |data: Value, warnings: Value| {
            parse(
                json!({"status": "success", "data": data, "warnings": warnings})
                    .to_string()
                    .as_bytes(),
            )
        };
        let vector = json!({"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.5, "+Inf"]}]});
        let answer = parse(vector, json!(["w"])).unwrap();
        assert_eq!(answer.series[0].points, [(1500, f64::INFINITY)]);
        assert_eq!((answer.series[0].label("a"), answer.warnings), ("b", vec!["w".to_owned()]));
        let matrix = json!({"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "1"], [2, "2.5"]]}]});
        assert_eq!(parse(matrix, json!([])).unwrap().series[0].points, [(1000, 1.0), (2000, 2.5)]);
        let scalar = json!({"resultType": "scalar", "result": [3, "4"]});
        assert_eq!(parse(scalar, Value::Null).unwrap().series[0].value(), 4.0);
        assert!(parse(json!({"resultType": "string", "result": [3, "x"]}), json!([])).is_err());
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(encoded("a{b=\"c\"}[5m]+1"), "a%7Bb%3D%22c%22%7D%5B5m%5D%2B1");
        assert_eq!(seconds(1_767_225_600_050), "1767225600.050");
    }
}

//! Asks the querier over its HTTP API, as Grafana does.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: BTreeMap<String, String>,
    /// Times in milliseconds; an instant query has one point.
    pub(crate) points: Vec<(i64, f64)>,
}

impl Series {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The only value of an instant query.
    pub(crate) fn value(&self) -> f64 {
        self.points.first().map_or(f64::NAN, |point| point.1)
    }
}

/// An answer and what the querier had to say about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) series: Vec<Series>,
    pub(crate) warnings: Vec<String>,
}

/// How a query reads downsampled and replicated data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// The coarsest windows that may answer, as the API spells it: `0s`, `5m`, `1h`.
    pub(crate) resolution: &'static str,
    pub(crate) dedup: bool,
}

impl Reading {
    pub(crate) const RAW: Reading = Reading { resolution: "0s", dedup: true };
    pub(crate) const COARSE: Reading = Reading { resolution: "1h", dedup: true };
}

/// The points in time of a range query, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
}

/// The HTTP API at one address.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    address: SocketAddr,
}

impl Api {
    pub(crate) fn new(address: SocketAddr) -> Api {
        Api { address }
    }

    pub(crate) async fn instant(&self, query: &str, t_ms: i64, reading: Reading) -> anyhow::Result<Answer> {
        let time = seconds(t_ms);
        self.ask("/api/v1/query", query, &[("time", &time)], reading).await
    }

    pub(crate) async fn range(&self, query: &str, span: Span, reading: Reading) -> anyhow::Result<Answer> {
        let (start, end, step) = (seconds(span.start), seconds(span.end), seconds(span.step));
        self.ask("/api/v1/query_range", query, &[("start", &start), ("end", &end), ("step", &step)], reading).await
    }

    /// The values of a label over all time.
    pub(crate) async fn label_values(&self, label: &str) -> anyhow::Result<Vec<String>> {
        let data = self.call("GET", &format!("/api/v1/label/{label}/values"), String::new()).await?;
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

    async fn ask(&self, path: &str, query: &str, times: &[(&str, &str)], reading: Reading) -> anyhow::Result<Answer> {
        let mut form = format!("query={}&max_source_resolution={}", encoded(query), reading.resolution);
        form += &format!("&dedup={}", reading.dedup);
        for (name, value) in times {
            form += &format!("&{name}={}", encoded(value));
        }
        let answer = self.call("POST", path, form).await.with_context(|| format!("ask {query}"))?;
        parse(&answer).with_context(|| format!("read the answer to {query}"))
    }

    async fn call(&self, method: &str, path: &str, form: String) -> anyhow::Result<Value> {
        let stream = TcpStream::connect(self.address).await.with_context(|| format!("connect to {}", self.address))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        let body: Value = serde_json::from_slice(&body).with_context(|| format!("{path}: HTTP {status}, no JSON"))?;
        if status != StatusCode::OK {
            bail!("{path}: HTTP {status}: {}", body["error"].as_str().unwrap_or("no error text"));
        }
        Ok(body)
    }
}

fn parse(answer: &Value) -> anyhow::Result<Answer> {
    let texts = |key: &str| -> Vec<String> {
        let list = answer[key].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let result = &answer["data"]["result"];
    let series = match answer["data"]["resultType"].as_str() {
        Some("scalar") => vec![Series { labels: BTreeMap::new(), points: vec![point(result)?] }],
        Some("vector" | "matrix") => {
            result.as_array().context("result is no list")?.iter().map(one_series).collect::<anyhow::Result<_>>()?
        }
        other => bail!("result type {other:?}"),
    };
    Ok(Answer { series, warnings: texts("warnings") })
}

fn one_series(series: &Value) -> anyhow::Result<Series> {
    let labels = series["metric"].as_object().context("series without labels")?;
    let labels = labels.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
    let points = match (&series["value"], series["values"].as_array()) {
        (_, Some(values)) => values.iter().map(point).collect::<anyhow::Result<_>>()?,
        (Value::Null, None) => bail!("series without float values"),
        (value, None) => vec![point(value)?],
    };
    Ok(Series { labels, points })
}

/// `[seconds, "value"]`.
fn point(pair: &Value) -> anyhow::Result<(i64, f64)> {
    let t = pair[0].as_f64().context("point without time")?;
    let value = pair[1].as_str().context("point without value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().with_context(|| format!("value {number:?}"))?,
    };
    Ok(((t * 1000.0).round() as i64, value))
}

/// Of times after 1970.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// For a form's value.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
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
        let vector = json!({"data": {"resultType": "vector", "result": [
            {"metric": {"a": "b"}, "value": [1.5, "+Inf"]}]}, "warnings": ["w"]});
        let answer = parse(&vector).unwrap();
        assert_eq!(answer.series[0].points, [(1500, f64::INFINITY)]);
        assert_eq!((answer.series[0].label("a"), answer.warnings), ("b", vec!["w".to_owned()]));
        let matrix = json!({"data": {"resultType": "matrix", "result": [
            {"metric": {}, "values": [[1, "1"], [2, "2.5"]]}]}});
        assert_eq!(parse(&matrix).unwrap().series[0].points, [(1000, 1.0), (2000, 2.5)]);
        let scalar = json!({"data": {"resultType": "scalar", "result": [3, "4"]}});
        assert_eq!(parse(&scalar).unwrap().series[0].value(), 4.0);
        assert!(parse(&json!({"data": {"resultType": "string", "result": [3, "x"]}})).is_err());
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(encoded("a{b=\"c\"}[5m]+1"), "a%7Bb%3D%22c%22%7D%5B5m%5D%2B1");
        assert_eq!(seconds(1_767_225_600_050), "1767225600.050");
    }
}

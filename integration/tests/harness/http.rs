//! A small blocking HTTP client.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::runtime;

/// No answer within this time is an error of the test.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} with no JSON: {}", self.code, self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub(crate) fn get(url: &str) -> Result<Answer> {
    request(Method::GET, url, None)
}

/// A form, as Grafana sends it.
pub(crate) fn post_form(url: &str, fields: &[(String, String)]) -> Result<Answer> {
    request(Method::POST, url, Some(encode(fields)))
}

fn request(method: Method, url: &str, form: Option<String>) -> Result<Answer> {
    let sent = async {
        let rest = url.strip_prefix("http://").context("a URL with http://")?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let stream =
            TcpStream::connect(host).await.with_context(|| format!("connect to {host}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut builder = Request::builder().method(method).uri(path).header(HOST, host);
        if form.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = builder.body(Full::new(Bytes::from(form.unwrap_or_default())))?;
        let response = sender.send_request(request).await.with_context(|| format!("ask {url}"))?;
        let (head, body) = response.into_parts();
        let body =
            body.collect().await.with_context(|| format!("read the answer of {url}"))?.to_bytes();
        driver.abort();
        Ok(Answer { code: head.status.as_u16(), headers: head.headers, body })
    };
    runtime().block_on(async {
        tokio::time::timeout(LIMIT, sent).await.with_context(|| format!("ask {url}"))?
    })
}

pub(crate) fn encode(fields: &[(String, String)]) -> String {
    let escape = |text: &str| {
        let mut out = String::new();
        for &byte in text.as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                out.push(byte as char);
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    };
    fields
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect::<Vec<_>>()
        .join("&")
}

/// What a Prometheus API answers, with any status code.
pub(crate) fn api(base: &str, path: &str, fields: &[(&str, &str)]) -> Result<Value> {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    get(&format!("{base}{path}?{}", encode(&fields)))?.json()
}

/// The series of an instant query that has to succeed.
pub(crate) fn instant(base: &str, query: &str, time: f64) -> Result<Vec<Value>> {
    let body = api(base, "/api/v1/query", &[("query", query), ("time", &time.to_string())])?;
    ensure!(body["status"] == "success", "{query}: {body}");
    Ok(body["data"]["result"].as_array().context("a vector")?.clone())
}

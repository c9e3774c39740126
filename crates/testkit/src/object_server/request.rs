//! A request, taken apart.

use axum::body::to_bytes;
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use object_store::{PutMode, UpdateVersion};

use super::ServerFailure;
use crate::faults::Op;

/// Bodies larger than this are refused; parts of uploads are far smaller.
const LARGEST_BODY: usize = 1 << 30;

/// What a generation of GCS begins with, before the ETag of the store.
pub(super) const GENERATION: &str = "1";

#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    pub(super) bucket: String,
    /// Empty for requests to the bucket itself.
    pub(super) key: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) async fn read(request: axum::extract::Request) -> Result<Request, ServerFailure> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let (bucket, key) = (percent_decoded(bucket, false)?, percent_decoded(key, false)?);
        let mut query = Vec::new();
        for pair in parts.uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.push((percent_decoded(name, true)?, percent_decoded(value, true)?));
        }
        let body = to_bytes(body, LARGEST_BODY)
            .await
            .map_err(|e| ServerFailure::invalid(format!("read body: {e}")))?;
        Ok(Request { method: parts.method, bucket, key, query, headers: parts.headers, body })
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Which operation the request asks for; `None` for one that is not served.
    pub(super) fn op(&self) -> Option<Op> {
        let (of_bucket, upload) = (self.key.is_empty(), self.query("uploadId").is_some());
        Some(match self.method {
            Method::GET if of_bucket => Op::List,
            Method::GET => Op::Get,
            Method::HEAD => Op::Head,
            Method::PUT if of_bucket => return None,
            Method::PUT if upload => Op::PutPart,
            Method::PUT if self.copy_source().is_some() => Op::Copy,
            Method::PUT => Op::Put,
            Method::POST if of_bucket && self.query("delete").is_some() => Op::Delete,
            Method::POST if upload => Op::CompleteMultipart,
            Method::POST if self.query("uploads").is_some() => Op::CreateMultipart,
            Method::DELETE if upload => Op::AbortMultipart,
            Method::DELETE if !of_bucket => Op::Delete,
            _ => return None,
        })
    }

    pub(super) fn copy_source(&self) -> Option<&str> {
        self.header("x-amz-copy-source").or_else(|| self.header("x-goog-copy-source"))
    }

    /// The condition of a write. Generation 0 means no object, so that every other begins with
    /// [`GENERATION`].
    pub(super) fn put_mode(&self) -> Result<PutMode, ServerFailure> {
        let update = |tag: &str| {
            PutMode::Update(UpdateVersion { e_tag: Some(tag.to_owned()), version: None })
        };
        if let Some(generation) = self.header("x-goog-if-generation-match") {
            return Ok(match generation.strip_prefix(GENERATION) {
                Some(tag) => update(tag),
                None => PutMode::Create,
            });
        }
        match (self.header("if-none-match"), self.header("if-match")) {
            (Some("*"), _) => Ok(PutMode::Create),
            (Some(other), _) => Err(ServerFailure::new(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                format!("if-none-match {other:?} on a write: only * is known"),
            )),
            (None, Some(tag)) => Ok(update(tag.trim_matches('"'))),
            (None, None) => Ok(PutMode::Overwrite),
        }
    }
}

pub(super) fn percent_decoded(text: &str, plus_is_space: bool) -> Result<String, ServerFailure> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, rest) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |b: u8| char::from(b).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    return Err(ServerFailure::invalid(format!("percent-encoding in {text:?}")));
                };
                bytes.push((high * 16 + low) as u8);
                rest = after;
            }
            (b'+', _) if plus_is_space => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).map_err(|_| ServerFailure::invalid(format!("{text:?} is no UTF-8")))
}

//! Between the clients of S3, GCS and Azure and the network: bounds what they read whole, makes
//! pages of listings acceptable to them, and records what their errors have no kind for.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};

use super::hints::{Hints, is_clean};
use super::{answers, list_page};

/// The longest pause that a store can ask for. Reads are given up after a minute.
const MOST_PAUSE: Duration = Duration::from_secs(20);

/// A status after which clients do not try again.
const METHOD_NOT_ALLOWED: u16 = 405;

/// Makes clients whose answers are inspected.
#[derive(Debug)]
pub(crate) struct Connector<C = ReqwestConnector> {
    inner: C,
    /// The prefix of the bucket, without `/` at either end.
    prefix: String,
    hints: Hints,
}

impl Connector {
    pub(crate) fn new(prefix: &str, hints: Hints) -> Connector {
        Connector { inner: ReqwestConnector::default(), prefix: prefix.to_owned(), hints }
    }
}

impl<C: HttpConnector> HttpConnector for Connector<C> {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = self.inner.connect(options)?;
        Ok(HttpClient::new(Service {
            inner,
            prefix: self.prefix.clone(),
            hints: self.hints.clone(),
        }))
    }
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
    prefix: String,
    hints: Hints,
}

/// The requests, by how their answers are inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The answer is an object.
    Object,
    Listing,
    /// The deletion of many objects at once.
    Deletion,
    CreateOnlyWrite,
    /// The answer is a short document, or nothing.
    Other,
}

impl Asked {
    fn of(request: &HttpRequest) -> Asked {
        let has = |name: &str| {
            let mut pairs = request.uri().query().unwrap_or_default().split('&');
            pairs.any(|pair| pair == name || pair.strip_suffix('=') == Some(name))
        };
        let header = |name: &str, value: &str| {
            request.headers().get(name).is_some_and(|v| v.as_bytes() == value.as_bytes())
        };
        match request.method().as_str() {
            "GET" if has("list-type=2") || has("comp=list") => Asked::Listing,
            "GET" | "HEAD" => Asked::Object,
            "POST" if has("delete") => Asked::Deletion,
            "PUT" | "POST"
                if header("if-none-match", "*") || header("x-goog-if-generation-match", "0") =>
            {
                Asked::CreateOnlyWrite
            }
            _ => Asked::Other,
        }
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asked = Asked::of(&request);
        let response = self.inner.execute(request).await?;
        if let Some(pause) = asked_pause(&response) {
            // the client waits another moment, of random length, and then tries again
            tokio::time::sleep(pause).await;
        }
        let well = response.status().is_success();
        if well && asked == Asked::Object {
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        let body = if well { answers::document(body).await } else { answers::error(body).await }?;
        // it may be less than there was
        parts.headers.remove("content-length");
        let response = HttpResponse::from_parts(parts, body.into());
        match asked {
            Asked::Listing if well => self.listed(response).await,
            Asked::Deletion if well => deleted(response).await,
            Asked::CreateOnlyWrite if !well => self.create_only_refused(response).await,
            _ => Ok(response),
        }
    }
}

impl Service {
    async fn listed(&self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let (parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let page =
            std::str::from_utf8(&body).ok().and_then(|text| list_page::clean(text, &self.prefix));
        let Some(page) = page else { return Ok(HttpResponse::from_parts(parts, body.into())) };
        self.hints.ignore(&page.ignored);
        Ok(HttpResponse::from_parts(parts, page.text.into()))
    }

    /// Stores without create-only writes answer 501, 405, or 400 with one of some codes.
    async fn create_only_refused(&self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let status = response.status().as_u16();
        let (mut parts, body) = response.into_parts();
        let body = match status {
            501 | METHOD_NOT_ALLOWED => body,
            400 => {
                let bytes = body.bytes().await?;
                let refused = refuses_condition(&String::from_utf8_lossy(&bytes));
                let body = HttpResponseBody::from(bytes);
                if !refused {
                    return Ok(HttpResponse::from_parts(parts, body));
                }
                body
            }
            _ => return Ok(HttpResponse::from_parts(parts, body)),
        };
        self.hints.lacks_create_only();
        // the client would try again after a 501
        parts.status = METHOD_NOT_ALLOWED.try_into().unwrap_or(parts.status);
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// How long a store that is busy asks to be left alone: `Retry-After` in seconds, as stores send
/// it.
fn asked_pause(response: &HttpResponse) -> Option<Duration> {
    const BUSY: [u16; 2] = [429, 503];
    let asked = response.headers().get("retry-after").filter(|_| {
        let status = response.status().as_u16();
        BUSY.contains(&status)
    })?;
    let seconds = asked.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MOST_PAUSE))
}

/// Whether a 400 is about the condition. Others report wrong credentials, times and bodies.
fn refuses_condition(body: &str) -> bool {
    const CODES: [&str; 7] = [
        "NotImplemented",
        "NotSupported",
        "UnsupportedOperation",
        "UnsupportedHeader",
        "InvalidArgument",
        "InvalidRequest",
        "MethodNotAllowed",
    ];
    let code = body
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code.trim());
    match code {
        Some(code) => CODES.contains(&code),
        None => body.to_lowercase().contains("if-none-match"),
    }
}

/// In the answer to a deletion the client looks for the paths it asked to delete, and does not
/// expect a name that is not a path, such as a directory marker; then the whole request would fail.
async fn deleted(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (mut parts, body) = response.into_parts();
    let body: Bytes = body.bytes().await?;
    let failed = list_page::names_of(&String::from_utf8_lossy(&body), "Error");
    if failed.iter().any(|name| !is_clean(name)) {
        parts.status = 403u16.try_into().unwrap_or(parts.status);
    }
    Ok(HttpResponse::from_parts(parts, body.into()))
}

#[cfg(test)]
mod tests;

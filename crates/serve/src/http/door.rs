//! What stands in front of everything a listener serves: the web configuration, which is read again
//! when it changes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};

use model::secret::shown_path;

use super::config;
use super::limit::RateLimiter;
use super::users::{Denied, Users};
use crate::reload::{ReadFile, Reloader};
use crate::tls::{self, TlsReloader};
use crate::{Error, Kind, Result};

const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];
const HTTP1: &[&[u8]] = &[b"http/1.1"];

/// The web configuration, ready for use.
#[derive(Debug)]
struct Web {
    tls: Option<TlsReloader>,
    without_http2: bool,
    headers: HeaderMap,
    users: Option<Users>,
    limiter: Option<RateLimiter>,
}

impl Web {
    fn new(text: &str, path: &Path) -> Result<Web> {
        let config = config::parse(text, path)?;
        let protocols = if config.without_http2 { HTTP1 } else { PROTOCOLS };
        Ok(Web {
            tls: config.tls.map(|files| tls::reloader(files, protocols)).transpose()?,
            without_http2: config.without_http2,
            headers: config.headers,
            users: Users::new(config.users),
            limiter: config.rate.map(RateLimiter::new),
        })
    }
}

/// The front door of a listener; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Door(Option<Arc<Reloader<Web>>>);

impl Door {
    /// With the web configuration file, if there is one.
    ///
    /// # Errors
    /// `Invalid` when the file asks for something that cannot be done.
    pub(crate) fn new(config: Option<&Path>) -> Result<Door> {
        let Some(path) = config else { return Ok(Door(None)) };
        let speaks_tls = OnceLock::new();
        let make = move |files: &[ReadFile]| {
            let [file] = files else {
                return Err(Error::new(Kind::Internal, "the http config is one file"));
            };
            let named = |e| {
                let name = format!("http config {}", shown_path(file.path()));
                Error::caused(Kind::Invalid, name, e)
            };
            let text = file.content("http config")?;
            let text = std::str::from_utf8(text)
                .map_err(|e| named(Error::caused(Kind::Invalid, "read its text", e)))?;
            // users must not lose their passwords because a file is about to be written
            if speaks_tls.get().is_some() && config::is_empty(text) {
                let text = "it is empty; one that asks for nothing holds {}";
                return Err(named(Error::new(Kind::Invalid, text)));
            }
            let web = Web::new(text, file.path()).map_err(named)?;
            if *speaks_tls.get_or_init(|| web.tls.is_some()) != web.tls.is_some() {
                let text = "tls_server_config came or went; restart the process for that";
                return Err(named(Error::new(Kind::Invalid, text)));
            }
            Ok(web)
        };
        let reloader = Reloader::new("http config", vec![path.to_owned()], make)?;
        Ok(Door(Some(Arc::new(reloader))))
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.0.as_ref().is_some_and(|web| web.current().tls.is_some())
    }

    /// How a new connection is to speak TLS, if it is.
    pub(crate) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        let web = self.0.as_ref()?.current();
        web.tls.as_ref().map(Reloader::current)
    }
}

/// To be around every route, health and metrics too, as in the exporter toolkit.
pub(crate) async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let web = door.0.as_ref().map(|web| web.current());
    let mut response = match &web {
        None => next.run(request).await,
        Some(web) => match refusal(web, request.version(), request.headers()).await {
            Some(refused) => refused,
            None => next.run(request).await,
        },
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(web) = web {
        headers.extend(web.headers.clone());
    }
    response
}

async fn refusal(web: &Web, version: Version, headers: &HeaderMap) -> Option<Response> {
    if web.without_http2 && version == Version::HTTP_2 {
        return Some(plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP/2 is switched off\n"));
    }
    if web.limiter.as_ref().is_some_and(|limiter| !limiter.allows()) {
        return Some(plain(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"));
    }
    match web.users.as_ref()?.let_in(headers).await {
        Ok(()) => None,
        Err(Denied::Busy) => {
            let text = "too many passwords wait to be checked; try again later\n";
            Some(plain(StatusCode::SERVICE_UNAVAILABLE, text))
        }
        Err(Denied::Wrong) => {
            let mut response = plain(StatusCode::UNAUTHORIZED, "Unauthorized\n");
            let challenge = HeaderValue::from_static("Basic");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            Some(response)
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

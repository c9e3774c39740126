//! Answers and errors in the envelope of Prometheus' API.

use std::fmt::Display;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use engine::QueryError;
use http::{HeaderValue, StatusCode, header};
use storeapi::Kind;

use super::json::Json;

pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// An error as the API reports it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn bad_data(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::BAD_REQUEST, kind: "bad_data", message: message.into() }
    }

    pub(crate) fn parameter(name: &str, reason: impl Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }

    pub(crate) fn execution(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::UNPROCESSABLE_ENTITY, kind: "execution", message: message.into() }
    }

    pub(crate) fn timeout(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::SERVICE_UNAVAILABLE, kind: "timeout", message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "internal", message: message.into() }
    }

    pub(crate) fn not_found() -> ApiError {
        let message = "404 page not found".to_owned();
        ApiError { status: StatusCode::NOT_FOUND, kind: "not_found", message }
    }

    pub(crate) fn method_not_allowed() -> ApiError {
        let message = "method not allowed".to_owned();
        ApiError { status: StatusCode::METHOD_NOT_ALLOWED, kind: "bad_data", message }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        match error {
            QueryError::BadData(reason) => ApiError::parameter("query", reason),
            QueryError::Execution(message) => ApiError::execution(message),
            QueryError::Timeout(message) => ApiError::timeout(message),
            QueryError::Canceled(message) => {
                ApiError { status: StatusCode::SERVICE_UNAVAILABLE, kind: "canceled", message }
            }
            QueryError::Internal(message) => ApiError::internal(message),
        }
    }
}

impl From<storeapi::Error> for ApiError {
    fn from(error: storeapi::Error) -> ApiError {
        let message = error.to_string();
        match error.kind() {
            Kind::Invalid => ApiError::bad_data(message),
            Kind::Timeout => ApiError::timeout(message),
            Kind::Limit | Kind::Unavailable | Kind::Aborted | Kind::Corrupt => ApiError::execution(message),
            Kind::Internal => ApiError::internal(message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut json = Json::default();
        json.raw(r#"{"status":"error","errorType":"#);
        json.string(self.kind.as_bytes());
        json.raw(r#","error":"#);
        json.string(self.message.as_bytes());
        json.raw("}");
        let mut response = json_response(Body::from(json.0));
        *response.status_mut() = self.status;
        response
    }
}

/// What stands beside the data of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
}

impl Notes {
    /// Whether something is missing that may be there at the next call. Notes of PromQL belong to the query, and a
    /// limit to the request: the same call has the same answer.
    pub(crate) fn is_partial(&self) -> bool {
        self.warnings.iter().any(|warning| !warning.starts_with("PromQL ") && warning != TRUNCATED)
    }

    /// `,"warnings":[…],"infos":[…]`, each left out when empty.
    pub(crate) fn write(&self, json: &mut Json) {
        for (name, notes) in [(r#","warnings":"#, &self.warnings), (r#","infos":"#, &self.infos)] {
            if !notes.is_empty() {
                json.raw(name);
                json.strings(notes);
            }
        }
    }
}

/// A whole answer whose data `write` writes.
pub(crate) fn success(notes: &Notes, write: impl FnOnce(&mut Json)) -> Response {
    let mut json = Json::default();
    json.raw(r#"{"status":"success","data":"#);
    write(&mut json);
    notes.write(&mut json);
    json.raw("}");
    with_notes(json_response(Body::from(json.0)), notes)
}

/// Keeps caches from holding an answer that lacks something.
pub(crate) fn with_notes(mut response: Response, notes: &Notes) -> Response {
    if notes.is_partial() {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

pub(crate) fn json_response(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

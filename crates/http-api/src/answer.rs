//! Answers and errors in the envelope of Prometheus' API.

use std::fmt::Display;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::Json;

/// The warning of an answer that a limit of the request cut off.
pub const TRUNCATED: &str = "results truncated due to limit";

/// An error as the API reports it.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl ApiError {
    /// The request cannot be understood: 400.
    pub fn bad_data(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::BAD_REQUEST, kind: "bad_data", message: message.into() }
    }

    /// A parameter cannot be understood: 400.
    pub fn parameter(name: &str, reason: impl Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }

    /// It was understood and failed: 422.
    pub fn execution(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            kind: "execution",
            message: message.into(),
        }
    }

    /// It took too long: 503.
    pub fn timeout(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "timeout",
            message: message.into(),
        }
    }

    /// It was given up: 503.
    pub fn canceled(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "canceled",
            message: message.into(),
        }
    }

    /// A defect of ours: 500.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "internal",
            message: message.into(),
        }
    }

    /// No such path: 404.
    pub fn not_found() -> ApiError {
        let message = "404 page not found".to_owned();
        ApiError { status: StatusCode::NOT_FOUND, kind: "not_found", message }
    }

    /// The path is served, but not with this method: 405.
    pub fn method_not_allowed() -> ApiError {
        let message = "method not allowed".to_owned();
        ApiError { status: StatusCode::METHOD_NOT_ALLOWED, kind: "bad_data", message }
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
        without_store(response)
    }
}

/// The warnings and infos beside the data of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerNotes {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

impl AnswerNotes {
    /// Whether something is missing that the next call may return. Notes of PromQL belong to the
    /// query: with these, the same call has the same answer.
    pub(crate) fn is_partial(&self) -> bool {
        self.warnings.iter().any(|warning| !warning.starts_with("PromQL "))
    }

    /// `,"warnings":[…],"infos":[…]`, each left out when empty.
    pub fn write(&self, json: &mut Json) {
        for (name, notes) in [(r#","warnings":"#, &self.warnings), (r#","infos":"#, &self.infos)] {
            if !notes.is_empty() {
                json.raw(name);
                json.strings(notes);
            }
        }
    }
}

/// A whole answer whose data `write` writes.
pub fn success(notes: &AnswerNotes, write: impl FnOnce(&mut Json)) -> Response {
    let mut json = Json::default();
    json.raw(r#"{"status":"success","data":"#);
    write(&mut json);
    notes.write(&mut json);
    json.raw("}");
    with_notes(json_response(Body::from(json.0)), notes)
}

/// Keeps caches from storing an incomplete answer.
pub fn with_notes(response: Response, notes: &AnswerNotes) -> Response {
    if notes.is_partial() { without_store(response) } else { response }
}

fn without_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A successful response of this JSON.
pub fn json_response(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

//! What is compared of an answer.

use std::fmt;

use serde_json::Value;

use super::raw::{Answer, Answered};
use super::requests::Request;

/// An answer in a few words: `200 vector[2] warned no-store`, `400 bad_data`, `404 text/plain`.
#[derive(Debug)]
pub(super) struct Summary {
    /// 0: the connection ended without an answer.
    status: u16,
    is_json: bool,
    /// The type of error, or the shape of the data; of what is not JSON its `Content-Type`.
    what: String,
    is_stored: bool,
}

impl Summary {
    pub(super) fn of(request: &Request, answered: Answered) -> Summary {
        let Some(answer) = answered else {
            return Summary {
                status: 0,
                is_json: false,
                what: "nothing".to_owned(),
                is_stored: true,
            };
        };
        let kind = answer.header("content-type").split(';').next().unwrap_or_default();
        let is_json = kind == "application/json";
        let what = match () {
            () if !is_json => if kind.is_empty() { "-" } else { kind }.to_owned(),
            // the same that it would be in plain
            () if !answer.header("content-encoding").is_empty() || request.method == "HEAD" => {
                "json".to_owned()
            }
            () => content(&answer),
        };
        let is_stored = answer.header("cache-control") != "no-store";
        Summary { status: answer.status, is_json, what, is_stored }
    }

    /// What must never be so with ours.
    pub(super) fn flaw(&self) -> Option<&'static str> {
        match self.status {
            0 => Some("there is no answer"),
            400.. if !self.is_json => Some("an error is not in the envelope"),
            400.. if self.is_stored => Some("an error may be kept by caches"),
            _ => None,
        }
    }

    /// Prometheus says nothing to caches. Errors of peers that are not in the envelope, such as for
    /// unknown paths, are compared by their status, because ours always are.
    pub(super) fn is_like(&self, theirs: &Summary, with_caches: bool) -> bool {
        let is_same_in_plain =
            [self, theirs].iter().any(|one| one.what == "json") && self.is_json && theirs.is_json;
        let same_content = self.what == theirs.what
            || (theirs.status >= 400 && !theirs.is_json && self.is_json)
            || is_same_in_plain;
        let same_caching = !with_caches
            || !theirs.is_json
            || is_same_in_plain
            || self.is_stored == theirs.is_stored;
        self.status == theirs.status && same_content && same_caching
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cached = if self.is_stored { "" } else { " no-store" };
        write!(f, "{} {}{cached}", self.status, self.what)
    }
}

fn content(answer: &Answer) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
        return "broken JSON".to_owned();
    };
    if body["status"] == "error" {
        let is_whole = body["error"].as_str().is_some_and(|error| !error.is_empty());
        let kind = body["errorType"].as_str().unwrap_or("no errorType");
        return format!("{kind}{}", if is_whole { "" } else { " without a message" });
    }
    let Some(data) = body.get("data").filter(|_| body["status"] == "success") else {
        return "no envelope".to_owned();
    };
    let notes = [("warnings", " warned"), ("infos", " informed")];
    let notes = notes.iter().filter(|(key, _)| body.get(key).is_some()).map(|(_, note)| *note);
    format!("{}{}", shape(data), notes.collect::<String>())
}

/// The most fields that are named.
const FIELDS: usize = 16;

fn shape(data: &Value) -> String {
    match data {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(items) => format!("[{}]", items.len()),
        Value::Object(fields) => match fields.get("resultType").and_then(Value::as_str) {
            Some(kind @ ("vector" | "matrix")) => {
                let stats = if fields.contains_key("stats") { " with stats" } else { "" };
                let rows = fields.get("result").and_then(Value::as_array).map(Vec::len);
                format!("{kind}[{}]{stats}", rows.map_or("null".to_owned(), |n| n.to_string()))
            }
            Some(kind) => kind.to_owned(),
            None if fields.len() > FIELDS => "{…}".to_owned(),
            None => format!("{{{}}}", fields.keys().cloned().collect::<Vec<_>>().join(",")),
        },
    }
}

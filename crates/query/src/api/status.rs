//! `stores`, `status/*`, and the APIs that are answered without data.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, Response};
use http_api::{AnswerNotes, ApiError, Json, Params, success};
use model::rfc3339;
use promql::quote;

use super::ApiState;
use crate::endpoints::EndpointStatus;

pub(super) async fn stores(State(api): State<Arc<ApiState>>) -> Response {
    let mut by_component: BTreeMap<&str, Vec<EndpointStatus>> = BTreeMap::new();
    for status in api.endpoints.statuses() {
        by_component.entry(status.component.as_str()).or_default().push(status);
    }
    success(&AnswerNotes::default(), |json| {
        json.raw("{");
        for (i, (component, statuses)) in by_component.iter().enumerate() {
            json.comma(i);
            json.string(component.as_bytes());
            json.raw(":[");
            for (i, status) in statuses.iter().enumerate() {
                json.comma(i);
                write_store(json, status);
            }
            json.raw("]");
        }
        json.raw("}");
    })
}

fn write_store(json: &mut Json, status: &EndpointStatus) {
    json.raw(r#"{"name":"#);
    json.string(status.address.as_bytes());
    json.raw(r#","lastCheck":"#);
    // Go's zero time, which user interfaces show as never
    let checked = status.checked.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339::format);
    json.string(checked.as_bytes());
    json.raw(r#","lastError":"#);
    match &status.error {
        Some(error) => json.string(error.as_bytes()),
        None => json.raw("null"),
    }
    json.raw(r#","labelSets":["#);
    for (i, labels) in status.label_sets.iter().enumerate() {
        json.comma(i);
        json.labels(labels);
    }
    json.raw(r#"],"minTime":"#);
    json.integer(status.range.start);
    json.raw(r#","maxTime":"#);
    json.integer(status.range.last());
    json.raw("}");
}

fn object<'a>(json: &mut Json, fields: impl IntoIterator<Item = (&'a str, String)>) {
    json.raw("{");
    for (i, (name, value)) in fields.into_iter().enumerate() {
        json.comma(i);
        json.string(name.as_bytes());
        json.raw(":");
        json.string(value.as_bytes());
    }
    json.raw("}");
}

/// Grafana uses this to decide which features a server has: the version is one of Thanos', ours
/// follows the plus, and `features` must be absent, as it would indicate another product.
pub(super) async fn build_info(State(api): State<Arc<ApiState>>) -> Response {
    let about = &api.settings.about;
    let fields = [
        ("version", format!("{}+drumlin.{}", super::THANOS_VERSION, about.version)),
        ("revision", about.revision.clone()),
        ("branch", String::new()),
        ("buildUser", String::new()),
        ("buildDate", String::new()),
        ("goVersion", String::new()),
    ];
    success(&AnswerNotes::default(), |json| object(json, fields))
}

pub(super) async fn flags(State(api): State<Arc<ApiState>>) -> Response {
    let flags = api.settings.about.flags.iter().map(|(name, value)| (name.as_str(), value.clone()));
    success(&AnswerNotes::default(), |json| object(json, flags))
}

pub(super) async fn runtime_info(State(api): State<Arc<ApiState>>) -> Response {
    let folder = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let started = rfc3339::format(api.started);
    success(&AnswerNotes::default(), |json| {
        json.raw(r#"{"application":"drumlin","startTime":"#);
        json.string(started.as_bytes());
        json.raw(r#","CWD":"#);
        json.string(folder.as_bytes());
        json.raw(r#","reloadConfigSuccess":true,"lastConfigTime":"#);
        json.string(started.as_bytes());
        json.raw(r#","corruptionCount":0,"goroutineCount":"#);
        // the tasks that have not ended, as in `go_goroutines`
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        json.integer(i64::try_from(tasks).unwrap_or(i64::MAX));
        json.raw(r#","GOMAXPROCS":"#);
        json.integer(i64::try_from(api.settings.engine_threads).unwrap_or(i64::MAX));
        json.raw(r#","GOMEMLIMIT":"#);
        json.integer(i64::try_from(api.settings.budget.limit()).unwrap_or(i64::MAX));
        json.raw(r#","GOGC":"","GODEBUG":"","storageRetention":""}"#);
    })
}

/// `data` as given, with the warning that endpoints were not asked.
fn unfilled(what: &str, data: &'static str) -> Response {
    let warning = format!("{what} are not collected from endpoints yet; the answer is empty");
    success(&AnswerNotes { warnings: vec![warning], infos: Vec::new() }, |json| json.raw(data))
}

/// Refuses a value that a parameter cannot have.
fn one_of(params: &Params, name: &str, known: &[&str]) -> Result<(), ApiError> {
    match params.get(name) {
        Some(value) if !known.iter().any(|one| one.eq_ignore_ascii_case(value)) => {
            let value = quote(value.as_bytes());
            let reason = format!("not supported value {value}; use one of {}", known.join(", "));
            Err(ApiError::parameter(name, reason))
        }
        _ => Ok(()),
    }
}

pub(super) async fn rules(params: Params) -> Result<Response, ApiError> {
    one_of(&params, "type", &["alert", "record"])?;
    Ok(unfilled("rules", r#"{"groups":[]}"#))
}

pub(super) async fn alerts() -> Response {
    unfilled("alerts", r#"{"alerts":[]}"#)
}

pub(super) async fn targets(params: Params) -> Result<Response, ApiError> {
    one_of(&params, "state", &["active", "dropped", "any"])?;
    let empty = r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#;
    Ok(unfilled("targets", empty))
}

pub(super) async fn metric_metadata(params: Params) -> Result<Response, ApiError> {
    params.limit_or_all()?;
    Ok(unfilled("metric metadata", "{}"))
}

pub(super) async fn exemplars(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = (params.time("start")?, params.time("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    api.read_syntax(&params, |_| None).await?;
    Ok(unfilled("exemplars", "[]"))
}

pub(super) async fn landing(State(api): State<Arc<ApiState>>) -> Html<String> {
    let prefix = if api.settings.web.external_prefix.is_empty() {
        &api.settings.web.route_prefix
    } else {
        &api.settings.web.external_prefix
    };
    let link = |path: &str| format!(r#"<li><a href="{prefix}{path}">{path}</a></li>"#);
    let links: String =
        ["/api/v1/stores", "/api/v1/status/buildinfo", "/api/v1/status/flags", "/api/v1/labels"]
            .into_iter()
            .map(link)
            .collect();
    Html(format!(
        "<!doctype html><title>Drumlin query</title><h1>Drumlin query</h1>\
         <p>This is a Prometheus-compatible query API. Add <code>{prefix}/</code> to Grafana as a \
         Prometheus data \
         source, or ask it directly: \
         <code>{prefix}/api/v1/query?query=up</code>.</p><ul>{links}</ul>"
    ))
}

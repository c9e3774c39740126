//! `series`, `labels`, `label/<name>/values`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use futures::StreamExt;
use futures::future::try_join_all;
use http_api::{AnswerNotes, ApiError, Params, TRUNCATED, success};
use model::{Labels, Matcher, RequestCost, TimeRange};
use storeapi::fanout::{Fanout, Scope};
use storeapi::{
    Frame, LabelNamesRequest, LabelValuesRequest, Metadata, PartialResponse, SeriesRequest, Store,
};

use super::ApiState;
use super::error::of_store;
use super::options::{partial_response, replica_labels};

/// What metadata calls share.
struct MetadataCall {
    range: TimeRange,
    selectors: Vec<Vec<Matcher>>,
    partial_response: PartialResponse,
    /// As the client gave it; 0 = no limit.
    limit: u64,
    fanout: Fanout,
    cost: RequestCost,
}

impl MetadataCall {
    fn of_labels(api: &ApiState, params: &Params) -> Result<MetadataCall, ApiError> {
        let mut cost = RequestCost::default();
        let selectors = params.label_selectors(&mut cost);
        MetadataCall::parse(api, params, selectors, cost)
    }

    fn of_series(api: &ApiState, params: &Params) -> Result<MetadataCall, ApiError> {
        let mut cost = RequestCost::default();
        let selectors = params.selectors("match[]", &mut cost);
        MetadataCall::parse(api, params, selectors, cost)
    }

    fn parse(
        api: &ApiState,
        params: &Params,
        selectors: Result<Vec<Vec<Matcher>>, ApiError>,
        mut cost: RequestCost,
    ) -> Result<MetadataCall, ApiError> {
        let (start, end) = (params.time("start")?, params.time("end")?);
        let window =
            i64::try_from(api.settings.metadata_default_range.as_millis()).unwrap_or(i64::MAX);
        let (start, end) = if window == 0 {
            (start.unwrap_or(i64::MIN), end.unwrap_or(i64::MAX))
        } else {
            let end = end.unwrap_or_else(|| api.clock.now().0);
            (start.unwrap_or(end.saturating_sub(window)), end)
        };
        if end < start {
            return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
        }
        let deadline = Some(api.settings.timeout.mul_f64(0.9));
        let store_matches = params.selectors("storeMatch[]", &mut cost)?;
        let scope = Scope { store_matches, deadline };
        Ok(MetadataCall {
            range: TimeRange::from_closed(start, end),
            selectors: selectors?,
            partial_response: partial_response(params, &api.settings)?,
            limit: params.limit()?,
            fanout: api.fanout.scoped(scope),
            cost,
        })
    }

    /// One more than wanted, to see whether there are more.
    fn asked_limit(&self) -> u64 {
        if self.limit == 0 { 0 } else { self.limit + 1 }
    }

    /// The selectors; without any, a single empty one that asks for everything.
    fn selectors_or_all(&self) -> Vec<Vec<Matcher>> {
        if self.selectors.is_empty() { vec![Vec::new()] } else { self.selectors.clone() }
    }

    fn answer_strings(&self, answers: Vec<Metadata>) -> Response {
        let mut values = BTreeSet::new();
        let mut notes = AnswerNotes::default();
        for answer in answers {
            values.extend(answer.values);
            add_new(&mut notes.warnings, answer.warnings);
        }
        let wanted = self.wanted(values.len(), &mut notes);
        success(&notes, |json| json.strings(values.into_iter().take(wanted)))
    }

    /// How many of `found` to answer with; adds a warning if that is not all of them.
    fn wanted(&self, found: usize, notes: &mut AnswerNotes) -> usize {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if limit == 0 || found <= limit {
            // endpoints warn too when they were asked for one more than wanted, although nothing is
            // missing
            return found;
        }
        add_new(&mut notes.warnings, vec![TRUNCATED.to_owned()]);
        limit
    }
}

fn add_new(warnings: &mut Vec<String>, new: Vec<String>) {
    for warning in new {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

pub(super) async fn labels(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let call = MetadataCall::of_labels(&api, &params)?;
    let ask = |matchers| {
        call.fanout.label_names(LabelNamesRequest {
            range: call.range,
            matchers,
            partial_response: call.partial_response,
            // replica labels stay visible, so that dashboards can offer them
            without_replica_labels: Vec::new(),
            limit: call.asked_limit(),
        })
    };
    let answers =
        try_join_all(call.selectors_or_all().into_iter().map(ask)).await.map_err(of_store)?;
    Ok(call.answer_strings(answers))
}

pub(super) async fn label_values(
    State(api): State<Arc<ApiState>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let label = unescape_name(&name)
        .ok_or_else(|| ApiError::bad_data(format!("invalid label name: {name:?}")))?;
    let call = MetadataCall::of_labels(&api, &params)?;
    let ask = |matchers| {
        call.fanout.label_values(LabelValuesRequest {
            label: label.clone(),
            range: call.range,
            matchers,
            partial_response: call.partial_response,
            without_replica_labels: Vec::new(),
            limit: call.asked_limit(),
        })
    };
    let answers =
        try_join_all(call.selectors_or_all().into_iter().map(ask)).await.map_err(of_store)?;
    Ok(call.answer_strings(answers))
}

pub(super) async fn series(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let mut call = MetadataCall::of_series(&api, &params)?;
    if call.selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    if call.selectors.iter().any(|matchers| matchers.iter().all(Matcher::matches_empty)) {
        return Err(ApiError::parameter(
            "match[]",
            "match[] must contain at least one non-empty matcher",
        ));
    }
    let without_replica_labels = replica_labels(&params, &api.settings, &mut call.cost)?;
    let ask = |matchers| {
        let request = SeriesRequest {
            max_resolution_ms: i64::MAX,
            partial_response: call.partial_response,
            skip_chunks: true,
            without_replica_labels: without_replica_labels.clone(),
            limit: call.asked_limit(),
            ..SeriesRequest::new(call.range, matchers)
        };
        collect_labels(&call.fanout, request)
    };
    let answers = try_join_all(call.selectors.iter().cloned().map(ask)).await.map_err(of_store)?;
    let (mut found, mut notes) = (BTreeSet::new(), AnswerNotes::default());
    for (labels, warnings) in answers {
        found.extend(labels);
        add_new(&mut notes.warnings, warnings);
    }
    let wanted = call.wanted(found.len(), &mut notes);
    Ok(success(&notes, |json| {
        json.raw("[");
        for (i, labels) in found.iter().take(wanted).enumerate() {
            json.comma(i);
            json.labels(labels);
        }
        json.raw("]");
    }))
}

async fn collect_labels(
    fanout: &Fanout,
    request: SeriesRequest,
) -> storeapi::Result<(Vec<Labels>, Vec<String>)> {
    let mut frames = fanout.series(request).await?;
    let (mut labels, mut warnings) = (Vec::new(), Vec::new());
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Series(series) => labels.extend(series.into_iter().map(|series| series.labels)),
            Frame::Warning(text) => warnings.push(text),
            Frame::Info(_) => {}
        }
    }
    labels.dedup();
    Ok((labels, warnings))
}

/// Names with the prefix `U__` spell UTF-8 in the letters of older label names: `_2e_` is a dot,
/// `__` an underscore.
fn unescape_name(name: &str) -> Option<String> {
    let Some(mut rest) = name.strip_prefix("U__") else {
        return Some(name.to_owned()).filter(|n| !n.is_empty());
    };
    let mut unescaped = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        unescaped.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            unescaped.push('_');
            rest = after;
            continue;
        }
        let (code, after) = rest.split_once('_')?;
        unescaped.push(u32::from_str_radix(code, 16).ok().and_then(char::from_u32)?);
        rest = after;
    }
    unescaped.push_str(rest);
    Some(unescaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_unescaped() {
        assert_eq!(unescape_name("job").as_deref(), Some("job"));
        assert_eq!(unescape_name("U__http_2e_status__code").as_deref(), Some("http.status_code"));
        assert_eq!(unescape_name("U__a_110000_b"), None);
        assert_eq!(unescape_name("U__a_2"), None);
        assert_eq!(unescape_name(""), None);
    }
}

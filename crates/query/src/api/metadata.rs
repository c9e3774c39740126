//! `series`, `labels`, `label/<name>/values`.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use futures::{StreamExt, TryStreamExt, stream};
use http_api::{AnswerNotes, ApiError, Json, Params, TRUNCATED, stream_list};
use model::{BudgetExceeded, Labels, Matcher, Notes, RequestCost, Reservation, TimeRange};
use storeapi::fanout::{Fanout, Scope};
use storeapi::{
    Frame, LabelNamesRequest, LabelValuesRequest, Metadata, PartialResponse, SeriesRequest, Store,
    text_weight,
};

use super::ApiState;
use super::error::of_store;
use super::options::{partial_response, replica_labels};

/// Selectors of one call that are asked for at a time.
const SELECTORS_AT_ONCE: usize = 4;

/// After so many names or values, others get a turn.
const VALUES_A_TURN: usize = 1024;

/// What metadata calls share.
struct MetadataCall {
    range: TimeRange,
    selectors: Vec<Vec<Matcher>>,
    store_matches: Vec<Vec<Matcher>>,
    partial_response: PartialResponse,
    /// As the client gave it; 0 = no limit.
    limit: u64,
    cost: RequestCost,
}

type ParseSelectors = fn(&Params, &mut RequestCost) -> Result<Vec<Vec<Matcher>>, ApiError>;

impl MetadataCall {
    fn of_labels(api: &ApiState, params: &Params) -> Result<MetadataCall, ApiError> {
        MetadataCall::parse(api, params, Params::label_selectors)
    }

    fn of_series(api: &ApiState, params: &Params) -> Result<MetadataCall, ApiError> {
        MetadataCall::parse(api, params, |params, cost| params.selectors("match[]", cost))
    }

    fn parse(
        api: &ApiState,
        params: &Params,
        selectors: ParseSelectors,
    ) -> Result<MetadataCall, ApiError> {
        let mut cost = RequestCost::default();
        let selectors = selectors(params, &mut cost);
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
        Ok(MetadataCall {
            range: TimeRange::from_closed(start, end),
            store_matches: params.selectors("storeMatch[]", &mut cost)?,
            selectors: selectors?,
            partial_response: partial_response(params, &api.settings)?,
            limit: params.limit()?,
            cost,
        })
    }

    /// What the call reads from, if it has this much time left: endpoints that hang are given up a
    /// little before it ends.
    fn fanout(&self, api: &ApiState, left: Duration) -> Fanout {
        let store_matches = self.store_matches.clone();
        api.fanout.scoped(Scope { store_matches, deadline: Some(left.mul_f64(0.9)) })
    }

    /// One more than wanted, to see whether there are more.
    fn asked_limit(&self) -> u64 {
        if self.limit == 0 { 0 } else { self.limit + 1 }
    }

    /// The selectors; without any, a single empty one that asks for everything.
    fn selectors_or_all(&self) -> Vec<Vec<Matcher>> {
        if self.selectors.is_empty() { vec![Vec::new()] } else { self.selectors.clone() }
    }

    /// Asks for every selector, a few at a time, and answers with all that was found.
    async fn answer_strings<Asked>(
        &self,
        held: Reservation,
        ask: impl Fn(Vec<Matcher>) -> Asked,
    ) -> Result<Response, ApiError>
    where
        Asked: Future<Output = storeapi::Result<Metadata>>,
    {
        let asked: Vec<Asked> = self.selectors_or_all().into_iter().map(ask).collect();
        let mut answers = stream::iter(asked).buffered(SELECTORS_AT_ONCE);
        let mut gathered = Gathered::new(held);
        while let Some(answer) = answers.next().await {
            let Metadata { values, warnings } = answer.map_err(of_store)?;
            warnings.iter().for_each(|text| gathered.warn(text));
            let mut values = values.into_iter();
            while !values.as_slice().is_empty() {
                let some = values.by_ref().take(VALUES_A_TURN);
                gathered.add(some, |value| text_weight(value)).map_err(over_budget)?;
                tokio::task::yield_now().await;
            }
        }
        Ok(gathered.answer(self.limit, |json, value| json.string(value.as_bytes())))
    }
}

/// What a call found so far, charged to the budget.
struct Gathered<T> {
    found: BTreeSet<T>,
    warnings: Vec<String>,
    notes: Notes,
    held: Reservation,
}

impl<T: Ord + Send + 'static> Gathered<T> {
    fn new(held: Reservation) -> Gathered<T> {
        Gathered { found: BTreeSet::new(), warnings: Vec::new(), notes: Notes::of_answer(), held }
    }

    /// Adds what is new, each charged before it is kept.
    fn add(
        &mut self,
        found: impl IntoIterator<Item = T>,
        weight: impl Fn(&T) -> u64,
    ) -> Result<(), BudgetExceeded> {
        for one in found {
            if !self.found.contains(&one) {
                self.held.grow(weight(&one))?;
                self.found.insert(one);
            }
        }
        Ok(())
    }

    fn warn(&mut self, text: &str) {
        self.warnings.extend(self.notes.admit(text));
    }

    /// At most `limit` of what was found (0 = all), which is charged until it is sent.
    fn answer(mut self, limit: u64, write: fn(&mut Json, &T)) -> Response {
        if self.notes.left_out() > 0 {
            self.warnings.push(format!("{} further warnings", self.notes.left_out()));
        }
        let mut wanted = self.found.len();
        // endpoints warn too when they were asked for one more than wanted, although nothing is
        // missing
        if limit > 0 && wanted as u64 > limit {
            wanted = usize::try_from(limit).unwrap_or(usize::MAX);
            self.warn(TRUNCATED);
        }
        let notes = AnswerNotes { warnings: self.warnings, infos: Vec::new() };
        let found = self.found.into_iter().take(wanted);
        held_while_sent(stream_list(found, write, &notes), self.held)
    }
}

fn over_budget(error: BudgetExceeded) -> ApiError {
    ApiError::execution(error.to_string())
}

/// Charges the body until it is sent.
pub(super) fn held_while_sent(response: Response, held: Reservation) -> Response {
    response.map(|body| {
        let pieces = (body.into_data_stream(), held);
        Body::from_stream(stream::unfold(pieces, |(mut pieces, held)| async move {
            Some((pieces.next().await?, (pieces, held)))
        }))
    })
}

pub(super) async fn labels(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let call = MetadataCall::of_labels(&api, &params)?;
    let turn = api.enter(api.settings.timeout).await?;
    let fanout = call.fanout(&api, turn.timeout);
    let ask = |matchers| {
        fanout.label_names(LabelNamesRequest {
            range: call.range,
            matchers,
            partial_response: call.partial_response,
            // replica labels stay visible, so that dashboards can offer them
            without_replica_labels: Vec::new(),
            limit: call.asked_limit(),
        })
    };
    let held = api.settings.budget.reserve("the labels of an answer");
    api.in_turn(turn, call.answer_strings(held, ask)).await
}

pub(super) async fn label_values(
    State(api): State<Arc<ApiState>>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|e| ApiError::bad_data(e.body_text()))?;
    let label = unescape_name(&name)
        .ok_or_else(|| ApiError::bad_data(format!("invalid label name: {name:?}")))?;
    let call = MetadataCall::of_labels(&api, &params)?;
    let turn = api.enter(api.settings.timeout).await?;
    let fanout = call.fanout(&api, turn.timeout);
    let ask = |matchers| {
        fanout.label_values(LabelValuesRequest {
            label: label.clone(),
            range: call.range,
            matchers,
            partial_response: call.partial_response,
            without_replica_labels: Vec::new(),
            limit: call.asked_limit(),
        })
    };
    let held = api.settings.budget.reserve("the labels of an answer");
    api.in_turn(turn, call.answer_strings(held, ask)).await
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
    let request = |matchers| SeriesRequest {
        max_resolution_ms: i64::MAX,
        partial_response: call.partial_response,
        skip_chunks: true,
        without_replica_labels: without_replica_labels.clone(),
        limit: call.asked_limit(),
        ..SeriesRequest::new(call.range, matchers)
    };
    let turn = api.enter(api.settings.timeout).await?;
    let fanout = call.fanout(&api, turn.timeout);
    let held = api.settings.budget.reserve("the series of an answer");
    let gathered = Mutex::new(Gathered::new(held));
    let ask = |matchers| gather_labels(&fanout, request(matchers), &gathered);
    let asked: Vec<_> = call.selectors.iter().cloned().map(ask).collect();
    let all = stream::iter(asked).buffered(SELECTORS_AT_ONCE).try_collect::<()>();
    api.in_turn(turn, all).await?;
    let gathered = gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(gathered.answer(call.limit, Json::labels))
}

async fn gather_labels(
    fanout: &Fanout,
    request: SeriesRequest,
    gathered: &Mutex<Gathered<Labels>>,
) -> Result<(), ApiError> {
    /// What a label set takes beside its text.
    const OVERHEAD: usize = 64;
    let weight = |labels: &Labels| (labels.as_packed().len() + OVERHEAD) as u64;
    let mut frames = fanout.series(request).await.map_err(of_store)?;
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(of_store)?;
        let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
        match frame {
            Frame::Series(series) => {
                let labels = series.into_iter().map(|series| series.labels);
                gathered.add(labels, weight).map_err(over_budget)?;
            }
            Frame::Warning(text) => gathered.warn(&text),
            Frame::Info(_) => {}
        }
    }
    Ok(())
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use model::Budget;

    use super::*;

    #[tokio::test]
    async fn hundreds_of_selectors_are_asked_for_a_few_at_a_time() {
        let call = MetadataCall {
            range: TimeRange::ALL,
            selectors: vec![vec![Matcher::equal("a", "b")]; 300],
            store_matches: Vec::new(),
            partial_response: PartialResponse::Warn,
            limit: 0,
            cost: RequestCost::default(),
        };
        let [now, most, all] = [const { AtomicUsize::new(0) }; 3];
        let ask = async |_: Vec<Matcher>| {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let number = all.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::Relaxed);
            Ok(Metadata { values: vec![format!("{:03}", number % 7)], warnings: Vec::new() })
        };
        let budget = Budget::new(1000);
        let response = call.answer_strings(budget.reserve("labels"), ask).await.unwrap();
        let counts = [most, all].map(AtomicUsize::into_inner);
        assert_eq!(counts, [SELECTORS_AT_ONCE, 300]);
        assert_eq!(budget.used(), 7 * (24 + 24 + 3), "each value once, until it is sent");
        drop(response);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn others_get_turns_while_many_values_are_gathered() {
        let call = MetadataCall {
            range: TimeRange::ALL,
            selectors: Vec::new(),
            store_matches: Vec::new(),
            partial_response: PartialResponse::Warn,
            limit: 0,
            cost: RequestCost::default(),
        };
        let ask = async |_: Vec<Matcher>| {
            let values = (0..100 * VALUES_A_TURN).map(|i| i.to_string()).collect();
            Ok(Metadata { values, warnings: Vec::new() })
        };
        let turns = AtomicUsize::new(0);
        let others = async {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = call.answer_strings(Budget::unlimited().reserve("labels"), ask) => {
                assert_eq!(answer.unwrap().status(), 200);
            }
            () = others => {}
        }
        assert!(turns.into_inner() >= 100);
    }

    #[test]
    fn escaped_names_are_unescaped() {
        assert_eq!(unescape_name("job").as_deref(), Some("job"));
        assert_eq!(unescape_name("U__http_2e_status__code").as_deref(), Some("http.status_code"));
        assert_eq!(unescape_name("U__a_110000_b"), None);
        assert_eq!(unescape_name("U__a_2"), None);
        assert_eq!(unescape_name(""), None);
    }
}

//! `query` and `query_range`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use engine::{Answer, Detail, Query};
use http_api::{
    AnswerNotes, ApiError, Json, Params, TRUNCATED, json_response, stream_result, with_notes,
};
use promql::value::{Grid, Value};
use storeapi::fanout::Scope;
use storeapi::{Limited, Store};

use super::error::of_query;
use super::options::{QueryOptions, StatsDetail};
use super::statistics;
use super::{ApiState, Turn};
use crate::source::StoreSource;

/// The most points per series, as in Prometheus.
const MAX_POINTS: i64 = 11_000;

pub(super) async fn instant(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (grid, options) = instant_request(&api, &params)?;
    api.evaluate(&params, grid, options).await
}

pub(super) async fn instant_explain(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (grid, options) = instant_request(&api, &params)?;
    api.explain(&params, grid, &options).await
}

pub(super) async fn range(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (grid, options) = range_request(&api, &params)?;
    api.metrics.range_seconds.observe(grid.end_ms.saturating_sub(grid.start_ms) as f64 / 1000.0);
    api.evaluate(&params, grid, options).await
}

pub(super) async fn range_explain(
    State(api): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (grid, options) = range_request(&api, &params)?;
    api.explain(&params, grid, &options).await
}

fn instant_request(api: &ApiState, params: &Params) -> Result<(Grid, QueryOptions), ApiError> {
    let time = params.time("time")?.unwrap_or_else(|| api.clock.now().0);
    let auto =
        i64::try_from(api.settings.instant_max_source_resolution.as_millis()).unwrap_or(i64::MAX);
    Ok((Grid::instant(time), QueryOptions::parse(params, &api.settings, auto)?))
}

fn range_request(api: &ApiState, params: &Params) -> Result<(Grid, QueryOptions), ApiError> {
    let (start_ms, end_ms) = (params.required_time("start")?, params.required_time("end")?);
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = match params.get("step") {
        Some(_) => params.duration("step")?.unwrap_or_default(),
        // Thanos' default: 250 points, and not below the smallest step
        None => {
            let default_step =
                i64::try_from(api.settings.default_step.as_millis()).unwrap_or(i64::MAX);
            end_ms.saturating_sub(start_ms).div_euclid(250).max(default_step)
        }
    };
    if step_ms <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a \
            positive integer";
        return Err(ApiError::parameter("step", reason));
    }
    if end_ms.saturating_sub(start_ms) / step_ms > MAX_POINTS {
        let text = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing \
                    the query resolution (?step=XX)";
        return Err(ApiError::bad_data(text));
    }
    Ok((
        Grid { start_ms, end_ms, step_ms },
        QueryOptions::parse(params, &api.settings, step_ms / 5)?,
    ))
}

impl ApiState {
    async fn evaluate(
        &self,
        params: &Params,
        grid: Grid,
        options: QueryOptions,
    ) -> Result<Response, ApiError> {
        let came = self.clock.monotonic();
        let turn = self.enter(options.timeout).await?;
        let waited = options.timeout.saturating_sub(turn.timeout);
        let mut answer = (self.evaluation.run)(self.query(params, grid, &options, turn))
            .await
            .map_err(of_query)?;
        truncate(&mut answer, options.limit);
        let notes = AnswerNotes {
            warnings: std::mem::take(&mut answer.warnings),
            infos: std::mem::take(&mut answer.infos),
        };
        let mut tail = Json::default();
        if options.stats != StatsDetail::None {
            let total = self.clock.monotonic().saturating_sub(came);
            let answered = statistics::AnsweredQuery { stats: &answer.stats, grid, waited, total };
            statistics::write(&mut tail, answered, options.stats);
        }
        if let Some(analysis) = &answer.stats.analysis {
            tail.raw(r#","analysis":"#);
            statistics::write_analysis(&mut tail, analysis);
        }
        tail.raw("}");
        notes.write(&mut tail);
        tail.raw("}");
        Ok(with_notes(json_response(stream_result(answer.value, tail)), &notes))
    }

    async fn explain(
        &self,
        params: &Params,
        grid: Grid,
        options: &QueryOptions,
    ) -> Result<Response, ApiError> {
        // nothing is evaluated, so there is nothing to wait for
        let turn = Turn { timeout: options.timeout, pass: None };
        let operators = (self.evaluation.explain)(self.query(params, grid, options, turn))
            .await
            .map_err(of_query)?;
        let mut json = Json::default();
        json.raw(r#"{"status":"success","data":"#);
        statistics::write_plan(&mut json, &operators);
        json.raw("}");
        Ok(json_response(Body::from(json.into_bytes())))
    }

    fn query(&self, params: &Params, grid: Grid, options: &QueryOptions, turn: Turn) -> Query {
        let Turn { timeout, pass } = turn;
        // endpoints that hang are given up a little before the query is, so that it ends with what
        // the others sent
        let scope = Scope {
            store_matches: options.store_matches.clone(),
            deadline: Some(timeout.mul_f64(0.9)),
        };
        let store: Arc<dyn Store> = Arc::new(self.fanout.scoped(scope));
        let store = Arc::new(Limited::new(store, self.settings.limits));
        Query {
            text: params.get("query").unwrap_or_default().to_owned(),
            grid,
            lookback_ms: options.lookback_ms,
            dynamic_lookback: self.settings.dynamic_lookback,
            dedup: options.dedup,
            max_resolution_ms: options.max_resolution_ms,
            timeout,
            source: Arc::new(StoreSource::new(store, options.reading.clone(), pass)),
            detail: Detail { stats: options.stats != StatsDetail::None, analyze: options.analyze },
        }
    }
}

fn truncate(answer: &mut Answer, limit: u64) {
    let (Value::Vector(series) | Value::Matrix(series)) = &mut answer.value else { return };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit > 0 && series.len() > limit {
        series.truncate(limit);
        answer.warnings.push(TRUNCATED.to_owned());
    }
}

#[cfg(test)]
mod tests;

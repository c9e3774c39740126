//! What a request says about reading: dedup, partial answers, resolution, endpoints.

use std::collections::HashSet;
use std::time::Duration;

use engine::Dedup;
use http_api::{ApiError, Params, ShardInfo};
use model::{Matcher, RequestCost};
use storeapi::{PartialResponse, Shard};

use crate::settings::Settings;
use crate::source::ReadOptions;

#[derive(Clone, Debug)]
pub(super) struct QueryOptions {
    pub(super) dedup: Option<Dedup>,
    /// The longest window of downsampled data, in milliseconds; 0 = raw only.
    pub(super) max_resolution_ms: i64,
    pub(super) reading: ReadOptions,
    pub(super) store_matches: Vec<Vec<Matcher>>,
    pub(super) timeout: Duration,
    pub(super) lookback_ms: i64,
    pub(super) limit: u64,
    pub(super) stats: StatsDetail,
    pub(super) analyze: bool,
}

/// How much of its statistics a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatsDetail {
    None,
    Totals,
    PerStep,
}

impl QueryOptions {
    /// `auto_resolution_ms` is what `auto` means for this request.
    pub(super) fn parse(
        params: &Params,
        settings: &Settings,
        auto_resolution_ms: i64,
    ) -> Result<QueryOptions, ApiError> {
        if let Some(engine) =
            params.get("engine").filter(|engine| !matches!(*engine, "prometheus" | "thanos"))
        {
            let reason = format!("unknown engine {engine:?}, expected prometheus or thanos");
            return Err(ApiError::parameter("engine", reason));
        }
        let mut cost = RequestCost::default();
        let replica_labels = replica_labels(params, settings, &mut cost)?;
        let max_resolution_ms = max_resolution(params, settings, auto_resolution_ms)?;
        let lookback_ms = match params.duration("lookback_delta")? {
            Some(ms) if ms < 0 => {
                return Err(ApiError::parameter("lookback_delta", "must not be negative"));
            }
            Some(ms) if ms > 0 => ms,
            // 0 is the default
            _ => i64::try_from(settings.lookback.as_millis()).unwrap_or(i64::MAX),
        };
        Ok(QueryOptions {
            dedup: (!replica_labels.is_empty()).then_some(settings.dedup),
            max_resolution_ms,
            reading: ReadOptions {
                replica_labels,
                partial_response: partial_response(params, settings)?,
                shard: params.shard()?.map(shard),
                allowed_resolution_ms: max_resolution_ms,
            },
            store_matches: params.selectors("storeMatch[]", &mut cost)?,
            timeout: params.timeout(settings.timeout)?,
            lookback_ms,
            limit: params.limit()?,
            stats: match params.get("stats") {
                None => StatsDetail::None,
                Some("all") => StatsDetail::PerStep,
                Some(_) => StatsDetail::Totals,
            },
            analyze: params.bool("analyze", false)?,
        })
    }
}

fn shard(info: ShardInfo) -> Shard {
    Shard { index: info.shard_index, total: info.total_shards, by: info.by, labels: info.labels }
}

/// Empty unless the request wants replicas merged.
pub(super) fn replica_labels(
    params: &Params,
    settings: &Settings,
    cost: &mut RequestCost,
) -> Result<Vec<String>, ApiError> {
    if !params.bool("dedup", true)? {
        return Ok(Vec::new());
    }
    let mut known = HashSet::new();
    let given: Vec<String> = params
        .all("replicaLabels[]")
        .filter(|label| !label.is_empty() && known.insert(*label))
        .map(str::to_owned)
        .collect();
    cost.charge_label_names(given.len()).map_err(|e| ApiError::parameter("replicaLabels[]", e))?;
    Ok(if given.is_empty() { settings.replica_labels.clone() } else { given })
}

pub(super) fn partial_response(
    params: &Params,
    settings: &Settings,
) -> Result<PartialResponse, ApiError> {
    let partial = params.bool("partial_response", settings.partial_response)?;
    Ok(if partial { PartialResponse::Warn } else { PartialResponse::Abort })
}

fn max_resolution(params: &Params, settings: &Settings, auto_ms: i64) -> Result<i64, ApiError> {
    let chosen = match params.get("max_source_resolution") {
        Some("auto") => auto_ms,
        Some(_) => params.duration("max_source_resolution")?.unwrap_or_default(),
        None if settings.auto_downsampling => auto_ms,
        None => 0,
    };
    if chosen < 0 {
        let reason = "negative resolutions are not accepted. Try a positive duration";
        return Err(ApiError::parameter("max_source_resolution", reason));
    }
    Ok(chosen)
}

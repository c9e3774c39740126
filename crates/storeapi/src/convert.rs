//! Converts between messages of the wire and domain types. Closed ranges become half-open here, and
//! nowhere else.

use bytes::Bytes;
use merge::{ChunkBytes, ChunkContent, Series, SeriesChunk};
use model::{Matcher, RequestCost, Resolution, TimeRange, TimestampMs};
use tsdb::chunk::Aggregate;
use wire::{AggrChunk, WindowChunks, thanos as pb};

use crate::{
    AggregateKind, Error, Kind, LabelNamesRequest, LabelValuesRequest, Metadata, PartialResponse,
    Result, SeriesRequest, Shard, Spans,
};

/// A shard count beyond this is a mistake of the caller.
const MAX_SHARDS: i64 = 1 << 20;

/// Both ends of a closed range of the wire. Beyond the times that Prometheus supports it overflows,
/// and a Thanos sidecar in front of it then answers nothing.
fn asked_times(range: TimeRange) -> (i64, i64) {
    let known = |t: i64| t.clamp(TimestampMs::PROMETHEUS_MIN.0, TimestampMs::PROMETHEUS_MAX.0);
    (known(range.start), known(range.last()))
}

pub(crate) fn spans_to_wire(spans: &Spans) -> Vec<pb::TimeSpan> {
    spans.iter().map(|span| pb::TimeSpan { min_time: span.start, max_time: span.last() }).collect()
}

pub(crate) fn spans_from_wire(messages: &[pb::TimeSpan]) -> Spans {
    messages.iter().map(|m| TimeRange::from_closed(m.min_time, m.max_time)).collect()
}

/// The matchers of a request, which may name so many other labels.
fn within_cost(matchers: &[pb::LabelMatcher], label_names: usize) -> Result<Vec<Matcher>> {
    let mut cost = RequestCost::default();
    cost.charge_label_names(label_names)?;
    Ok(wire::matchers_from_wire(matchers, &mut cost)?)
}

pub(crate) fn series_request_from_wire(message: pb::SeriesRequest) -> Result<SeriesRequest> {
    let shard_labels = message.shard_info.as_ref().map_or(0, |shard| shard.labels.len());
    let label_names = message.without_replica_labels.len() + shard_labels;
    let range = TimeRange::from_closed(message.min_time, message.max_time);
    let aggregates =
        message.aggregates.iter().map(|a| aggregate_from_wire(*a)).collect::<Result<_>>()?;
    Ok(SeriesRequest {
        range,
        matchers: within_cost(&message.matchers, label_names)?,
        max_resolution_ms: message.max_resolution_window.max(0),
        aggregates,
        partial_response: partial_response(
            message.partial_response_strategy,
            message.partial_response_disabled,
        ),
        skip_chunks: message.skip_chunks,
        without_replica_labels: message.without_replica_labels,
        shard: message.shard_info.map(shard_from_wire).transpose()?.flatten(),
        limit: u64::try_from(message.limit).unwrap_or(0),
        batch_size: u64::try_from(message.response_batch_size).unwrap_or(0),
        coarser_fallback: message.coarser_fallback,
        coarser_within: spans_from_wire(&message.coarser_within),
        newer_encodings: message.newer_encodings,
        window_times_from_ms: message.window_times_from,
        memory: None,
    })
}

pub(crate) fn series_request_to_wire(request: &SeriesRequest) -> pb::SeriesRequest {
    let (min_time, max_time) = asked_times(request.range);
    pb::SeriesRequest {
        min_time,
        max_time,
        matchers: wire::matchers_to_wire(&request.matchers),
        max_resolution_window: request.max_resolution_ms,
        aggregates: request.aggregates.iter().map(|a| aggregate_to_wire(*a) as i32).collect(),
        partial_response_disabled: request.partial_response == PartialResponse::Abort,
        partial_response_strategy: strategy(request.partial_response),
        skip_chunks: request.skip_chunks,
        shard_info: request.shard.as_ref().map(|s| pb::ShardInfo {
            shard_index: s.index as i64,
            total_shards: s.total as i64,
            by: s.by,
            labels: s.labels.clone(),
        }),
        without_replica_labels: request.without_replica_labels.clone(),
        limit: request.limit.min(i64::MAX as u64) as i64,
        response_batch_size: request.batch_size.min(i64::MAX as u64) as i64,
        coarser_fallback: request.coarser_fallback,
        coarser_within: spans_to_wire(&request.coarser_within),
        newer_encodings: request.newer_encodings,
        window_times_from: request.window_times_from_ms,
        accepts_infos: true,
        ..pb::SeriesRequest::default()
    }
}

pub(crate) fn names_request_from_wire(message: pb::LabelNamesRequest) -> Result<LabelNamesRequest> {
    Ok(LabelNamesRequest {
        range: TimeRange::from_closed(message.start, message.end),
        matchers: within_cost(&message.matchers, message.without_replica_labels.len())?,
        partial_response: partial_response(
            message.partial_response_strategy,
            message.partial_response_disabled,
        ),
        without_replica_labels: message.without_replica_labels,
        limit: u64::try_from(message.limit).unwrap_or(0),
    })
}

pub(crate) fn names_request_to_wire(request: &LabelNamesRequest) -> pb::LabelNamesRequest {
    let (start, end) = asked_times(request.range);
    pb::LabelNamesRequest {
        partial_response_disabled: request.partial_response == PartialResponse::Abort,
        partial_response_strategy: strategy(request.partial_response),
        start,
        end,
        hints: None,
        matchers: wire::matchers_to_wire(&request.matchers),
        without_replica_labels: request.without_replica_labels.clone(),
        limit: request.limit.min(i64::MAX as u64) as i64,
    }
}

pub(crate) fn values_request_from_wire(
    message: pb::LabelValuesRequest,
) -> Result<LabelValuesRequest> {
    if message.label.is_empty() {
        return Err(Error::new(Kind::Invalid, "label name parameter cannot be empty"));
    }
    Ok(LabelValuesRequest {
        label: wire::text(&message.label),
        range: TimeRange::from_closed(message.start, message.end),
        matchers: within_cost(&message.matchers, message.without_replica_labels.len())?,
        partial_response: partial_response(
            message.partial_response_strategy,
            message.partial_response_disabled,
        ),
        without_replica_labels: message.without_replica_labels,
        limit: u64::try_from(message.limit).unwrap_or(0),
    })
}

pub(crate) fn values_request_to_wire(request: &LabelValuesRequest) -> pb::LabelValuesRequest {
    let (start, end) = asked_times(request.range);
    pb::LabelValuesRequest {
        label: Bytes::copy_from_slice(request.label.as_bytes()),
        partial_response_disabled: request.partial_response == PartialResponse::Abort,
        partial_response_strategy: strategy(request.partial_response),
        start,
        end,
        hints: None,
        matchers: wire::matchers_to_wire(&request.matchers),
        without_replica_labels: request.without_replica_labels.clone(),
        limit: request.limit.min(i64::MAX as u64) as i64,
    }
}

/// Names or values as peers send them, in our order.
pub(crate) fn metadata_from_wire(values: &[Bytes], warnings: &[Bytes]) -> Metadata {
    let mut values: Vec<String> = values.iter().map(wire::text).collect();
    values.sort_unstable();
    values.dedup();
    Metadata { values, warnings: warnings.iter().map(wire::text).collect() }
}

pub(crate) fn bytes_list(texts: Vec<String>) -> Vec<Bytes> {
    texts.into_iter().map(Bytes::from).collect()
}

pub(crate) fn series_to_wire(series: Series) -> pb::Series {
    pb::Series {
        labels: wire::labels_to_wire(&series.labels),
        chunks: series.chunks.into_iter().map(chunk_to_wire).collect(),
    }
}

/// Fails on an unknown encoding; the error names the series.
pub(crate) fn series_from_wire(message: pb::Series) -> Result<Series> {
    let labels = wire::labels_from_wire(&message.labels);
    let mut chunks = Vec::with_capacity(message.chunks.len());
    for chunk in message.chunks {
        let converted = chunk_from_wire(chunk)
            .map_err(|e| Error::from(e).context(format_args!("series {labels}")))?;
        chunks.extend(converted);
    }
    Ok(Series { labels, chunks })
}

fn chunk_to_wire(chunk: SeriesChunk) -> AggrChunk {
    let part = |c: ChunkBytes| pb::Chunk {
        r#type: wire::thanos_encoding(c.encoding),
        data: c.data,
        hash: 0,
    };
    let resolution_ms = chunk.resolution.map_or(0, Resolution::millis);
    let (min_time, max_time) = (chunk.min_time, chunk.max_time);
    let replica = chunk.replica.unwrap_or(0);
    let (raw, windows) = match chunk.content {
        ChunkContent::Raw(raw) => (Some(part(raw)), None),
        ChunkContent::Aggregates(parts) => {
            let aggregates = parts.map(|c| c.map(part));
            let times = chunk.times.map(|times| *times).unwrap_or_default();
            (None, Some(Box::new(WindowChunks { aggregates, resolution_ms, times })))
        }
    };
    AggrChunk { min_time, max_time, raw, windows, replica }
}

/// `None` for a chunk that holds nothing at all.
fn chunk_from_wire(message: AggrChunk) -> wire::Result<Option<SeriesChunk>> {
    let part = |c: Option<pb::Chunk>| -> wire::Result<Option<ChunkBytes>> {
        c.map(|c| {
            Ok(ChunkBytes { encoding: wire::thanos_encoding_from_wire(c.r#type)?, data: c.data })
        })
        .transpose()
    };
    let windows = message.windows.map(|windows| *windows).unwrap_or_default();
    let content = if message.raw.is_some() {
        part(message.raw)?.map(ChunkContent::Raw)
    } else {
        let mut parts = Box::<[Option<ChunkBytes>; 5]>::default();
        for (place, aggregate) in parts.iter_mut().zip(windows.aggregates) {
            *place = part(aggregate)?;
        }
        parts.iter().any(Option::is_some).then_some(ChunkContent::Aggregates(parts))
    };
    let times = Some(windows.times).filter(|times| !times.is_empty());
    // 0 in either means that the peer does not say it
    let resolution =
        Resolution::from_millis(windows.resolution_ms).filter(|r| *r != Resolution::Raw);
    Ok(content.map(|content| {
        let replica = Some(message.replica).filter(|replica| *replica != 0);
        let chunk = SeriesChunk::new(message.min_time, message.max_time, content)
            .with_replica(replica)
            .with_times(times);
        match resolution {
            Some(resolution) => chunk.with_resolution(resolution),
            None => chunk,
        }
    }))
}

fn partial_response(strategy: i32, disabled: bool) -> PartialResponse {
    let abort = disabled || strategy == pb::PartialResponseStrategy::Abort as i32;
    if abort { PartialResponse::Abort } else { PartialResponse::Warn }
}

fn strategy(partial_response: PartialResponse) -> i32 {
    match partial_response {
        PartialResponse::Warn => pb::PartialResponseStrategy::Warn as i32,
        PartialResponse::Abort => pb::PartialResponseStrategy::Abort as i32,
    }
}

fn aggregate_from_wire(number: i32) -> Result<AggregateKind> {
    let known = pb::Aggr::try_from(number).map_err(|_| {
        Error::new(Kind::Invalid, format!("unknown aggregate {number} in the series request"))
    })?;
    Ok(match known {
        pb::Aggr::Raw => AggregateKind::Raw,
        pb::Aggr::Count => AggregateKind::Of(Aggregate::Count),
        pb::Aggr::Sum => AggregateKind::Of(Aggregate::Sum),
        pb::Aggr::Min => AggregateKind::Of(Aggregate::Min),
        pb::Aggr::Max => AggregateKind::Of(Aggregate::Max),
        pb::Aggr::Counter => AggregateKind::Of(Aggregate::Counter),
    })
}

fn aggregate_to_wire(aggregate: AggregateKind) -> pb::Aggr {
    match aggregate {
        AggregateKind::Raw => pb::Aggr::Raw,
        AggregateKind::Of(Aggregate::Count) => pb::Aggr::Count,
        AggregateKind::Of(Aggregate::Sum) => pb::Aggr::Sum,
        AggregateKind::Of(Aggregate::Min) => pb::Aggr::Min,
        AggregateKind::Of(Aggregate::Max) => pb::Aggr::Max,
        AggregateKind::Of(Aggregate::Counter) => pb::Aggr::Counter,
    }
}

/// No shards, or one: everything is wanted.
fn shard_from_wire(message: pb::ShardInfo) -> Result<Option<Shard>> {
    let (index, total) = (message.shard_index, message.total_shards);
    if total <= 1 {
        return Ok(None);
    }
    if index < 0 || index >= total || total > MAX_SHARDS {
        return Err(Error::new(
            Kind::Invalid,
            format!("shard {index} of {total} in the series request is impossible"),
        ));
    }
    Ok(Some(Shard {
        index: index as u64,
        total: total as u64,
        by: message.by,
        labels: message.labels,
    }))
}

#[cfg(test)]
mod tests {
    use model::{Labels, MatchOp, Matcher};
    use tsdb::chunk::Encoding;

    use super::*;

    #[test]
    fn a_series_request_survives_the_round_trip() {
        let matchers = vec![Matcher::new(MatchOp::Regex, "job", "a.*").unwrap()];
        let request = SeriesRequest {
            max_resolution_ms: 300_000,
            aggregates: vec![AggregateKind::Raw, AggregateKind::Of(Aggregate::Counter)],
            partial_response: PartialResponse::Abort,
            skip_chunks: true,
            without_replica_labels: vec!["replica".to_owned()],
            shard: Some(Shard { index: 1, total: 3, by: true, labels: vec!["job".to_owned()] }),
            limit: 7,
            coarser_fallback: true,
            coarser_within: Spans::from_iter([TimeRange::new(5, 20), TimeRange::new(30, 40)]),
            newer_encodings: true,
            window_times_from_ms: 360_000,
            ..SeriesRequest::new(TimeRange::new(5, 100), matchers)
        };
        let message = series_request_to_wire(&request);
        assert_eq!((message.min_time, message.max_time), (5, 99));
        let back = series_request_from_wire(message).unwrap();
        assert_eq!(format!("{back:?}"), format!("{request:?}"));
    }

    /// `time.Unix(math.MinInt64/1000+62135596801, 0)` and its like, as Prometheus' API has them.
    #[test]
    fn nobody_is_asked_for_times_that_prometheus_does_not_know() {
        let bounds = (-9_223_309_901_257_974_000, 9_223_309_901_257_974_999);
        let series = series_request_to_wire(&SeriesRequest::new(TimeRange::ALL, Vec::new()));
        assert_eq!((series.min_time, series.max_time), bounds);
        let (partial_response, without_replica_labels) = (PartialResponse::Warn, Vec::new());
        let names = LabelNamesRequest {
            range: TimeRange::ALL,
            matchers: Vec::new(),
            partial_response,
            without_replica_labels: without_replica_labels.clone(),
            limit: 0,
        };
        let names = names_request_to_wire(&names);
        assert_eq!((names.start, names.end), bounds);
        let values = LabelValuesRequest {
            label: "a".to_owned(),
            range: TimeRange::ALL,
            matchers: Vec::new(),
            partial_response,
            without_replica_labels,
            limit: 0,
        };
        let values = values_request_to_wire(&values);
        assert_eq!((values.start, values.end), bounds);
    }

    #[test]
    fn raw_and_aggregated_chunks_survive_the_round_trip() {
        let bytes = |text: &'static str| ChunkBytes {
            encoding: Encoding::Xor,
            data: Bytes::from_static(text.as_bytes()),
        };
        let mut parts = Box::<[Option<ChunkBytes>; 5]>::default();
        parts[Aggregate::Min as usize] = Some(bytes("min"));
        parts[Aggregate::Counter as usize] =
            Some(ChunkBytes { encoding: Encoding::FloatHistogram, data: Bytes::from_static(b"c") });
        let series = Series {
            labels: Labels::from_pairs([("a", "1")]),
            chunks: vec![
                SeriesChunk::new(1, 2, ChunkContent::Raw(bytes("raw")))
                    .with_replica(Some(u64::MAX)),
                SeriesChunk::new(3, 4, ChunkContent::Aggregates(parts))
                    .with_times(Some(Bytes::from_static(b"times"))),
            ],
        };
        assert_eq!(series_from_wire(series_to_wire(series.clone())).unwrap(), series);
    }

    #[test]
    fn an_unknown_encoding_names_the_series() {
        let raw = Some(pb::Chunk { r#type: 254, data: Bytes::new(), hash: 0 });
        let message = pb::Series {
            labels: wire::labels_to_wire(&Labels::from_pairs([("a", "1")])),
            chunks: vec![AggrChunk { raw, ..AggrChunk::default() }],
        };
        let error = series_from_wire(message).unwrap_err();
        let text = model::error::in_one_line(&error).to_string();
        assert_eq!(text, r#"series {a="1"}: unknown chunk encoding 254"#);
    }

    #[test]
    fn impossible_shards_are_refused() {
        let shard = |shard_index, total_shards| pb::ShardInfo {
            shard_index,
            total_shards,
            by: true,
            labels: vec![],
        };
        assert!(shard_from_wire(shard(0, 0)).unwrap().is_none());
        assert!(shard_from_wire(shard(3, 3)).is_err());
        assert!(shard_from_wire(shard(-1, 3)).is_err());
    }
}

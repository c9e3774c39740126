//! What the tests of this crate share: a Prometheus made of a dataset, behind a real socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures::{StreamExt, stream};
use model::{Labels, MatchOp, Matcher, SystemClock, TimeRange};
use serde_json::json;
use storeapi::ChunkContent;
use storeapi::conformance::{Dataset, FloatSamples, float_series};
use wire::prometheus as pb;
use wire::remote_read;

pub(crate) fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))))
}

/// How a fake Prometheus behaves.
#[derive(Debug)]
pub(crate) struct FakePrometheus {
    pub(crate) data: Dataset,
    /// Whether remote read streams chunks.
    pub(crate) streams: bool,
    pub(crate) up: AtomicBool,
    /// How often it was told to reload.
    pub(crate) reloads: AtomicU64,
    /// Flags, as `/api/v1/status/flags` reports them.
    pub(crate) flags: BTreeMap<String, String>,
}

impl FakePrometheus {
    pub(crate) fn new(data: Dataset) -> FakePrometheus {
        let block = |name: &str| (format!("storage.tsdb.{name}-block-duration"), "2h".to_owned());
        FakePrometheus {
            data,
            streams: true,
            up: AtomicBool::new(true),
            reloads: AtomicU64::new(0),
            flags: [block("min"), block("max")].into(),
        }
    }

    /// Serves it and returns its URL.
    pub(crate) async fn serve(self: Arc<FakePrometheus>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
        let api = Router::new()
            .route("/api/v1/status/config", get(config))
            .route("/api/v1/status/flags", get(flags))
            .route("/api/v1/status/buildinfo", get(async || success(json!({"version": "3.15.0"}))))
            .route("/metrics", get(metrics))
            .route("/-/reload", post(reload))
            .route("/api/v1/series", get(series))
            .route("/api/v1/labels", get(label_names))
            .route("/api/v1/label/{name}/values", get(label_values))
            .route("/api/v1/read", post(read))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&self), only_when_up))
            .with_state(self);
        let router = Router::new().nest("/prefix", api);
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn matching(&self, matchers: &[Matcher], range: TimeRange) -> Vec<&(Labels, FloatSamples)> {
        let hit = |(labels, samples): &&(Labels, FloatSamples)| {
            matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
                && samples.iter().any(|(t, _)| range.contains(*t))
        };
        let mut all: Vec<_> = self.data.series.iter().filter(hit).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

type Fake = State<Arc<FakePrometheus>>;

async fn only_when_up(
    State(fake): Fake,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    if fake.up.load(Ordering::Relaxed) {
        return next.run(request).await;
    }
    (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response()
}

fn success(data: serde_json::Value) -> Response {
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

async fn config(State(fake): Fake) -> Response {
    let mut yaml = String::from("global:\n  scrape_interval: 15s\n  external_labels:\n");
    for (name, value) in fake.data.external.iter() {
        yaml +=
            &format!("    {}: {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
    }
    success(json!({"yaml": yaml + "scrape_configs: []\n"}))
}

async fn flags(State(fake): Fake) -> Response {
    success(json!(fake.flags))
}

async fn reload(State(fake): Fake) {
    fake.reloads.fetch_add(1, Ordering::Relaxed);
}

async fn metrics(State(fake): Fake) -> String {
    let lowest = fake.data.series.iter().filter_map(|(_, s)| s.first()).map(|(t, _)| *t).min();
    let seconds = lowest.map_or(9.223372036854776e15, |t| t as f64 / 1000.0);
    format!("# TYPE a gauge\na 1\nprometheus_tsdb_lowest_timestamp_seconds {seconds:e}\nz 1\n")
}

async fn series(State(fake): Fake, RawQuery(query): RawQuery) -> Response {
    let (matchers, range, _) = parameters(query);
    let found = fake.matching(&matchers, range);
    let sets: Vec<BTreeMap<String, String>> = found.iter().map(|(l, _)| l.to_text()).collect();
    success(json!(sets))
}

async fn label_names(State(fake): Fake, RawQuery(query): RawQuery) -> Response {
    let (matchers, range, limit) = parameters(query);
    let found = fake.matching(&matchers, range);
    let names = found
        .iter()
        .flat_map(|(l, _)| l.iter().map(|(n, _)| String::from_utf8_lossy(n).into_owned()));
    success(json!(names.collect::<BTreeSet<_>>().into_iter().take(limit).collect::<Vec<_>>()))
}

async fn label_values(
    State(fake): Fake,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let (matchers, range, limit) = parameters(query);
    let found = fake.matching(&matchers, range);
    let values = found
        .iter()
        .filter_map(|(l, _)| l.get(&name))
        .map(|v| String::from_utf8_lossy(v).into_owned());
    success(json!(values.collect::<BTreeSet<_>>().into_iter().take(limit).collect::<Vec<_>>()))
}

fn parameters(query: Option<String>) -> (Vec<Matcher>, TimeRange, usize) {
    let uri: axum::http::Uri = format!("/?{}", query.unwrap_or_default()).parse().unwrap();
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap();
    let one = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let ms = |name: &str| (one(name).unwrap().parse::<f64>().unwrap() * 1000.0).round() as i64;
    let limit = one("limit").map_or(usize::MAX, |l| l.parse().unwrap());
    (
        one("match[]").map(selector).unwrap_or_default(),
        TimeRange::from_closed(ms("start"), ms("end")),
        limit,
    )
}

/// Reads what the client writes: `{name="value",…}` without escapes.
fn selector(text: &str) -> Vec<Matcher> {
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap();
    let one = |part: &str| {
        let at = part.find(['=', '!']).unwrap();
        let (name, rest) = part.split_at(at);
        let (op, value) = rest.split_at(rest.find('"').unwrap());
        let op = match op {
            "=" => MatchOp::Equal,
            "!=" => MatchOp::NotEqual,
            "=~" => MatchOp::Regex,
            _ => MatchOp::NotRegex,
        };
        Matcher::new(op, name, value.trim_matches('"')).unwrap()
    };
    inner.split(',').map(one).collect()
}

/// As Prometheus does it: external labels are added after sorting, the series' own win; one frame
/// per few chunks.
async fn read(State(fake): Fake, body: Bytes) -> Response {
    use prost::Message;
    let request =
        pb::ReadRequest::decode(&remote_read::decompress(&body, 1 << 20).unwrap()[..]).unwrap();
    let query = &request.queries[0];
    let matchers =
        wire::matchers_from_wire(&query.matchers, &mut model::RequestCost::default()).unwrap();
    let range = TimeRange::from_closed(query.start_timestamp_ms, query.end_timestamp_ms);
    let found: Vec<(Labels, FloatSamples)> = fake
        .matching(&matchers, range)
        .into_iter()
        .map(|(labels, samples)| (fake.data.external.overlaid(labels), samples.clone()))
        .collect();
    if !fake.streams {
        let timeseries = found.iter().map(|(labels, samples)| pb::TimeSeries {
            labels: wire::labels_to_wire(labels),
            samples: samples
                .iter()
                .filter(|(t, _)| range.contains(*t))
                .map(|(timestamp, value)| pb::Sample { value: *value, timestamp: *timestamp })
                .collect(),
            ..pb::TimeSeries::default()
        });
        let answer = pb::ReadResponse {
            results: vec![pb::QueryResult { timeseries: timeseries.collect() }],
        };
        let body = snap::raw::Encoder::new().compress_vec(&answer.encode_to_vec()).unwrap();
        return ([(header::CONTENT_TYPE, "application/x-protobuf")], body).into_response();
    }
    let frames: Vec<_> =
        found.into_iter().flat_map(|(labels, samples)| frames(&labels, &samples, range)).collect();
    let body = Body::from_stream(stream::iter(frames).map(Ok::<_, std::io::Error>));
    ([(header::CONTENT_TYPE, remote_read::CONTENT_TYPE_CHUNKED)], body).into_response()
}

fn frames(labels: &Labels, samples: &FloatSamples, range: TimeRange) -> Vec<Vec<u8>> {
    let series = float_series(labels.clone(), samples);
    let chunks: Vec<pb::Chunk> = series
        .chunks
        .iter()
        .filter(|c| range.overlaps_closed(c.min_time, c.max_time))
        .map(|c| {
            let ChunkContent::Raw(raw) = &c.content else { panic!("raw chunks were made") };
            let r#type = wire::prometheus_encoding(raw.encoding);
            pb::Chunk {
                min_time_ms: c.min_time,
                max_time_ms: c.max_time,
                r#type,
                data: raw.data.clone(),
            }
        })
        .collect();
    let frame = |chunks: &[pb::Chunk]| {
        let series =
            pb::ChunkedSeries { labels: wire::labels_to_wire(labels), chunks: chunks.to_vec() };
        remote_read::encode_frame(&pb::ChunkedReadResponse {
            chunked_series: vec![series],
            query_index: 0,
        })
    };
    chunks.chunks(2).map(frame).collect()
}

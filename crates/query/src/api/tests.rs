use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use engine::{Dedup, Detail, EngineSettings, OperatorMeasurement, QueryStats, SampleCounts};
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use model::{Labels, SystemClock};
use prometheus::Registry;
use promql::value::{Grid, Point, PointValue, ResultSeries, Value};
use serde_json::json;
use storeapi::conformance::{Dataset, MemoryStore};
use storeapi::fanout::FanoutSettings;
use tower::ServiceExt;

use super::*;
use crate::endpoints::{Peer, ResolvedEndpoint, Timeouts};
use crate::settings::GrpcCompression;

pub(super) fn answer(value: Value) -> Answer {
    Answer { value, warnings: Vec::new(), infos: Vec::new(), stats: QueryStats::default() }
}

/// The API over one store in memory, with an engine that gives the same answer to everything.
pub(super) struct Fixture {
    router: Router,
    /// The last query, which keeps its place behind the gate.
    query: Arc<Mutex<Option<Query>>>,
}

impl Fixture {
    pub(super) async fn new(settings: Settings, canned: Result<Answer, Error>) -> Fixture {
        let query = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&query);
        let evaluation = Evaluation {
            run: Box::new(move |query| {
                *seen.lock().unwrap() = Some(query);
                let canned = canned.clone();
                async move { canned }.boxed()
            }),
            explain: Box::new(|query| {
                let operator = |name: &str, inputs| ExplainedOperator {
                    name: name.to_owned(),
                    measured: None,
                    inputs,
                };
                let operators = [
                    operator("Join", 2),
                    operator("Window: \"x\"", 1),
                    operator(&query.text, 0),
                    operator("Source", 0),
                ];
                async move { Ok(operators.into()) }.boxed()
            }),
            ..by_engine(&settings)
        };
        Fixture { router: Fixture::with(settings, evaluation).await, query }
    }

    pub(super) async fn with(settings: Settings, evaluation: Evaluation) -> Router {
        let clock: Arc<dyn Clock> =
            Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let series =
            |pairs: &[(&str, &str)]| (Labels::from_pairs(pairs.iter().copied()), vec![(1000, 1.0)]);
        let store = MemoryStore::new(&Dataset {
            external: Labels::from_pairs([("cluster", "a"), ("replica", "0")]),
            series: vec![
                series(&[("__name__", "up"), ("job", "node")]),
                series(&[("__name__", "up"), ("job", "web")]),
                series(&[("__name__", "http.requests"), ("job", "web"), ("status.code", "200")]),
            ],
        });
        let connect = Box::new(move |_: &ResolvedEndpoint| {
            Ok(Some(Arc::new(store.clone()) as Arc<dyn Peer>))
        });
        let timeouts =
            Timeouts { info: Duration::from_secs(5), unhealthy: Duration::from_secs(300) };
        let endpoints =
            Arc::new(EndpointSet::new(connect, timeouts, metrics.clone(), Arc::clone(&clock)));
        endpoints.update(vec![ResolvedEndpoint {
            address: "a:1".to_owned(),
            servers: vec!["a:1".to_owned()],
            strict: false,
            tls: None,
            compression: GrpcCompression::None,
        }]);
        endpoints.poll().await;
        router(ApiState {
            started: TimestampMs(0),
            evaluation,
            fanout: Fanout::new(
                Arc::clone(&endpoints) as _,
                FanoutSettings::default(),
                Arc::clone(&clock),
            ),
            endpoints,
            gate: Gate::new(settings.max_concurrent, metrics.gate.clone(), Arc::clone(&clock)),
            metrics,
            clock,
            settings,
        })
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, String) {
        text(self.send(Request::get(path).body(Body::empty()).unwrap()).await).await
    }

    async fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn last_query(&self) -> Query {
        self.query.lock().unwrap().clone().unwrap()
    }
}

pub(super) async fn text(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn one() -> Answer {
    let point = Point { t_ms: 1_500, value: PointValue::Float(0.5) };
    answer(Value::Vector(vec![ResultSeries {
        labels: Labels::from_pairs([("a", "b")]),
        points: vec![point].into(),
    }]))
}

/// What an engine does, for what needs no data.
fn by_engine(settings: &Settings) -> Evaluation {
    let engine = EngineSettings { threads: 1, language: settings.language, ..Default::default() };
    Evaluation::by(Arc::new(Engine::new(engine)))
}

async fn fixture() -> Fixture {
    Fixture::new(Settings::default(), Ok(one())).await
}

fn error_of(body: &str) -> (String, String) {
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(value["status"], "error");
    (value["errorType"].as_str().unwrap().to_owned(), value["error"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn status_comes_first_and_nothing_unasked_for_is_there() {
    let (status, body) = fixture().await.get("/api/v1/query?query=up&time=1.5").await;
    assert_eq!(status, StatusCode::OK);
    let expected = concat!(
        r#"{"status":"success","data":{"resultType":"vector","#,
        r#""result":[{"metric":{"a":"b"},"value":[1.500,"0.5"]}]}}"#
    );
    assert_eq!(body, expected);
}

#[tokio::test]
async fn wrong_parameters_get_prometheus_texts() {
    let f = fixture().await;
    for (path, expected) in [
        (
            "query?query=up&time=x",
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "x" to a valid timestamp"#,
        ),
        (
            "query?query=up&timeout=x",
            r#"invalid parameter "timeout": cannot parse "x" to a valid duration"#,
        ),
        (
            "query_range?query=up&end=1&step=1",
            r#"invalid parameter "start": cannot parse "" to a valid timestamp"#,
        ),
        (
            "query_range?query=up&start=2&end=1&step=1",
            r#"invalid parameter "end": end timestamp must not be before start time"#,
        ),
        (
            "query_range?query=up&start=1&end=2&step=0",
            r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
             resolution (?step=XX)",
        ),
        ("query?query=up&limit=-1", r#"invalid parameter "limit": limit must be non-negative"#),
        (
            "query?query=up&dedup=maybe",
            r#"invalid parameter "dedup": cannot parse "maybe" to a bool"#,
        ),
        ("series", "no match[] parameter provided"),
        (
            "series?match[]={a=~%22.*%22}",
            r#"invalid parameter "match[]": match[] must contain at least one non-empty matcher"#,
        ),
        // label calls do not name the parameter
        ("labels?match[]=up{", "1:4: parse error: unexpected end of input inside braces"),
        (
            "series?match[]=up{",
            r#"invalid parameter "match[]": 1:4: parse error: unexpected end of input inside braces"#,
        ),
    ] {
        let (status, body) = f.get(&format!("/api/v1/{path}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {body}");
        assert_eq!(error_of(&body), ("bad_data".to_owned(), expected.to_owned()), "{path}");
    }
    assert!(f.query.lock().unwrap().is_none());
}

#[tokio::test]
async fn errors_of_queries_have_the_status_of_their_kind() {
    for (error, status, kind, text) in [
        (
            engine::Error::new(engine::Kind::BadData, "1:5: parse error: x"),
            400,
            "bad_data",
            r#"invalid parameter "query": 1:5: parse error: x"#,
        ),
        (engine::Error::new(engine::Kind::Execution, "e"), 422, "execution", "e"),
        (engine::Error::new(engine::Kind::Timeout, "t"), 503, "timeout", "t"),
        (engine::Error::new(engine::Kind::Canceled, "c"), 503, "canceled", "c"),
        (engine::Error::new(engine::Kind::Internal, "i"), 500, "internal", "i"),
    ] {
        let (code, body) =
            Fixture::new(Settings::default(), Err(error)).await.get("/api/v1/query?query=x").await;
        assert_eq!(code.as_u16(), status);
        assert_eq!(error_of(&body), (kind.to_owned(), text.to_owned()));
    }
}

#[tokio::test]
async fn every_failure_is_json() {
    let f = fixture().await;
    for path in ["/nope", "/api/v1/nope", "/api/v1/rules/test/test"] {
        let (status, body) = f.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(error_of(&body).1.contains("page not found"));
    }
    let (status, body) =
        text(f.send(Request::delete("/api/v1/query").body(Body::empty()).unwrap()).await).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    error_of(&body);
}

#[tokio::test]
async fn parameters_shape_the_query() {
    let replica = || vec!["replica".to_owned()];
    let f = Fixture::new(Settings { replica_labels: replica(), ..Settings::default() }, Ok(one()))
        .await;
    f.get("/api/v1/query?query=up&time=4").await;
    let query = f.last_query();
    assert_eq!(
        (query.text.as_str(), query.grid, query.dedup),
        ("up", Grid::instant(4000), Some(Dedup::Penalty))
    );
    assert_eq!((query.lookback_ms, query.max_resolution_ms), (300_000, 0));
    let source = format!("{:?}", query.source);
    assert!(source.contains(r#"replica_labels: ["replica"], partial_response: Warn"#), "{source}");

    f.get("/api/v1/query?query=up&dedup=0&partial_response=false&max_source_resolution=1h&timeout=10s").await;
    let query = f.last_query();
    assert_eq!(
        (query.dedup, query.lookback_ms, query.max_resolution_ms),
        (None, 300_000, 3_600_000)
    );
    assert!(query.timeout <= Duration::from_secs(10));
    let source = format!("{:?}", query.source);
    assert!(source.contains("replica_labels: [], partial_response: Abort"), "{source}");

    f.get("/api/v1/query_range?query=up&start=0&end=25000&max_source_resolution=auto&replicaLabels[]=pod").await;
    let query = f.last_query();
    assert_eq!(query.grid, Grid { start_ms: 0, end_ms: 25_000_000, step_ms: 100_000 });
    let source = format!("{:?}", query.source);
    assert!(
        source.contains(r#"replica_labels: ["pod"]"#) && query.max_resolution_ms == 20_000,
        "{source}"
    );

    f.get("/api/v1/query?query=up&lookback_delta=1m").await;
    assert_eq!(f.last_query().lookback_ms, 60_000);
}

#[tokio::test]
async fn forms_win_over_the_url() {
    let f = fixture().await;
    let request = Request::post("/api/v1/query?query=url&time=1")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("query=sum(form%2B1)&dedup=false"))
        .unwrap();
    assert_eq!(f.send(request).await.status(), StatusCode::OK);
    let query = f.last_query();
    assert_eq!((query.text.as_str(), query.grid), ("sum(form+1)", Grid::instant(1000)));
}

#[tokio::test]
async fn partial_answers_are_not_cached_and_notes_are_apart() {
    let mut partial = one();
    partial.warnings.push("endpoint x is down".to_owned());
    partial.infos.push("PromQL info: hint".to_owned());
    let f = Fixture::new(Settings::default(), Ok(partial)).await;
    let response =
        f.send(Request::get("/api/v1/query?query=up").body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["content-type"], "application/json");
    let (_, body) = text(response).await;
    assert!(
        body.ends_with(r#"}]},"warnings":["endpoint x is down"],"infos":["PromQL info: hint"]}"#),
        "{body}"
    );

    let mut promql = one();
    promql.warnings.push("PromQL warning: quantile".to_owned());
    let f = Fixture::new(Settings::default(), Ok(promql)).await;
    let response =
        f.send(Request::get("/api/v1/query?query=up").body(Body::empty()).unwrap()).await;
    assert!(!response.headers().contains_key("cache-control"));
}

#[tokio::test]
async fn requests_that_cannot_be_meant_are_errors_that_no_cache_keeps() {
    let f = fixture().await;
    for (path, status, kind, reason) in [
        ("/api/v1/query?query=up%zz", 400, "bad_data", r#"invalid URL escape \"%zz\""#),
        ("/api/v1/labels?x=%", 400, "bad_data", "invalid URL escape"),
        ("/api/v1/query?query=up&timeout=0", 503, "timeout", "timeout is below 1 ms"),
        ("/api/v1/query_range?query=up&start=0&end=9&timeout=1e-9", 503, "timeout", "below 1 ms"),
        ("/api/v1/query?query=up&lookback_delta=-1", 400, "bad_data", "must not be negative"),
        ("/api/v1/rules?type=x", 400, "bad_data", r#"use one of alert, record"#),
        ("/api/v1/targets?state=x", 400, "bad_data", "use one of active, dropped, any"),
        ("/api/v1/label/%ff/values", 400, "bad_data", "UTF-8"),
        ("/api/v1/nothing", 404, "not_found", "404 page not found"),
    ] {
        let response = f.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
        let (code, body) = text(response).await;
        assert_eq!(code, status, "{path}: {body}");
        let begin = format!(r#"{{"status":"error","errorType":"{kind}","error":""#);
        assert!(body.starts_with(&begin) && body.contains(reason), "{path}: {body}");
    }
    for fine in ["/api/v1/rules?type=Alert", "/api/v1/targets?state=any", "/api/v1/rules?type="] {
        let response = f.send(Request::get(fine).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK, "{fine}");
    }
    f.get("/api/v1/query?query=up&lookback_delta=0").await;
    assert_eq!(f.last_query().lookback_ms, 300_000, "0 is the default");
}

#[tokio::test]
async fn limits_cut_and_say_so() {
    let series = |name| ResultSeries {
        labels: Labels::from_pairs([("a", name)]),
        points: Vec::new().into(),
    };
    let two = answer(Value::Matrix(vec![series("1"), series("2")]));
    let f = Fixture::new(Settings::default(), Ok(two)).await;
    let body = f.json("/api/v1/query_range?query=up&start=0&end=1&step=1&limit=1").await;
    assert_eq!(body["data"]["result"], json!([{"metric": {"a": "1"}}]));
    assert_eq!(body["warnings"], json!(["results truncated due to limit"]));
    assert_eq!(
        f.json("/api/v1/query_range?query=up&start=0&end=1&step=1&limit=2").await.get("warnings"),
        None
    );
}

#[tokio::test]
async fn stats_and_analysis_come_on_request() {
    let mut counted = one();
    let measured = |samples, points| {
        Some(OperatorMeasurement { seconds: 0.0015, series: 1, points, bytes: 9, samples })
    };
    let operator = |name: &str, measured, inputs| ExplainedOperator {
        name: name.to_owned(),
        measured,
        inputs,
    };
    counted.stats = QueryStats {
        peak_samples: 3,
        samples: Some(SampleCounts {
            total: 7,
            read: 2,
            total_per_step: vec![3, 4],
            read_per_step: vec![2, 0],
        }),
        analysis: Some(vec![
            operator("Aggregate", measured(0, 1), 1),
            operator("Window", measured(7, 4), 0),
        ]),
        ..QueryStats::default()
    };
    let f = Fixture::new(Settings::default(), Ok(counted)).await;
    let body =
        f.json("/api/v1/query_range?query=up&start=1.5&end=3&step=1&stats=true&analyze=1").await;
    assert_eq!(f.last_query().detail, Detail { stats: true, analyze: true });
    let data = &body["data"];
    assert!(data["stats"]["timings"]["evalTotalTime"].is_number());
    let totals = json!({"totalQueryableSamples": 7, "samplesRead": 2, "peakSamples": 3});
    assert_eq!(data["stats"]["samples"], totals);
    let own = |points: u64| json!({"executionTime": "1.5ms", "totalSamples": 7, "peakSamples": 4, "series": 1, "points": points, "bytes": 9});
    let mut analysis = own(1);
    analysis["name"] = json!("Aggregate");
    analysis["children"] = json!([own(4)]);
    analysis["children"][0]["name"] = json!("Window");
    assert_eq!(data["analysis"], analysis);
    let body = f.json("/api/v1/query_range?query=up&start=1.5&end=3&step=1&stats=all").await;
    let samples = &body["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamplesPerStep"], json!([[1.5, 3], [2.5, 4]]));
    assert_eq!(samples["samplesReadPerStep"], json!([[1.5, 2], [2.5, 0]]));
    f.json("/api/v1/query?query=up").await;
    assert_eq!(f.last_query().detail, Detail::default());
}

#[tokio::test]
async fn plans_are_trees_of_names() {
    let f = fixture().await;
    let window = json!({"name": "Window: \"x\"", "children": [{"name": "up"}]});
    let tree = json!({"name": "Join", "children": [window, {"name": "Source"}]});
    assert_eq!(f.json("/api/v1/query_explain?query=up").await["data"], tree);
    assert_eq!(
        f.json("/api/v1/query_range_explain?query=up&start=1&end=2&step=1").await["data"],
        tree
    );
    assert_eq!(
        f.get("/api/v1/query_range_explain?query=up&end=2&step=1").await.0,
        StatusCode::BAD_REQUEST
    );
    assert!(f.query.lock().unwrap().is_none());
}

#[tokio::test]
async fn queries_are_parsed_and_formatted_without_being_run() {
    let f = fixture().await;
    let long = format!("sum({}){}", "a".repeat(60), "%2Bb".repeat(20));
    let formatted = f.json(&format!("/api/v1/format_query?query={long}")).await["data"]
        .as_str()
        .unwrap()
        .to_owned();
    let lines: Vec<&str> = formatted.lines().collect();
    assert!(
        lines.len() > 2 && lines[0].trim_start().starts_with("sum(aaa") && lines[1].trim() == "+",
        "{formatted}"
    );
    let tree = f
        .json("/api/v1/parse_query?query=-sum%20by(x)(rate(up{a!=%22b%22}[5m]%20offset%201m))")
        .await;
    let selector = json!({
        "type": "matrixSelector", "name": "up", "range": 300_000, "rangeExpr": null, "offset": 60_000, "offsetExpr": null,
        "matchers": [
            {"name": "a", "value": "b", "type": "!="},
            {"name": "__name__", "value": "up", "type": "="},
        ],
        "timestamp": null, "startOrEnd": null, "anchored": false, "smoothed": false,
    });
    let rate =
        json!({"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"});
    let call = json!({"type": "call", "func": rate, "args": [selector]});
    let sum = json!({
        "type": "aggregation", "op": "sum", "expr": call, "param": null, "grouping": ["x"], "without": false,
    });
    assert_eq!(tree["data"], json!({"type": "unaryExpr", "op": "-", "expr": sum}));
    let (status, body) = f.get("/api/v1/parse_query?query=sum(").await;
    let expected = r#"invalid parameter "query": 1:5: parse error: unclosed left parenthesis"#;
    assert_eq!((status, error_of(&body).1.as_str()), (StatusCode::BAD_REQUEST, expected));
    assert!(f.query.lock().unwrap().is_none());
}

/// Never answers, and signals when nobody waits any more.
fn hanging(dropped: tokio::sync::mpsc::Sender<()>) -> Evaluation {
    let run = move |_| {
        let dropped = dropped.clone();
        let waiting = async move {
            let _dropped = dropped;
            std::future::pending().await
        };
        waiting.boxed()
    };
    Evaluation { run: Box::new(run), ..by_engine(&Settings::default()) }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_query() {
    use tokio::io::AsyncWriteExt;
    let (sender, mut ended) = tokio::sync::mpsc::channel(1);
    let router = Fixture::with(Settings::default(), hanging(sender)).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(router);
        let builder =
            hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
        let _ = builder.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
    });
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /api/v1/query?query=up HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), ended.recv()).await.is_err(),
        "it has not begun"
    );
    drop(client);
    // the channel closes when the query's future is dropped; only the connection holds the router
    assert_eq!(tokio::time::timeout(Duration::from_millis(100), ended.recv()).await, Ok(None));
    server.await.unwrap();
}

#[tokio::test]
async fn metadata_is_the_union_of_endpoints() {
    let replica = || vec!["replica".to_owned()];
    let f = Fixture::new(Settings { replica_labels: replica(), ..Settings::default() }, Ok(one()))
        .await;
    let labels = json!(["__name__", "cluster", "job", "replica", "status.code"]);
    assert_eq!(f.json("/api/v1/labels").await["data"], labels);
    assert_eq!(f.json("/api/v1/label/job/values").await["data"], json!(["node", "web"]));
    assert_eq!(
        f.json("/api/v1/label/job/values?match[]={%22http.requests%22}").await["data"],
        json!(["web"])
    );
    assert_eq!(f.json("/api/v1/label/U__status_2e_code/values").await["data"], json!(["200"]));
    assert_eq!(f.json("/api/v1/label/status.code/values").await["data"], json!(["200"]));
    assert_eq!(f.json("/api/v1/label/nope/values").await, json!({"status": "success", "data": []}));
    let series = json!([{"__name__": "up", "cluster": "a", "job": "node"}, {"__name__": "up", "cluster": "a", "job": "web"}]);
    assert_eq!(f.json("/api/v1/series?match[]=up&match[]=up{job=%22web%22}").await["data"], series);
    let with_replicas = f.json("/api/v1/series?match[]=up{job=%22web%22}&dedup=false").await;
    assert_eq!(
        with_replicas["data"],
        json!([{"__name__": "up", "cluster": "a", "job": "web", "replica": "0"}])
    );
    let limited = f.json("/api/v1/labels?limit=2").await;
    let warned = json!({"status": "success", "data": ["__name__", "cluster"], "warnings": ["results truncated due to limit"]});
    assert_eq!(limited, warned);
    assert_eq!(f.json("/api/v1/labels?limit=5").await.get("warnings"), None);
    // the bounds that Prometheus' own clients send for all of time
    for bounds in [
        "start=-9223309901257974&end=9223309901257974",
        "start=-292273086-05-16T16:47:06Z&end=292277025-08-18T07:12:54.999999999Z",
    ] {
        assert_eq!(f.json(&format!("/api/v1/labels?{bounds}")).await["data"], labels, "{bounds}");
    }
    assert_eq!(
        f.json("/api/v1/labels?storeMatch[]={__address__=%22b:1%22}").await["data"],
        json!([])
    );
}

#[tokio::test]
async fn grafana_finds_what_it_probes() {
    let f = fixture().await;
    let build = f.json("/api/v1/status/buildinfo").await;
    assert!(build["data"]["version"].as_str().unwrap().starts_with("0.42.0+"));
    assert_eq!(build["data"].get("features"), None);
    f.json("/api/v1/status/flags").await;
    assert_eq!(f.json("/api/v1/status/runtimeinfo").await["data"]["application"], "drumlin");
    let exemplars =
        f.json("/api/v1/query_exemplars?query=test&start=1700000000000&end=1700000001000").await;
    assert_eq!(exemplars["data"], json!([]));
    for path in ["rules", "alerts", "targets", "metadata"] {
        let body = f.json(&format!("/api/v1/{path}")).await;
        assert!(
            body["warnings"][0].as_str().unwrap().contains("not collected from endpoints yet"),
            "{path}"
        );
    }
    let store = &f.json("/api/v1/stores").await["data"]["sidecar"][0];
    assert_eq!((&store["name"], &store["lastError"]), (&json!("a:1"), &json!(null)));
    assert_eq!(store["labelSets"], json!([{"cluster": "a", "replica": "0"}]));
    assert_eq!((&store["minTime"], &store["maxTime"]), (&json!(1000), &json!(1000)));
    assert!(f.get("/").await.1.contains("/api/v1/query"));
}

#[tokio::test]
async fn gzip_and_cors() {
    let f = fixture().await;
    let request = Request::get("/api/v1/status/buildinfo")
        .header("accept-encoding", "gzip")
        .header("origin", "http://grafana")
        .body(Body::empty())
        .unwrap();
    let response = f.send(request).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let preflight = Request::options("/api/v1/query")
        .header("origin", "http://grafana")
        .header("access-control-request-method", "POST")
        .body(Body::empty())
        .unwrap();
    let response = f.send(preflight).await;
    assert!(response.headers()["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    let web = crate::WebSettings { disable_cors: true, ..Default::default() };
    let closed = Fixture::new(Settings { web, ..Settings::default() }, Ok(one())).await;
    let request = Request::get("/api/v1/stores")
        .header("origin", "http://grafana")
        .body(Body::empty())
        .unwrap();
    assert!(!closed.send(request).await.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn everything_moves_under_the_prefix() {
    let web = crate::WebSettings { route_prefix: "thanos/".to_owned(), ..Default::default() };
    let f = Fixture::new(Settings { web, ..Settings::default() }, Ok(one())).await;
    f.json("/thanos/api/v1/query?query=up").await;
    assert_eq!(f.get("/api/v1/query?query=up").await.0, StatusCode::NOT_FOUND);
    assert_eq!(f.get("/").await.0, StatusCode::SEE_OTHER);
    assert_eq!(f.get("/thanos/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_query_waits_at_the_gate_no_longer_than_its_timeout() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let holding = Arc::clone(&held);
    let evaluation = Evaluation {
        run: Box::new(move |query| {
            let holding = Arc::clone(&holding);
            async move {
                if query.text == "slow" {
                    holding.lock().unwrap().push(query);
                    std::future::pending::<()>().await;
                }
                Ok(one())
            }
            .boxed()
        }),
        ..by_engine(&Settings::default())
    };
    let router =
        Fixture::with(Settings { max_concurrent: 1, ..Settings::default() }, evaluation).await;
    let ask = |query: &str| {
        let request = Request::get(format!("/api/v1/query?query={query}&timeout=50ms"));
        router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    // the client has gone, but the engine still holds the query
    assert!(ask("slow").now_or_never().is_none());
    let (status, body) = text(ask("quick").await.unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let expected = ("timeout".to_owned(), "query timed out in query queue".to_owned());
    assert_eq!(error_of(&body), expected);
    held.lock().unwrap().clear();
    assert_eq!(ask("quick").await.unwrap().status(), StatusCode::OK);
}

/// The paths of calls for labels, and what they find in the fixture's store.
const LABEL_CALLS: [&str; 3] = ["labels", "label/job/values", "series?match[]=up"];

#[tokio::test]
async fn label_calls_wait_behind_the_gate_of_queries() {
    let settings =
        Settings { max_concurrent: 1, timeout: Duration::from_millis(50), ..Settings::default() };
    let f = Fixture::new(settings, Ok(one())).await;
    // it is answered, but it is kept, and with it its place
    f.get("/api/v1/query?query=up").await;
    for call in LABEL_CALLS {
        let (status, body) = f.get(&format!("/api/v1/{call}")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{call}");
        assert_eq!(error_of(&body).1, "query timed out in query queue", "{call}");
    }
    f.query.lock().unwrap().take();
    for call in LABEL_CALLS {
        assert_eq!(f.get(&format!("/api/v1/{call}")).await.0, StatusCode::OK, "{call}");
    }
}

#[tokio::test]
async fn label_calls_over_the_budget_say_what_they_needed() {
    let budget = model::Budget::new(100);
    let settings = Settings { budget: budget.clone(), ..Settings::default() };
    let f = Fixture::new(settings, Ok(one())).await;
    for call in LABEL_CALLS {
        let (status, body) = f.get(&format!("/api/v1/{call}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{call}: {body}");
        let (kind, text) = error_of(&body);
        let says = ["the ", " of an answer needs ", "of the 100 bytes of the memory budget"];
        assert!(kind == "execution" && says.iter().all(|s| text.contains(s)), "{call}: {text}");
        assert_eq!(budget.used(), 0, "{call}");
    }
}

#[tokio::test]
async fn replica_labels_are_taken_once_and_so_many() {
    let f = fixture().await;
    let labels = |count: usize, distinct: usize| -> String {
        (0..count).map(|i| format!("&replicaLabels[]=r{}", i % distinct)).collect()
    };
    let form = |body: String| {
        Request::post("/api/v1/query")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(format!("query=up{body}")))
            .unwrap()
    };
    assert_eq!(f.send(form(labels(15_000, 2))).await.status(), StatusCode::OK);
    let source = format!("{:?}", f.last_query().source);
    assert!(source.contains(r#"replica_labels: ["r0", "r1"]"#), "{source}");
    let (status, body) = text(f.send(form(labels(1001, 1001))).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let expected = "invalid parameter \"replicaLabels[]\": the request has 1001 names of replica \
                    labels and shards, more than the limit of 1000 per request";
    assert_eq!(error_of(&body).1, expected);
}

//! A querier with the bucket inside answers as one with a gateway beside it does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use block::config::ObjectStoreConfig;
use block::{Bucket, BucketMetrics};
use http::Request;
use http_body_util::BodyExt;
use model::{BlockId, Budget, Clock, Labels, SystemClock, TimeRange};
use prometheus::Registry;
use query::{EndpointSettings, EndpointSpec, LocalStore, Querier};
use serde_json::Value;
use serve::Component;
use store::{Gateway, GatewayParts};
use storeapi::Store;
use storeapi::conformance::{Dataset, FloatSamples, MemoryStore};
use storeapi::info::{Capabilities, InfoService};
use storeapi::server::StoreService;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tower::ServiceExt;
use tsdb::block_builder::{BlockBuilder, BlockIdentity};

const STEP_MS: i64 = 15_000;
const BLOCK_MS: i64 = 7_200_000;
/// The bucket has as many blocks of each replica.
const BLOCKS: i64 = 3;
/// What the sidecar has reaches as far.
const END_MS: i64 = (BLOCKS + 1) * BLOCK_MS;

/// Counters, one of which restarts, and gauges of several jobs.
fn series(range: TimeRange) -> Vec<(Labels, FloatSamples)> {
    let mut all = Vec::new();
    for job in ["api", "db", "web"] {
        for instance in 0..4_i64 {
            let name = if instance == 3 { "queue_length" } else { "requests_total" };
            let restarts = if instance == 2 { 400 } else { i64::MAX };
            let value = |t: i64| (t / STEP_MS % restarts * (instance + 1)) as f64;
            let times = (range.start..range.end).step_by(STEP_MS as usize);
            let labels = Labels::from_pairs([
                ("__name__", name.to_owned()),
                ("instance", instance.to_string()),
                ("job", job.to_owned()),
            ]);
            all.push((labels, times.map(|t| (t, value(t))).collect()));
        }
    }
    all.sort_by(|(a, _), (b, _): &(Labels, FloatSamples)| a.cmp(b));
    all
}

fn external(replica: &str) -> Labels {
    Labels::from_pairs([("cluster", "eu"), ("replica", replica)])
}

fn fill(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder for the bucket");
    for number in 0..BLOCKS {
        let range = TimeRange::new(number * BLOCK_MS, (number + 1) * BLOCK_MS);
        for (replica, entropy) in [("a", 1), ("b", 2)] {
            let mut builder = BlockBuilder::new();
            for (labels, samples) in series(range) {
                let (ts, values): (Vec<i64>, Vec<f64>) = samples.into_iter().unzip();
                builder.push_floats(&labels, &ts, &values).expect("samples in order");
            }
            let id = BlockId::from_parts(range.end as u64, entropy);
            let external_labels = Some(external(replica));
            let files = builder.finish(BlockIdentity { id, range, external_labels });
            files.expect("series in order").save(folder).expect("write the block");
        }
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))))
}

fn bucket(folder: &Path, registry: &Registry) -> Bucket {
    let yaml = format!("type: FILESYSTEM\nconfig:\n  directory: '{}'\n", folder.display());
    let config =
        ObjectStoreConfig::parse(&yaml, &Default::default()).expect("a folder is a bucket");
    config.build(BucketMetrics::new(registry).expect("metrics"), clock()).expect("a bucket")
}

fn gateway(folder: &Path, registry: &Registry, budget: &Budget) -> GatewayParts {
    let settings = store::Settings {
        index_cache_bytes: 1 << 20,
        budget: budget.clone(),
        ..store::Settings::default()
    };
    let bucket = bucket(folder, registry);
    Gateway::new(settings, bucket, registry, clock()).expect("a gateway").into_parts()
}

async fn serve(store: Arc<dyn Store>) -> SocketAddr {
    let info = InfoService::serve(Arc::clone(&store), Capabilities::STORE);
    let routes = Routes::new(StoreService::serve(store)).add_service(info);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = tonic::transport::Server::builder().add_routes(routes);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// What a sidecar has: the time after the blocks, and some of that before.
async fn sidecar() -> SocketAddr {
    let range = TimeRange::new((BLOCKS - 1) * BLOCK_MS + BLOCK_MS / 2, END_MS);
    let data = Dataset { external: external("a"), series: series(range) };
    serve(Arc::new(MemoryStore::new(&data))).await
}

/// Starts a querier; it ends with the test's runtime.
async fn started(component: Component) -> Router {
    let Component { mut served, run } = component;
    tokio::spawn(run);
    let ready = served.ready.wait_for(|ready| *ready);
    tokio::time::timeout(Duration::from_secs(60), ready)
        .await
        .expect("it is ready soon")
        .expect("it runs");
    served.routes
}

fn querier(endpoints: &[SocketAddr], registry: &Registry, budget: &Budget) -> Querier {
    let spec =
        |address: &SocketAddr| EndpointSpec { address: address.to_string(), ..Default::default() };
    let settings = query::Settings {
        endpoints: EndpointSettings {
            specs: endpoints.iter().map(spec).collect(),
            ..EndpointSettings::default()
        },
        replica_labels: vec!["replica".to_owned()],
        engine_threads: 1,
        budget: budget.clone(),
        ..query::Settings::default()
    };
    Querier::new(settings, registry, clock()).expect("settings of a querier")
}

async fn with_gateway_beside(folder: &Path, endpoints: &[SocketAddr]) -> Router {
    let budget = Budget::new(256 << 20);
    let GatewayParts { store, mut ready, run, .. } = gateway(folder, &Registry::new(), &budget);
    tokio::spawn(run);
    ready.wait_for(|ready| *ready).await.expect("the gateway runs");
    let all: Vec<SocketAddr> = endpoints.iter().copied().chain([serve(store).await]).collect();
    started(querier(&all, &Registry::new(), &Budget::new(256 << 20)).into_component()).await
}

async fn with_bucket_inside(folder: &Path, endpoints: &[SocketAddr], budget: &Budget) -> Router {
    // one registry, as in a process: no metric is registered twice
    let registry = Registry::new();
    let GatewayParts { store, ready, run, routes } = gateway(folder, &registry, budget);
    let local = LocalStore { name: "local bucket".to_owned(), store, ready, run, routes };
    started(querier(endpoints, &registry, budget).beside(local).into_component()).await
}

async fn get(routes: &Router, path: &str, fields: &[(&str, &str)]) -> Value {
    let encoded = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let request = Request::get(format!("/api/v1/{path}?{}", fields.join("&"))).body(Body::empty());
    let response = routes.clone().oneshot(request.expect("a request")).await.expect("an answer");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

const EXPRESSIONS: &[&str] = &[
    "requests_total",
    "sum by (job) (rate(requests_total[5m]))",
    "sum(rate(requests_total{job=~\"api|db\"}[10m])) / count(requests_total)",
    "max_over_time(queue_length[1h])",
    "topk(2, increase(requests_total{instance!=\"2\"}[30m]))",
    "requests_total{cluster=\"eu\", job=\"web\"} - on (job, instance) requests_total offset 1h",
    "count_over_time({job=\"db\"}[2h])",
    "absent(nothing)",
    "sum(requests_total) + sum(queue_length) * sum(requests_total offset 5m)",
];

/// Asks everything of both and compares the answers, notes included.
async fn assert_same(beside: &Router, inside: &Router) {
    let (start, end) = ("600".to_owned(), (END_MS / 1000 - 15).to_string());
    let times = [("start", start.as_str()), ("end", end.as_str()), ("step", "300")];
    let mut filled = 0;
    for expression in EXPRESSIONS {
        for dedup in ["true", "false"] {
            let fields = [&times[..], &[("query", expression), ("dedup", dedup)]].concat();
            let (expected, got) = futures::join!(
                get(beside, "query_range", &fields),
                get(inside, "query_range", &fields)
            );
            assert_eq!(got, expected, "{expression} with dedup={dedup}");
            // replicas do not match one to one
            let is_refused = dedup == "false" && expected["errorType"] == "execution";
            assert!(is_refused || expected["status"] == "success", "{expression}: {expected}");
            let result = expected["data"]["result"].as_array();
            filled += usize::from(result.is_some_and(|result| !result.is_empty()));
        }
    }
    assert!(filled > EXPRESSIONS.len(), "most answers hold something");
    for (path, fields) in [
        ("series", vec![("match[]", "queue_length")]),
        ("labels", vec![]),
        ("label/job/values", vec![]),
        ("label/cluster/values", vec![("match[]", "{job=\"api\"}")]),
    ] {
        let fields = [&times[..2], &fields].concat();
        let (expected, got) = (get(beside, path, &fields).await, get(inside, path, &fields).await);
        assert_eq!(expected["status"], "success", "{path}: {expected}");
        assert_ne!(expected["data"], serde_json::json!([]), "{path}");
        assert_eq!(got, expected, "{path}");
    }
}

#[tokio::test]
async fn a_bucket_inside_answers_as_a_gateway_beside_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    for endpoints in [vec![], vec![sidecar().await]] {
        let beside = with_gateway_beside(folder.path(), &endpoints).await;
        let inside = with_bucket_inside(folder.path(), &endpoints, &Budget::new(256 << 20)).await;
        assert_same(&beside, &inside).await;
        let stores = get(&inside, "stores", &[]).await;
        let local = &stores["data"]["store"][0];
        assert_eq!(local["name"], "local bucket", "{stores}");
        assert_eq!(local["labelSets"].as_array().map(Vec::len), Some(2), "{stores}");
        assert_eq!((&local["minTime"], &local["lastError"]), (&0.into(), &Value::Null), "{stores}");
        let blocks = get(&inside, "blocks", &[("view", "loaded")]).await;
        let found = blocks["data"]["blocks"].as_array().expect("blocks").len();
        assert_eq!(found as i64, 2 * BLOCKS, "{blocks}");
    }
}

/// Queries hold a share of the budget while the gateway inside works for them: together they must
/// not wait for one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_queries_at_once_share_one_budget() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let budget = Budget::new(48 << 20);
    let inside = with_bucket_inside(folder.path(), &[], &budget).await;
    let end = (BLOCKS * BLOCK_MS / 1000 - 15).to_string();
    let fields = [("start", "600"), ("end", &end), ("step", "60")];
    let ask = |number: usize| {
        let query = EXPRESSIONS[number % EXPRESSIONS.len()];
        let (inside, fields) = (&inside, [&fields[..], &[("query", query)]].concat());
        async move {
            let answer = get(inside, "query_range", &fields).await;
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            assert!(answer["warnings"].is_null(), "{query}: {answer}");
        }
    };
    let all = futures::future::join_all((0..60).map(ask));
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("they do not wait for ever");
    assert_eq!(budget.used(), 0, "all is given back");
}

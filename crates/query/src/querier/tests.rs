use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use model::{Labels, SystemClock};
use storeapi::conformance::{Dataset, FloatSamples, MemoryStore};
use storeapi::info::InfoService;
use storeapi::server::StoreService;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tower::ServiceExt;

use super::*;
use crate::{EndpointSettings, EndpointSpec};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))))
}

/// Serves gRPC on a free port of the loopback until the test's runtime ends.
async fn serve(services: Routes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_routes(services);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

async fn serve_replica(replica: &str) -> SocketAddr {
    serve_samples(replica, (0..=20).map(|i| (i * 15_000, i as f64)).collect()).await
}

async fn serve_samples(replica: &str, samples: FloatSamples) -> SocketAddr {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(&Dataset {
        external: Labels::from_pairs([("cluster", "a"), ("replica", replica)]),
        series: vec![(
            Labels::from_pairs([("__name__", "requests_total"), ("job", "web")]),
            samples,
        )],
    }));
    let info = InfoService::serve(Arc::clone(&store), Capabilities::STORE);
    serve(Routes::new(StoreService::serve(store)).add_service(info)).await
}

/// A querier over these endpoints that has asked each of them once.
async fn querier(addresses: &[SocketAddr]) -> (Router, Routes) {
    let spec = |a: &SocketAddr| EndpointSpec { address: a.to_string(), ..EndpointSpec::default() };
    let specs = addresses.iter().map(spec).collect();
    let settings = Settings {
        endpoints: EndpointSettings { specs, ..EndpointSettings::default() },
        replica_labels: vec!["replica".to_owned()],
        engine_threads: 1,
        ..Settings::default()
    };
    let querier = Querier::new(settings, &Registry::new(), clock()).unwrap();
    let Component { served, run } = querier.into_component();
    let Served { routes, services, mut ready, .. } = served;
    tokio::spawn(run);
    tokio::time::timeout(Duration::from_secs(20), ready.wait_for(|ready| *ready))
        .await
        .unwrap()
        .unwrap();
    (routes, services.unwrap().routes)
}

async fn get(routes: &Router, path: &str) -> serde_json::Value {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = routes.clone().oneshot(request).await.unwrap();
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn queriers_stack_over_real_sockets_and_count_replicas_once() {
    let replicas = [serve_replica("0").await, serve_replica("1").await];
    let (lower, services) = querier(&replicas).await;
    let (upper, _) = querier(&[serve(services).await]).await;
    for routes in [&lower, &upper] {
        let body = get(routes, "/api/v1/query?query=sum(requests_total)&time=300").await;
        let expected = serde_json::json!([{"metric": {}, "value": [300, "20"]}]);
        assert_eq!(body["data"]["result"], expected, "{body}");
        let body =
            get(routes, "/api/v1/query?query=count(requests_total)&time=300&dedup=false").await;
        assert_eq!(body["data"]["result"][0]["value"][1], "2", "{body}");
    }
    let stores = get(&upper, "/api/v1/stores").await;
    let labels = &stores["data"]["query"][0]["labelSets"];
    assert_eq!(labels.as_array().unwrap().len(), 2, "{stores}");
}

#[tokio::test]
async fn what_two_stores_hold_of_one_replica_is_merged_by_time() {
    let every_other = |phase: i64| -> FloatSamples {
        (0..240).map(|i| i * 2 + phase).map(|i| (i * 15_000, i as f64)).collect()
    };
    let stores =
        [serve_samples("0", every_other(0)).await, serve_samples("0", every_other(1)).await];
    let (lower, services) = querier(&stores).await;
    let (upper, _) = querier(&[serve(services).await]).await;
    let counted = |query: &'static str, routes: Router| async move {
        let body = get(&routes, &format!("/api/v1/query?query={query}&time=7199")).await;
        body["data"]["result"][0]["value"][1].as_str().unwrap_or_default().to_owned()
    };
    for routes in [lower, upper] {
        assert_eq!(counted("count_over_time(requests_total[2h])", routes.clone()).await, "480");
        assert_eq!(
            counted("count_over_time(requests_total[2h])&dedup=false", routes.clone()).await,
            "480"
        );
        assert_eq!(counted("rate(requests_total[5m])*15", routes).await, "1");
    }
}

#[tokio::test]
async fn a_missing_endpoint_is_named_or_fails_the_query() {
    let there = serve_replica("0").await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let spec = |address: SocketAddr, strict| EndpointSpec {
        address: address.to_string(),
        strict,
        ..Default::default()
    };
    let specs = vec![spec(there, false), spec(gone, true)];
    let endpoints = EndpointSettings { specs, ..EndpointSettings::default() };
    let settings = Settings { endpoints, engine_threads: 1, ..Settings::default() };
    let querier = Querier::new(settings, &Registry::new(), clock()).unwrap();
    let Component { served, run } = querier.into_component();
    let Served { routes, mut ready, .. } = served;
    tokio::spawn(run);
    tokio::time::timeout(Duration::from_secs(20), ready.wait_for(|ready| *ready))
        .await
        .unwrap()
        .unwrap();
    let partial = get(&routes, "/api/v1/query?query=requests_total&time=300").await;
    assert_eq!(partial["data"]["result"][0]["value"][1], "20", "{partial}");
    assert!(partial["warnings"][0].as_str().unwrap().contains(&gone.to_string()), "{partial}");
    let refused =
        get(&routes, "/api/v1/query?query=requests_total&time=300&partial_response=false").await;
    assert_eq!(refused["status"], "error");
    assert!(refused["error"].as_str().unwrap().contains(&gone.to_string()), "{refused}");
}

/// What is needed of the process behind a local store.
struct LocalEnd {
    ready: watch::Sender<bool>,
    store: Arc<dyn Store>,
}

impl LocalEnd {
    fn holding(replica: &str) -> LocalEnd {
        let store = MemoryStore::new(&Dataset {
            external: Labels::from_pairs([("cluster", "a"), ("replica", replica)]),
            series: vec![(
                Labels::from_pairs([("__name__", "requests_total"), ("job", "web")]),
                (0..=20).map(|i| (i * 15_000, i as f64)).collect(),
            )],
        });
        LocalEnd { ready: watch::Sender::new(false), store: Arc::new(store) }
    }

    fn local(&self) -> LocalStore {
        let ready = self.ready.subscribe();
        let routes = Router::new().route("/api/v1/blocks", axum::routing::get(async || "blocks"));
        LocalStore {
            name: "local bucket".to_owned(),
            store: Arc::clone(&self.store),
            ready,
            run: std::future::pending().boxed(),
            routes,
        }
    }

    fn querier(&self, settings: Settings) -> Component {
        let settings =
            Settings { replica_labels: vec!["replica".to_owned()], engine_threads: 1, ..settings };
        let querier = Querier::new(settings, &Registry::new(), clock()).unwrap();
        querier.beside(self.local()).into_component()
    }
}

#[tokio::test]
async fn a_store_in_the_process_is_queried_beside_the_endpoints() {
    let end = LocalEnd::holding("1");
    let there = serve_replica("0").await;
    let spec = EndpointSpec { address: there.to_string(), ..EndpointSpec::default() };
    let endpoints = EndpointSettings { specs: vec![spec], ..EndpointSettings::default() };
    let component = end.querier(Settings { endpoints, ..Settings::default() });
    let Component { served: Served { routes, services, mut ready, .. }, run } = component;
    tokio::spawn(run);
    end.ready.send_replace(true);
    ready.wait_for(|ready| *ready).await.unwrap();

    let body = get(&routes, "/api/v1/query?query=sum(requests_total)&time=300").await;
    assert_eq!(body["data"]["result"][0]["value"][1], "20", "replicas count once: {body}");
    let body = get(&routes, "/api/v1/query?query=count(requests_total)&time=300&dedup=false").await;
    assert_eq!(body["data"]["result"][0]["value"][1], "2", "{body}");
    assert!(body["warnings"].is_null(), "{body}");
    let stores = get(&routes, "/api/v1/stores").await;
    let listed = stores["data"]["sidecar"].as_array().unwrap();
    let names: Vec<_> = listed.iter().map(|store| store["name"].as_str().unwrap()).collect();
    assert_eq!(names, [there.to_string().as_str(), "local bucket"], "{stores}");
    assert!(listed.iter().all(|store| store["lastError"].is_null()), "{stores}");

    // a querier above sees both
    let (upper, _) = querier(&[serve(services.unwrap().routes).await]).await;
    let stores = get(&upper, "/api/v1/stores").await;
    let labels = stores["data"]["query"][0]["labelSets"].as_array().unwrap().len();
    assert_eq!(labels, 2, "{stores}");
}

/// Stands in for a gateway that has not synced yet.
struct NotYet;

#[async_trait::async_trait]
impl Store for NotYet {
    async fn info(&self) -> storeapi::Result<storeapi::StoreInfo> {
        Err(storeapi::Error::new(storeapi::Kind::Unavailable, "the first sync is not done"))
    }

    async fn series(&self, _: storeapi::SeriesRequest) -> storeapi::Result<storeapi::FrameStream> {
        Err(storeapi::Error::new(storeapi::Kind::Unavailable, "the first sync is not done"))
    }

    async fn label_names(
        &self,
        _: storeapi::LabelNamesRequest,
    ) -> storeapi::Result<storeapi::Metadata> {
        Err(storeapi::Error::new(storeapi::Kind::Unavailable, "the first sync is not done"))
    }

    async fn label_values(
        &self,
        _: storeapi::LabelValuesRequest,
    ) -> storeapi::Result<storeapi::Metadata> {
        Err(storeapi::Error::new(storeapi::Kind::Unavailable, "the first sync is not done"))
    }
}

#[tokio::test]
async fn until_the_store_in_the_process_is_ready_answers_say_that_it_is_missing() {
    let end = LocalEnd { store: Arc::new(NotYet), ..LocalEnd::holding("1") };
    let there = serve_replica("0").await;
    let spec = EndpointSpec { address: there.to_string(), ..EndpointSpec::default() };
    let endpoints = EndpointSettings { specs: vec![spec], ..EndpointSettings::default() };
    let component = end.querier(Settings { endpoints, ..Settings::default() });
    let Component { served: Served { routes, mut ready, .. }, run } = component;
    tokio::spawn(run);
    let missing = async {
        loop {
            let body = get(&routes, "/api/v1/query?query=requests_total&time=300").await;
            if body["data"]["result"][0]["value"][1] == "20" {
                break body;
            }
            tokio::task::yield_now().await;
        }
    };
    let body = tokio::time::timeout(Duration::from_secs(20), missing).await.unwrap();
    let warning = body["warnings"][0].as_str().unwrap();
    assert!(warning.contains("local bucket") && warning.contains("first sync"), "{body}");
    let refused =
        get(&routes, "/api/v1/query?query=requests_total&time=300&partial_response=false").await;
    assert_eq!(refused["status"], "error", "{refused}");
    assert!(!*ready.borrow(), "it waits for the store");
    end.ready.send_replace(true);
    tokio::time::timeout(Duration::from_secs(20), ready.wait_for(|ready| *ready))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_a_store_serves_is_below_the_prefix() {
    for (prefix, path) in [("", "/api/v1/blocks"), ("/thanos/", "/thanos/api/v1/blocks")] {
        let web = crate::WebSettings { route_prefix: prefix.to_owned(), ..Default::default() };
        let component = LocalEnd::holding("1").querier(Settings { web, ..Settings::default() });
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = component.served.routes.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
}

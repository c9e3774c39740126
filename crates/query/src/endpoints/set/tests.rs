use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus::Registry;
use storeapi::client::Channel;
use storeapi::conformance::MemoryStore;

use super::*;
use crate::endpoints::testing::unconnected;
use crate::settings::GrpcCompression;

/// Time that tests move by hand; sleeping ends at once or never.
#[derive(Debug, Default)]
struct HandClock {
    seconds: AtomicU64,
    hasty: AtomicBool,
}

impl Clock for HandClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.seconds.load(Ordering::Relaxed) as i64 * 1000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if self.hasty.load(Ordering::Relaxed) {
            Box::pin(std::future::ready(()))
        } else {
            Box::pin(std::future::pending())
        }
    }
}

/// A peer that can be switched off.
struct Flaky {
    inner: MemoryStore,
    offered: Capabilities,
    up: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
}

#[async_trait]
impl Peer for Flaky {
    async fn endpoint_info(&self) -> storeapi::Result<EndpointInfo> {
        Ok(EndpointInfo { store: self.info().await?, capabilities: self.offered.clone() })
    }

    fn channel(&self) -> storeapi::Result<Channel> {
        Ok(unconnected())
    }
}

#[async_trait]
impl Store for Flaky {
    async fn info(&self) -> storeapi::Result<StoreInfo> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.up.load(Ordering::Relaxed) {
            self.inner.info().await
        } else {
            Err(Error::new(Kind::Unavailable, "connection refused"))
        }
    }

    async fn series(&self, request: SeriesRequest) -> storeapi::Result<FrameStream> {
        self.inner.series(request).await
    }

    async fn label_names(&self, request: LabelNamesRequest) -> storeapi::Result<Metadata> {
        self.inner.label_names(request).await
    }

    async fn label_values(&self, request: LabelValuesRequest) -> storeapi::Result<Metadata> {
        self.inner.label_values(request).await
    }
}

/// The address of a peer that offers rules and no StoreAPI.
const RULER: &str = "ruler:1";

struct Fixture {
    set: EndpointSet,
    clock: Arc<HandClock>,
    up: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    metrics: Metrics,
}

fn fixture() -> Fixture {
    let clock = Arc::new(HandClock::default());
    let (up, hangs) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (store_up, store_hangs) = (Arc::clone(&up), Arc::clone(&hangs));
    let connect: Connect = Box::new(move |target| {
        let inner = MemoryStore::from_series(Labels::from_pairs([("cluster", "a")]), Vec::new());
        if target.address == "refused:1" {
            return Err(Error::new(Kind::Invalid, "no"));
        }
        let offered = match target.address.as_str() {
            RULER => Capabilities { rules: true, ..Capabilities::default() },
            _ => Capabilities::STORE,
        };
        let (up, hangs) = (Arc::clone(&store_up), Arc::clone(&store_hangs));
        let peer: Arc<dyn Peer> = Arc::new(Flaky { inner, offered, up, hangs });
        Ok(Some(peer).filter(|_| !target.servers.is_empty()))
    });
    let timeouts = Timeouts { info: Duration::from_secs(5), unhealthy: Duration::from_secs(300) };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let set = EndpointSet::new(connect, timeouts, metrics.clone(), Arc::clone(&clock) as _);
    Fixture { set, clock, up, hangs, metrics }
}

fn target(address: &str, strict: bool) -> ResolvedEndpoint {
    ResolvedEndpoint {
        address: address.to_owned(),
        servers: vec![address.to_owned()],
        strict,
        tls: None,
        compression: GrpcCompression::None,
    }
}

fn request() -> LabelNamesRequest {
    LabelNamesRequest {
        range: TimeRange::ALL,
        matchers: Vec::new(),
        partial_response: Default::default(),
        without_replica_labels: Vec::new(),
        limit: 0,
    }
}

#[tokio::test]
async fn an_endpoint_is_asked_once_it_described_itself() {
    let f = fixture();
    assert!(f.set.update(vec![target("a:1", false), target("refused:1", false)]));
    assert!(!f.set.update(vec![target("a:1", false)]));
    assert!(f.set.endpoints().is_empty());
    f.set.poll().await;
    assert_eq!(f.set.endpoints().len(), 1);
    let labels = r#"{cluster="a"}"#;
    assert_eq!(f.metrics.connections.with_label_values(&[labels, "sidecar"]).get(), 1.0);
    f.set.update(vec![]);
    assert!(f.set.endpoints().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_went_down_fails_at_once_and_is_forgotten_later() {
    let f = fixture();
    f.set.update(vec![target("a:1", false)]);
    f.set.poll().await;
    f.up.store(false, Ordering::Relaxed);
    f.clock.seconds.store(10, Ordering::Relaxed);
    f.set.poll().await;
    let endpoints = f.set.endpoints();
    let error = endpoints[0].store.label_names(request()).await.unwrap_err();
    assert_eq!(error.to_string(), "endpoint is down: connection refused");
    let error = endpoints[0].channel.as_ref().err().map(ToString::to_string);
    assert_eq!(error.as_deref(), Some("endpoint is down: connection refused"));
    assert_eq!(f.set.statuses()[0].error.as_deref(), Some("connection refused"));

    f.clock.seconds.store(301, Ordering::Relaxed);
    assert!(f.set.endpoints().is_empty() && f.set.statuses().is_empty());

    f.up.store(true, Ordering::Relaxed);
    f.set.poll().await;
    assert!(f.set.endpoints()[0].store.label_names(request()).await.is_ok());
}

#[tokio::test]
async fn an_endpoint_without_store_api_is_there_for_what_it_offers() {
    let f = fixture();
    f.set.update(vec![target(RULER, false)]);
    f.set.poll().await;
    let endpoints = f.set.endpoints();
    assert!(endpoints[0].capabilities.rules && !endpoints[0].capabilities.store);
    assert!(endpoints[0].channel.is_ok());
    let status = &f.set.statuses()[0];
    assert_eq!((status.component, &status.error), (ComponentType::Sidecar, &None));
    assert_eq!(status.range, TimeRange::ALL);
}

#[tokio::test]
async fn a_hanging_endpoint_does_not_hold_up_the_round() {
    let f = fixture();
    f.set.update(vec![target("a:1", false)]);
    f.hangs.store(true, Ordering::Relaxed);
    f.clock.hasty.store(true, Ordering::Relaxed);
    f.set.poll().await;
    assert_eq!(f.set.statuses()[0].error.as_deref(), Some("no answer to info within 5s"));
    assert!(f.set.endpoints().is_empty());
}

#[tokio::test]
async fn a_strict_endpoint_is_always_asked_as_if_it_held_everything() {
    let f = fixture();
    f.up.store(false, Ordering::Relaxed);
    f.set.update(vec![target("a:1", true)]);
    f.set.poll().await;
    f.clock.seconds.store(1000, Ordering::Relaxed);
    let endpoints = f.set.endpoints();
    assert_eq!(endpoints[0].info.range, TimeRange::ALL);
    assert_eq!(endpoints[0].capabilities, Capabilities::STORE);
    assert!(endpoints[0].store.label_names(request()).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_asked_is_named_in_answers() {
    let f = fixture();
    assert!(f.set.missing()[0].contains("--endpoint"), "{:?}", f.set.missing());

    let nowhere = |strict| ResolvedEndpoint { servers: vec![], ..target("dns+gone:1", strict) };
    f.set.update(vec![target("a:1", false), nowhere(false)]);
    f.up.store(false, Ordering::Relaxed);
    f.set.poll().await;
    let missing = f.set.missing();
    assert!(missing[0].starts_with("endpoint dns+gone:1: its name stands for no"), "{missing:?}");
    let down = "none of 2 endpoints has answered yet; a:1: connection refused";
    assert_eq!(missing[1..], [down]);
    assert!(f.set.endpoints().is_empty());

    f.up.store(true, Ordering::Relaxed);
    f.set.poll().await;
    assert_eq!(f.set.missing().len(), 1, "the other one is up");

    f.set.update(vec![nowhere(true)]);
    let endpoints = f.set.endpoints();
    assert_eq!(endpoints[0].info.range, TimeRange::ALL, "it may hold anything");
    assert!(endpoints[0].store.label_names(request()).await.is_err());
    assert!(f.set.statuses()[0].checked.is_none());
}

#[tokio::test]
async fn a_group_keeps_its_health_when_its_servers_change() {
    let f = fixture();
    let group = |servers: &[&str]| ResolvedEndpoint {
        servers: servers.iter().map(|&server| server.to_owned()).collect(),
        ..target("dns+stores:1", false)
    };
    f.set.update(vec![group(&["10.0.0.1:1"])]);
    f.set.poll().await;
    assert!(f.set.update(vec![group(&["10.0.0.2:1"])]), "its servers are others");
    assert_eq!(f.set.endpoints().len(), 1, "it is asked before the next poll");
}

#[tokio::test]
async fn a_local_store_stays_and_is_asked_even_when_it_fails() {
    let Fixture { set, clock, up, hangs, .. } = fixture();
    let inner = MemoryStore::from_series(Labels::from_pairs([("cluster", "b")]), Vec::new());
    let offered = Capabilities::STORE;
    set.add_local("local", Arc::new(Flaky { inner, offered, up: Arc::clone(&up), hangs }));
    set.update(Vec::new());
    set.poll().await;
    let listed = set.statuses();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].address.as_str(), &listed[0].error), ("local", &None));
    assert_eq!(set.missing(), Vec::<String>::new());

    up.store(false, Ordering::Relaxed);
    clock.seconds.fetch_add(100_000, Ordering::Relaxed);
    set.poll().await;
    assert!(set.statuses()[0].error.is_some());
    let asked = set.endpoints();
    assert_eq!(asked.len(), 1, "its data would be missing in silence");
    assert_eq!(asked[0].address, "local");
}

//! Reads over a server that hangs, or that is slow, or that many want something of at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use block::config::{Environment, ObjectStoreConfig};
use block::object_store::memory::InMemory;
use block::{Bucket, BucketMetrics, Path};
use futures::{StreamExt, stream};
use model::{Clock, SystemClock};
use prometheus::Registry;
use testkit::{Fault, FaultPlan, ObjectServer, Op, ServerSettings};

const SENT: &str = "drumlin_objstore_bucket_hedged_requests_total";
const WON: &str = "drumlin_objstore_bucket_hedged_requests_won_total";

struct Fixture {
    server: ObjectServer,
    bucket: Bucket,
    registry: Registry,
}

impl Fixture {
    async fn start(settings: ServerSettings, hedging: &str, max_in_flight: usize) -> Fixture {
        let server = ObjectServer::start(Arc::new(InMemory::new()), settings).await.unwrap();
        let yaml = format!("{}hedging_config: {hedging}\n", server.s3_config());
        let config = ObjectStoreConfig::parse(&yaml, &Environment::new()).unwrap();
        let registry = Registry::new();
        let metrics = BucketMetrics::new(&registry).unwrap();
        let clock: Arc<dyn Clock> =
            Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))));
        let bucket = config.with_max_in_flight(max_in_flight).build(metrics, clock).unwrap();
        bucket.put(&Path::from("a"), "0123456789".into()).await.unwrap();
        Fixture { server, bucket, registry }
    }

    /// Reads a range so many times, some at once.
    async fn read(&self, times: usize, at_once: usize) {
        let reads = stream::iter(0..times).map(|_| async {
            let read = self.bucket.get_range(&Path::from("a"), 2..5).await;
            assert_eq!(read.unwrap(), "234");
        });
        reads.buffer_unordered(at_once).collect::<Vec<()>>().await;
    }

    fn counted(&self, metric: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == metric);
        family.map_or(0.0, |family| family.get_metric()[0].get_counter().get_value())
    }
}

/// A read hangs when it is told to.
fn hanging(hangs: &Arc<AtomicBool>) -> ServerSettings {
    let hangs = Arc::clone(hangs);
    let faults = FaultPlan::new(move |call| {
        (call.op == Op::Get && hangs.swap(false, Ordering::SeqCst)).then_some(Fault::Hung)
    });
    ServerSettings { faults, ..ServerSettings::default() }
}

#[tokio::test]
async fn a_read_that_hangs_is_overtaken() {
    let hangs = Arc::new(AtomicBool::new(false));
    let fixture = Fixture::start(hanging(&hangs), "{enabled: true, up_to: 2}", 256).await;
    fixture.read(200, 4).await;
    let before = fixture.counted(WON);
    hangs.store(true, Ordering::SeqCst);
    tokio::time::timeout(Duration::from_secs(20), fixture.read(1, 1)).await.expect("not for ever");
    assert!(!hangs.load(Ordering::SeqCst), "one hung");
    assert!(fixture.counted(WON) > before);
    let reads = fixture.server.counts().gets;
    assert_eq!(fixture.counted(SENT), reads as f64 - 201.0, "each is counted");
}

#[tokio::test]
async fn without_hedging_nothing_is_sent_again() {
    let hangs = Arc::new(AtomicBool::new(false));
    let fixture = Fixture::start(hanging(&hangs), "{enabled: false}", 256).await;
    fixture.read(200, 4).await;
    hangs.store(true, Ordering::SeqCst);
    let hung = tokio::time::timeout(Duration::from_secs(1), fixture.read(1, 1)).await;
    assert!(hung.is_err(), "it waits");
    assert_eq!(fixture.server.counts().gets, 201);
}

#[tokio::test]
async fn a_store_that_slows_down_gets_no_more_than_a_tenth_on_top() {
    // nearly all answers take longer than the quantile
    let settings = ServerSettings { latency: Duration::from_millis(8), ..Default::default() };
    let fixture = Fixture::start(settings, "{enabled: true, quantile: 0.01}", 256).await;
    fixture.read(1000, 32).await;
    let (sent, gets) = (fixture.counted(SENT), fixture.server.counts().gets);
    assert!(sent >= 50.0, "most reads are later than the fastest: {sent}");
    assert!(sent <= 100.0, "{sent} of 1000");
    assert!(gets <= 1100, "{gets}");
}

#[tokio::test]
async fn requests_at_once_are_bounded() {
    let latency = Duration::from_millis(20);
    let settings = ServerSettings { latency, ..ServerSettings::default() };
    let fixture = Fixture::start(settings, "{}", 4).await;
    let start = tokio::time::Instant::now();
    fixture.read(40, 40).await;
    assert!(start.elapsed() >= latency * 10, "four at a time: {:?}", start.elapsed());
}

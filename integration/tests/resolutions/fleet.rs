//! Gateways, simulated sidecars and queriers in this process, over real sockets on loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use block::config::ObjectStoreConfig;
use block::{BlockLocation, Bucket, BucketMetrics};
use http::Request;
use http_body_util::BodyExt;
use model::{BlockId, Clock, Labels, Resolution, SystemClock, TimeRange};
use parquet_block::ParquetBlockWriter;
use prometheus::Registry;
use query::{EndpointSettings, EndpointSpec, Querier};
use serde_json::Value;
use store::Gateway;
use storeapi::conformance::{Dataset, MemoryStore};
use storeapi::info::{Capabilities, InfoService};
use storeapi::server::StoreService;
use storeapi::{
    Coverage, FrameStream, LabelNamesRequest, LabelValuesRequest, Metadata, SeriesRequest, Spans,
    Store, StoreInfo,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tower::ServiceExt;
use tsdb::block_builder::{BlockBuilder, BlockIdentity};
use tsdb::meta::BlockMeta;

use super::downs;

/// The kind of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gateway,
    /// A gateway that does not report resolutions and ignores the spans to which coarser data is
    /// restricted.
    OldGateway,
    Sidecar,
    /// A sidecar that does not report resolutions and refuses matchers on external labels alone,
    /// like that of Thanos.
    OldSidecar,
}

/// A store and what it holds; sidecars hold one stretch of raw data.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) kind: Kind,
    pub(super) external: &'static [(&'static str, &'static str)],
    pub(super) held: Vec<(Resolution, TimeRange)>,
}

impl Holding {
    fn external(&self) -> Labels {
        Labels::from_pairs(self.external.iter().copied())
    }
}

/// A querier over stores; all end with the test's runtime.
pub(super) struct Fleet {
    querier: Router,
    _folder: tempfile::TempDir,
}

impl Fleet {
    pub(super) async fn start(stores: &[Holding]) -> Fleet {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let addresses = serve_all(stores, folder.path()).await;
        Fleet { querier: querier(&addresses, Labels::empty()).await.0, _folder: folder }
    }

    /// Each store has a querier of its own, which announces a label, below the one that is asked.
    pub(super) async fn start_stacked(stores: &[Holding]) -> Fleet {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut addresses = Vec::new();
        for (tier, address) in serve_all(stores, folder.path()).await.into_iter().enumerate() {
            let selector_labels = Labels::from_pairs([("tier", tier.to_string())]);
            addresses.push(serve(querier(&[address], selector_labels).await.1).await);
        }
        Fleet { querier: querier(&addresses, Labels::empty()).await.0, _folder: folder }
    }

    pub(super) async fn instant(&self, query: &str, time: i64, options: &[(&str, &str)]) -> Value {
        let time = (time / 1000).to_string();
        self.get("query", &[&[("query", query), ("time", &time)], options].concat()).await
    }

    /// Asks a range query: from, to, step.
    pub(super) async fn range(
        &self,
        query: &str,
        times: (i64, i64, i64),
        options: &[(&str, &str)],
    ) -> Value {
        let [start, end, step] = [times.0, times.1, times.2].map(|ms| (ms / 1000).to_string());
        let fields = [("query", query), ("start", &start), ("end", &end), ("step", &step)];
        self.get("query_range", &[&fields, options].concat()).await
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let encoded = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request =
            Request::get(format!("/api/v1/{path}?{}", fields.join("&"))).body(Body::empty());
        let response =
            self.querier.clone().oneshot(request.expect("a request")).await.expect("an answer");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))))
}

async fn serve(services: Routes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = tonic::transport::Server::builder().add_routes(services);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

async fn serve_all(stores: &[Holding], folder: &Path) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for (number, holding) in stores.iter().enumerate() {
        let store = match holding.kind {
            Kind::Gateway | Kind::OldGateway => {
                gateway(holding, &folder.join(number.to_string())).await
            }
            Kind::Sidecar | Kind::OldSidecar => sidecar(holding),
        };
        let store: Arc<dyn Store> = match holding.kind {
            Kind::OldGateway => Arc::new(OfBefore(store)),
            _ => store,
        };
        let info = InfoService::serve(Arc::clone(&store), Capabilities::STORE);
        addresses.push(serve(Routes::new(StoreService::serve(store)).add_service(info)).await);
    }
    addresses
}

/// A querier that has asked each endpoint what it holds, by HTTP and by StoreAPI.
async fn querier(addresses: &[SocketAddr], selector_labels: Labels) -> (Router, Routes) {
    let spec = |address: &SocketAddr| EndpointSpec {
        address: address.to_string(),
        ..EndpointSpec::default()
    };
    let settings = query::Settings {
        endpoints: EndpointSettings {
            specs: addresses.iter().map(spec).collect(),
            ..EndpointSettings::default()
        },
        replica_labels: vec!["replica".to_owned()],
        selector_labels,
        engine_threads: 1,
        ..query::Settings::default()
    };
    let querier = Querier::new(settings, &Registry::new(), clock()).expect("settings of a querier");
    let component = querier.into_component();
    let (mut served, work) = (component.served, component.run);
    tokio::spawn(work);
    let ready =
        tokio::time::timeout(Duration::from_secs(60), served.ready.wait_for(|ready| *ready)).await;
    ready.expect("the querier is ready soon").expect("the querier runs");
    (served.routes, served.services.expect("a querier serves StoreAPI").routes)
}

fn sidecar(holding: &Holding) -> Arc<dyn Store> {
    let [(Resolution::Raw, range)] = holding.held[..] else {
        panic!("a sidecar with {:?}", holding.held)
    };
    let mut store =
        MemoryStore::new(&Dataset { external: holding.external(), series: downs::series(range) });
    store.info.range = TimeRange::new(range.start, i64::MAX);
    store.info.tsdb_infos[0].range = store.info.range;
    store.info.tsdb_infos[0].coverage =
        (holding.kind == Kind::Sidecar).then(|| Coverage::raw(store.info.range));
    Arc::new(store)
}

async fn gateway(holding: &Holding, folder: &Path) -> Arc<dyn Store> {
    std::fs::create_dir_all(folder).expect("a folder for the bucket");
    let yaml = format!("type: FILESYSTEM\nconfig:\n  directory: '{}'\n", folder.display());
    let config =
        ObjectStoreConfig::parse(&yaml, &Default::default()).expect("a folder is a bucket");
    let metrics = BucketMetrics::new(&Registry::new()).expect("metrics");
    let bucket = config.build(metrics, clock()).expect("a bucket");
    for (number, (resolution, range)) in holding.held.iter().enumerate() {
        let id = BlockId::from_parts(range.end as u64, number as u128 + 1);
        match resolution {
            Resolution::Raw => write_raw(folder, id, *range, holding.external()),
            _ => write_downsampled(&bucket, (id, *resolution), *range, holding.external()).await,
        }
    }
    let gateway = Gateway::new(store::Settings::default(), bucket, &Registry::new(), clock())
        .expect("a gateway");
    gateway.sync().await.expect("the bucket can be listed");
    gateway.store()
}

fn write_raw(folder: &Path, id: BlockId, range: TimeRange, external: Labels) {
    let mut builder = BlockBuilder::new();
    for (labels, samples) in downs::series(range) {
        let (ts, values): (Vec<i64>, Vec<f64>) = samples.into_iter().unzip();
        builder.push_floats(&labels, &ts, &values).expect("samples in order");
    }
    let files = builder.finish(BlockIdentity { id, range, external_labels: Some(external) });
    files.expect("series in order").save(folder).expect("write the block");
}

async fn write_downsampled(
    bucket: &Bucket,
    (id, resolution): (BlockId, Resolution),
    range: TimeRange,
    external: Labels,
) {
    let location = BlockLocation::parquet(&external, resolution, id);
    let description = parquet_block::BlockDescription {
        version: parquet_block::FormatVersion::V2,
        id,
        resolution,
        external_labels: external.clone(),
        sources: vec![id],
    };
    let mut writer = ParquetBlockWriter::create(bucket.clone(), location.clone(), description);
    for (labels, samples) in downs::series(range) {
        writer
            .push_series(&labels, &downs::downsampled(&samples, resolution))
            .await
            .expect("series in order");
    }
    let mut meta = meta(id, resolution, range, &external);
    writer.finish().await.expect("the files are written").describe(&mut meta);
    bucket.put(&location.meta(), meta.to_json().into()).await.expect("write meta.json");
}

fn meta(id: BlockId, resolution: Resolution, range: TimeRange, external: &Labels) -> BlockMeta {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let labels: serde_json::Map<String, Value> =
        external.iter().map(|(n, v)| (text(n), text(v).into())).collect();
    let json = serde_json::json!({
        "ulid": id.to_string(), "minTime": range.start, "maxTime": range.end, "version": 1, "stats": {},
        "compaction": {"level": 1, "sources": [id.to_string()]},
        "thanos": {
            "version": 1, "labels": labels, "source": "compactor",
            "downsample": {"resolution": resolution.millis()},
        },
    });
    BlockMeta::from_json(json.to_string().as_bytes()).expect("a meta.json")
}

/// A store without the wire's additions for resolutions.
struct OfBefore(Arc<dyn Store>);

#[tonic::async_trait]
impl Store for OfBefore {
    async fn info(&self) -> storeapi::Result<StoreInfo> {
        let mut info = self.0.info().await?;
        info.tsdb_infos.iter_mut().for_each(|tsdb| tsdb.coverage = None);
        Ok(info)
    }

    async fn series(&self, request: SeriesRequest) -> storeapi::Result<FrameStream> {
        self.0.series(SeriesRequest { coarser_within: Spans::default(), ..request }).await
    }

    async fn label_names(&self, request: LabelNamesRequest) -> storeapi::Result<Metadata> {
        self.0.label_names(request).await
    }

    async fn label_values(&self, request: LabelValuesRequest) -> storeapi::Result<Metadata> {
        self.0.label_values(request).await
    }
}

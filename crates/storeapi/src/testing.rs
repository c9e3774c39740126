//! What the tests of this crate share: a clock on tokio's time, stores behind a real socket, stores
//! that misbehave.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use model::{Budget, SystemClock};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

use crate::client::{ClientSettings, GrpcStore};
use crate::conformance::MemoryStore;
use crate::fanout::{Endpoint, Fanout, FanoutSettings};
use crate::info::{Capabilities, InfoService};
use crate::server::StoreService;
use crate::{
    Error, Frame, FrameStream, Kind, LabelNamesRequest, LabelValuesRequest, Metadata, Result,
    SeriesRequest, Store, StoreInfo,
};

pub(crate) fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock::new(|span| Box::pin(tokio::time::sleep(span))))
}

/// Serves a store on loopback and connects to it.
pub(crate) async fn served(store: Arc<dyn Store>) -> Arc<GrpcStore> {
    served_as(store, Capabilities::STORE).await
}

/// The same for a process that says it offers something else.
pub(crate) async fn served_as(store: Arc<dyn Store>, offered: Capabilities) -> Arc<GrpcStore> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(StoreService::serve(Arc::clone(&store)))
        .add_service(InfoService::serve(store, offered))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    tokio::spawn(server);
    Arc::new(GrpcStore::new(&ClientSettings::new(address.to_string())).unwrap())
}

/// An endpoint in this process, which serves nothing but StoreAPI.
pub(crate) fn endpoint(address: &str, store: Arc<dyn Store>, info: StoreInfo) -> Arc<Endpoint> {
    let channel = Err(Error::new(Kind::Unavailable, "in memory"));
    let capabilities = Capabilities::STORE;
    Arc::new(Endpoint { address: address.to_owned(), store, info, capabilities, channel })
}

pub(crate) fn fanout_of(stores: Vec<MemoryStore>) -> Arc<Fanout> {
    let endpoints: Vec<_> = stores
        .into_iter()
        .enumerate()
        .map(|(i, store)| {
            let info = store.info.clone();
            endpoint(&format!("store-{i}"), Arc::new(store), info)
        })
        .collect();
    Arc::new(Fanout::new(Arc::new(endpoints), FanoutSettings::default(), clock()))
}

/// How a store fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoreFault {
    /// Every call is an error.
    Refuse,
    /// Some series, then an error.
    BreakOff,
    /// Labels are refused, and series after some, because the memory budget has no room.
    NoMemory,
    /// Some series, then nothing for ever.
    Hang,
    /// Some series, then a panic.
    Panic,
}

/// A store that fails in its own way.
pub(crate) struct Faulty {
    pub(crate) inner: MemoryStore,
    pub(crate) fault: StoreFault,
}

impl Faulty {
    fn refuse(&self) -> Result<()> {
        match self.fault {
            StoreFault::Refuse => Err(Error::new(Kind::Unavailable, "not today")),
            _ => Ok(()),
        }
    }

    fn take_memory(&self) -> Result<()> {
        match self.fault {
            StoreFault::NoMemory => Ok(Budget::new(1).reserve("an answer").grow(2)?),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn info(&self) -> Result<StoreInfo> {
        self.inner.info().await
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        self.refuse()?;
        let some = self.inner.series(request).await?.take(1);
        let fault = self.fault;
        let memory = self.take_memory();
        let end = stream::once(async move {
            memory?;
            match fault {
                StoreFault::Panic => panic!("a defect"),
                StoreFault::Hang => std::future::pending::<Result<Frame>>().await,
                StoreFault::Refuse | StoreFault::BreakOff | StoreFault::NoMemory => {
                    Err(Error::new(Kind::Unavailable, "connection lost"))
                }
            }
        });
        Ok(some.chain(end).boxed())
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        self.refuse()?;
        self.take_memory()?;
        self.inner.label_names(request).await
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        self.refuse()?;
        if matches!(self.fault, StoreFault::Hang) {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        self.inner.label_values(request).await
    }
}

/// A process that serves a store on this port, or on any for 0.
pub(crate) async fn process(
    store: Arc<dyn Store>,
    tls: Option<serve::ServerTls>,
    port: u16,
) -> serve::Server {
    let (patience, grace) = (serve::Patience::grpc(), Duration::ZERO);
    let http =
        serve::HttpSettings { address: "127.0.0.1:0".to_owned(), grace, config: None, patience };
    let address = format!("127.0.0.1:{port}");
    let grpc = serve::GrpcSettings { address, grace, tls, max_connection_age: None, patience };
    let registry = prometheus::Registry::new();
    let metrics = crate::server::ServerMetrics::new(&registry).expect("new metrics");
    let served = serve::Served {
        name: "test",
        routes: axum::Router::new(),
        services: Some(crate::server::services(store, Capabilities::STORE, metrics)),
        registry,
        budget: Budget::unlimited(),
        ready: tokio::sync::watch::channel(true).1,
    };
    let settings = serve::Settings { http, grpc: Some(grpc) };
    serve::Server::start(settings, served, clock()).await.expect("a server")
}

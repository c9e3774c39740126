//! Servers of StoreAPI that do what no store should.

use std::net::SocketAddr;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tsdb::chunk::XorEncoder;
use wire::thanos::info::info_server::{Info, InfoServer};
use wire::thanos::info::{InfoRequest, InfoResponse, StoreInfo};
use wire::thanos::series_response::Result as Part;
use wire::thanos::store_server::{Store, StoreServer};
use wire::thanos::{
    Chunk, Label, LabelNamesRequest, LabelNamesResponse, LabelSet, LabelValuesRequest,
    LabelValuesResponse, Series, SeriesBatch, SeriesRequest, SeriesResponse,
};
use wire::{AggrChunk, WindowChunks};

/// A server that behaves in one way whatever it is asked.
#[derive(Clone, Copy, Debug)]
pub struct HostileStore {
    pub name: &'static str,
    pub does: &'static str,
    pub must_hold: MustHold,
    /// The most MiB that it and a querier over it may take, of which this server takes a part.
    pub most_mib: usize,
    region: &'static str,
    label_sets: usize,
    parts: fn() -> BoxStream<'static, Part>,
    labels: fn() -> LabelTexts,
}

/// What must hold of an answer over such a server and an honest one, within a budget of 64 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MustHold {
    /// The honest one's data is whole. Of the other is said what is given here, in at most so many
    /// warnings.
    OthersWhole { said: &'static str, most_warnings: usize },
    /// It is not asked, and its health says why in these words.
    NotAsked { reason: &'static str },
    /// As `OthersWhole` where series are evaluated; that a chunk cannot be read is not seen before.
    /// Where partial answers are refused, the error says so.
    OthersEvaluated { said: &'static str },
    /// An answer with labels does not fit into the budget, which is an error with limit and cost.
    LabelsOverBudget,
}

/// Names or values, and warnings.
#[derive(Default)]
struct LabelTexts {
    values: Vec<Bytes>,
    warnings: Vec<Bytes>,
}

pub const STORES: &[HostileStore] = &[
    HostileStore {
        name: "endless_warnings",
        does: "sends a new warning, for ever",
        must_hold: MustHold::OthersWhole {
            said: "it sent more than 10000 warnings and infos",
            most_warnings: 52,
        },
        parts: || stream::iter(0u64..).map(|i| Part::Warning(text(i))).boxed(),
        ..HOSTILE
    },
    HostileStore {
        name: "endless_infos",
        does: "sends a new info, for ever",
        must_hold: MustHold::OthersWhole {
            said: "it sent more than 10000 warnings and infos",
            most_warnings: 2,
        },
        parts: || stream::iter(0u64..).map(|i| Part::Info(text(i))).boxed(),
        ..HOSTILE
    },
    HostileStore {
        name: "warnings_of_a_megabyte",
        does: "sends 500 warnings of a megabyte each",
        must_hold: MustHold::OthersWhole { said: "further warnings", most_warnings: 52 },
        parts: || stream::iter(0u64..500).map(|i| Part::Warning(long_text(i))).boxed(),
        ..HOSTILE
    },
    HostileStore {
        name: "endless_pieces",
        does: "sends one label set without chunks, for ever",
        must_hold: MustHold::OthersWhole {
            said: "came in more than 100000 pieces",
            most_warnings: 2,
        },
        parts: || stream::repeat_with(|| batch(1000, 0)).boxed(),
        ..HOSTILE
    },
    HostileStore {
        name: "endless_chunks",
        does: "sends one label set with chunks of 256 KiB, for ever",
        must_hold: MustHold::OthersWhole {
            said: "a quarter of the memory budget",
            most_warnings: 2,
        },
        parts: || stream::repeat_with(|| batch(1, 256 << 10)).boxed(),
        ..HOSTILE
    },
    HostileStore {
        name: "corrupt_chunk",
        does: "sends a chunk that ends before its samples do",
        must_hold: MustHold::OthersEvaluated { said: r#"region="hostile"}"# },
        parts: || stream::iter([batch(1, 0), one_chunk(raw_chunk(&[0, 200, 1]))]).boxed(),
        ..HOSTILE
    },
    HostileStore {
        name: "missing_aggregates",
        does: "sends a downsampled chunk without the aggregates that are needed",
        must_hold: MustHold::OthersEvaluated { said: r#"region="hostile"}"# },
        parts: || {
            let chunk = raw_chunk(&[0, 0]);
            let mut windows = WindowChunks::default();
            windows.aggregates[3] = chunk.raw;
            let windows = Some(Box::new(windows));
            stream::iter([one_chunk(AggrChunk { raw: None, windows, ..chunk })]).boxed()
        },
        ..HOSTILE
    },
    HostileStore {
        name: "many_label_warnings",
        does: "answers for labels with 200,000 warnings",
        must_hold: MustHold::OthersWhole { said: "further warnings", most_warnings: 52 },
        parts: || stream::iter(0u64..9000).map(|i| Part::Warning(text(i))).boxed(),
        labels: || LabelTexts {
            warnings: (0..200_000).map(text).collect(),
            ..LabelTexts::default()
        },
        ..HOSTILE
    },
    HostileStore {
        name: "many_label_values",
        does: "answers for labels with half a million values of 150 bytes",
        must_hold: MustHold::LabelsOverBudget,
        most_mib: 400,
        labels: || LabelTexts {
            values: (0..500_000).map(|i| Bytes::from(format!("{i:0>150}"))).collect(),
            ..LabelTexts::default()
        },
        ..HOSTILE
    },
    HostileStore {
        name: "many_label_sets",
        does: "says that it holds half a million label sets",
        must_hold: MustHold::NotAsked { reason: "500000 label sets, more than the limit of" },
        most_mib: 300,
        label_sets: 500_000,
        ..HOSTILE
    },
];

/// What a row does not change.
const HOSTILE: HostileStore = HostileStore {
    name: "hostile",
    does: "has nothing",
    must_hold: MustHold::OthersWhole { said: "", most_warnings: 0 },
    most_mib: 64,
    region: "hostile",
    label_sets: 1,
    parts: || stream::empty().boxed(),
    labels: LabelTexts::default,
};

/// A server that does as it should: it has ten series `up`, each with the sample 1 at 1,000 ms.
pub const HONEST: HostileStore = HostileStore {
    name: "honest",
    does: "answers",
    region: "honest",
    parts: || stream::iter((0..10).map(honest_series)).boxed(),
    labels: || LabelTexts {
        values: ["__name__", "job", "region"].map(Bytes::from).to_vec(),
        ..LabelTexts::default()
    },
    ..HOSTILE
};

/// A server that has as much to say of labels as fits into the budget: 50,000 series, and as many
/// names and values, of 200 bytes each.
pub const TALKATIVE: HostileStore = HostileStore {
    name: "talkative",
    does: "answers at length",
    region: "talkative",
    parts: || {
        let series = |i: usize| {
            let labels = vec![label("__name__", "up"), label("long", long_value(i))];
            Series { labels, chunks: Vec::new() }
        };
        let batch = move |i: usize| (i * 100..(i + 1) * 100).map(series).collect();
        stream::iter(0..500).map(move |i| Part::Batch(SeriesBatch { series: batch(i) })).boxed()
    },
    labels: || LabelTexts {
        values: (0..50_000).map(long_value).collect(),
        ..LabelTexts::default()
    },
    ..HOSTILE
};

fn long_value(i: usize) -> Bytes {
    Bytes::from(format!("{i:0>200}"))
}

fn honest_series(i: usize) -> Part {
    let mut samples = XorEncoder::new();
    samples.push(1000, 1.0);
    let raw = Chunk { data: samples.finish().into(), ..Chunk::default() };
    let chunk =
        AggrChunk { min_time: 1000, max_time: 1000, raw: Some(raw), ..AggrChunk::default() };
    let labels =
        vec![label("__name__", "up"), label("job", format!("{i}")), label("region", "honest")];
    Part::Series(Series { labels, chunks: vec![chunk] })
}

fn text(i: u64) -> Bytes {
    Bytes::from(format!("block {i} is broken"))
}

fn long_text(i: u64) -> Bytes {
    Bytes::from(format!("{i} {}", "x".repeat(1 << 20)))
}

fn label(name: &'static str, value: impl Into<Bytes>) -> Label {
    Label { name: Bytes::from_static(name.as_bytes()), value: value.into() }
}

/// So many pieces of one series, each with a chunk of so many bytes; 0 = none.
fn batch(pieces: usize, chunk_bytes: usize) -> Part {
    let chunks = match chunk_bytes {
        0 => Vec::new(),
        _ => vec![raw_chunk(&vec![0; chunk_bytes])],
    };
    Part::Batch(SeriesBatch { series: vec![hostile_series(chunks); pieces] })
}

fn one_chunk(chunk: AggrChunk) -> Part {
    Part::Series(hostile_series(vec![chunk]))
}

fn hostile_series(chunks: Vec<AggrChunk>) -> Series {
    Series { labels: vec![label("__name__", "up"), label("region", "hostile")], chunks }
}

fn raw_chunk(data: &[u8]) -> AggrChunk {
    let raw = Chunk { data: Bytes::copy_from_slice(data), ..Chunk::default() };
    AggrChunk { min_time: 900, max_time: 1000, raw: Some(raw), ..AggrChunk::default() }
}

impl HostileStore {
    /// Serves it on a free port of the loopback until the test's runtime ends.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn serve(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the listener has an address");
        let server = tonic::transport::Server::builder()
            .add_service(InfoServer::new(self))
            .add_service(StoreServer::new(self))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tokio::spawn(server);
        address
    }
}

#[tonic::async_trait]
impl Info for HostileStore {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let set = |i: usize| {
            let labels = match i {
                0 => vec![label("region", self.region)],
                _ => vec![label("tenant", format!("{i}"))],
            };
            LabelSet { labels }
        };
        let store = StoreInfo {
            min_time: 0,
            max_time: i64::MAX,
            supports_sharding: true,
            supports_without_replica_labels: true,
            ..StoreInfo::default()
        };
        Ok(Response::new(InfoResponse {
            label_sets: (0..self.label_sets).map(set).collect(),
            component_type: "store".to_owned(),
            store: Some(store),
            ..InfoResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl Store for HostileStore {
    type SeriesStream = BoxStream<'static, Result<SeriesResponse, Status>>;

    async fn series(
        &self,
        _: Request<SeriesRequest>,
    ) -> Result<Response<Self::SeriesStream>, Status> {
        let parts = (self.parts)().map(|part| Ok(SeriesResponse { result: Some(part) }));
        Ok(Response::new(parts.boxed()))
    }

    async fn label_names(
        &self,
        _: Request<LabelNamesRequest>,
    ) -> Result<Response<LabelNamesResponse>, Status> {
        let LabelTexts { values: names, warnings } = (self.labels)();
        Ok(Response::new(LabelNamesResponse { names, warnings, hints: None }))
    }

    async fn label_values(
        &self,
        _: Request<LabelValuesRequest>,
    ) -> Result<Response<LabelValuesResponse>, Status> {
        let LabelTexts { values, warnings } = (self.labels)();
        Ok(Response::new(LabelValuesResponse { values, warnings, hints: None }))
    }
}

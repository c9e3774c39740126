//! The seam between those who hold series and those who want them.

use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use merge::Series;
use model::{Labels, TimeRange};

use crate::{LabelNamesRequest, LabelValuesRequest, Result, SeriesRequest};

/// Which kind of process stands behind a store; spelt as Thanos spells it in `Info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ComponentType {
    Sidecar,
    Store,
    Receive,
    Rule,
    Query,
    Unknown,
}

impl ComponentType {
    pub fn as_str(self) -> &'static str {
        match self {
            ComponentType::Sidecar => "sidecar",
            ComponentType::Store => "store",
            ComponentType::Receive => "receive",
            ComponentType::Rule => "rule",
            ComponentType::Query => "query",
            ComponentType::Unknown => "unknown-store-api",
        }
    }

    pub fn from_name(name: &str) -> ComponentType {
        use ComponentType::*;
        [Sidecar, Store, Receive, Rule, Query].into_iter().find(|c| c.as_str() == name).unwrap_or(Unknown)
    }
}

impl fmt::Display for ComponentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One stretch of data behind a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsdbInfo {
    pub labels: Labels,
    pub range: TimeRange,
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    pub component: ComponentType,
    /// The external label sets of the data behind it. Empty: may hold anything.
    pub label_sets: Vec<Labels>,
    pub range: TimeRange,
    pub supports_sharding: bool,
    pub supports_without_replica_labels: bool,
    pub tsdb_infos: Vec<TsdbInfo>,
}

/// A piece of the answer to a [`SeriesRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Some series, in order. One series may go on in the next frame with the same labels.
    Series(Vec<Series>),
    /// Something is missing from the answer; says what.
    Warning(String),
    /// Something worth knowing that takes nothing away, such as a coarser resolution served.
    Info(String),
}

pub type FrameStream = BoxStream<'static, Result<Frame>>;

/// Sorted names or values, and what is missing from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Sorted, without doubles.
    pub values: Vec<String>,
    pub warnings: Vec<String>,
}

/// Something that holds series and answers for them.
///
/// Series come sorted by their final label set: external labels laid over, `without_replica_labels` taken away.
/// Chunks may reach beyond the range asked for and are never trimmed. Times and the rules of external labels, limits
/// and errors are those of Thanos' StoreAPI; the conformance suite holds every implementation to them.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What this store holds now; `Unavailable` until it is ready to answer.
    async fn info(&self) -> Result<StoreInfo>;

    /// Streams matching series. Dropping the stream ends the work behind it.
    async fn series(&self, request: SeriesRequest) -> Result<FrameStream>;

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata>;

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata>;
}

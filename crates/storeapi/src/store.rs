//! The seam between those who hold series and those who want them.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use merge::Series;
use model::{Labels, TimeRange};

use crate::{Coverage, LabelNamesRequest, LabelValuesRequest, Result, SeriesRequest};

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

    /// Whether all that such a process has is raw, even if it does not say so.
    pub fn is_raw_alone(self) -> bool {
        matches!(self, ComponentType::Sidecar | ComponentType::Receive | ComponentType::Rule)
    }

    pub fn from_name(name: &str) -> ComponentType {
        use ComponentType::*;
        [Sidecar, Store, Receive, Rule, Query]
            .into_iter()
            .find(|c| c.as_str() == name)
            .unwrap_or(Unknown)
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
    /// What of it is there at which resolution; `None` where the store does not say.
    pub coverage: Option<Coverage>,
    /// Names of labels of the set that series do not carry: those of queriers, which are only
    /// announced.
    pub announced: Vec<String>,
}

impl TsdbInfo {
    /// Of a store that does not say which resolutions it has.
    pub fn new(labels: Labels, range: TimeRange) -> TsdbInfo {
        TsdbInfo { labels, range, coverage: None, announced: Vec::new() }
    }

    #[must_use]
    pub fn with_coverage(self, coverage: Coverage) -> TsdbInfo {
        TsdbInfo { coverage: Some(coverage), ..self }
    }
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

impl StoreInfo {
    /// The label sets of which the store tells no more, for which it may have data at any time. One
    /// without any label set may have data of any.
    pub(crate) fn untold(&self) -> Vec<TsdbInfo> {
        let told: HashSet<&Labels> = self.tsdb_infos.iter().map(|tsdb| &tsdb.labels).collect();
        let anything = self.label_sets.is_empty().then(Labels::empty);
        let untold =
            self.label_sets.iter().cloned().chain(anything).filter(|labels| !told.contains(labels));
        untold.map(|labels| TsdbInfo::new(labels, self.range)).collect()
    }

    /// The same store, which is still to be asked but not to be relied upon: nobody need hold back
    /// because of what it has.
    #[must_use]
    pub fn covering_nothing(mut self) -> StoreInfo {
        self.tsdb_infos.extend(self.untold());
        self.tsdb_infos.iter_mut().for_each(|tsdb| tsdb.coverage = Some(Coverage::default()));
        self
    }
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
/// Series come sorted by their final label set: external labels laid over, `without_replica_labels`
/// taken away. Chunks may reach beyond the range asked for and are never trimmed. Times and the
/// rules of external labels, limits and errors are those of Thanos' StoreAPI; the conformance suite
/// holds every implementation to them.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What this store holds now; `Unavailable` until it is ready to answer.
    async fn info(&self) -> Result<StoreInfo>;

    /// Streams matching series. Dropping the stream ends the work behind it.
    async fn series(&self, request: SeriesRequest) -> Result<FrameStream>;

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata>;

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata>;
}

//! The seam between what holds series and what reads them.

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

    /// Whether such a process has only raw data, even if it does not say so.
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
    /// Which parts of it exist at which resolution; `None` where the store does not say.
    pub coverage: Option<Coverage>,
    /// Names of labels in the set that series do not carry: those of queriers, which are only
    /// announced.
    pub announced: Vec<String>,
}

impl TsdbInfo {
    /// For a store that does not say which resolutions it has.
    pub fn new(labels: Labels, range: TimeRange) -> TsdbInfo {
        TsdbInfo { labels, range, coverage: None, announced: Vec::new() }
    }

    #[must_use]
    pub fn with_coverage(self, coverage: Coverage) -> TsdbInfo {
        TsdbInfo { coverage: Some(coverage), ..self }
    }
}

/// How a store describes itself.
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
    /// The label sets about which the store says no more, and for which it may have data at any
    /// time. A store without any label set may have data of any.
    pub(crate) fn untold(&self) -> Vec<TsdbInfo> {
        let told: HashSet<&Labels> = self.tsdb_infos.iter().map(|tsdb| &tsdb.labels).collect();
        let anything = self.label_sets.is_empty().then(Labels::empty);
        let untold =
            self.label_sets.iter().cloned().chain(anything).filter(|labels| !told.contains(labels));
        untold.map(|labels| TsdbInfo::new(labels, self.range)).collect()
    }

    /// The same store, to be asked but not relied upon: other stores are asked as if it had
    /// nothing.
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
    /// Some series, in order. A series may continue in the next frame, with the same labels.
    Series(Vec<Series>),
    /// Names something that is missing from the answer.
    Warning(String),
    /// Something worth knowing although nothing is missing, such as that a coarser resolution was
    /// served.
    Info(String),
}

pub type FrameStream = BoxStream<'static, Result<Frame>>;

/// Sorted names or values, and what is missing from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Sorted, without duplicates.
    pub values: Vec<String>,
    pub warnings: Vec<String>,
}

impl Metadata {
    /// Bytes it takes in memory, roughly.
    pub fn weight(&self) -> u64 {
        self.values.iter().chain(&self.warnings).map(|text| text_weight(text)).sum()
    }
}

/// Bytes that a name or value takes where many are held, roughly.
pub fn text_weight(text: &str) -> u64 {
    /// What the allocator and a set take for each.
    const OVERHEAD: usize = 24;
    (size_of::<String>() + text.len() + OVERHEAD) as u64
}

/// Something that holds series and answers for them.
///
/// Series come sorted by their final label set: external labels added, `without_replica_labels`
/// removed. Chunks may reach beyond the range asked for and are never trimmed. Times and the rules
/// of external labels, limits and errors are those of Thanos' StoreAPI; the conformance suite holds
/// every implementation to them.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What this store holds now; `Unavailable` until it is ready to answer.
    async fn info(&self) -> Result<StoreInfo>;

    /// Streams matching series. Dropping the stream ends the work behind it.
    async fn series(&self, request: SeriesRequest) -> Result<FrameStream>;

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata>;

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata>;
}

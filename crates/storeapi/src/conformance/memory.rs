//! A store over series in memory.

use async_trait::async_trait;
use futures::{StreamExt, stream};
use merge::{ChunkCutter, SampleRef, Series, SeriesChunk};
use model::{Labels, Matcher, TimeRange};

use super::Dataset;
use crate::{
    ComponentType, Error, Frame, FrameStream, Kind, LabelChange, LabelNamesRequest,
    LabelValuesRequest, Metadata, Result, SeriesRequest, Store, StoreInfo, TsdbInfo,
    match_external,
};

/// Encodes samples as chunks of at most 120.
pub fn float_series(labels: Labels, samples: &[(i64, f64)]) -> Series {
    let mut cutter = ChunkCutter::new();
    for (t, value) in samples {
        cutter.push(*t, SampleRef::Float(*value)).expect("floats always fit");
    }
    Series { labels, chunks: cutter.finish() }
}

/// Series held in memory, served as a sidecar would.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    external: Labels,
    series: Vec<Series>,
    /// What the store claims to be able to do.
    pub info: StoreInfo,
}

impl MemoryStore {
    pub fn new(data: &Dataset) -> MemoryStore {
        let series: Vec<Series> =
            data.series.iter().map(|(l, samples)| float_series(l.clone(), samples)).collect();
        MemoryStore::from_series(data.external.clone(), series)
    }

    /// Series with chunks of any kind, labelled without the external labels.
    pub fn from_series(external: Labels, mut series: Vec<Series>) -> MemoryStore {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let chunks = || series.iter().flat_map(|s| &s.chunks);
        let range = match (chunks().map(|c| c.min_time).min(), chunks().map(|c| c.max_time).max()) {
            (Some(min), Some(max)) => TimeRange::from_closed(min, max),
            _ => TimeRange::ALL,
        };
        let info = StoreInfo {
            component: ComponentType::Sidecar,
            label_sets: vec![external.clone()],
            range,
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos: vec![TsdbInfo::new(external.clone(), range)],
        };
        MemoryStore { external, series, info }
    }

    /// Matching series with their final labels, sorted.
    fn select(&self, matchers: &[Matcher], range: TimeRange, remove: &[String]) -> Vec<Series> {
        let Some(matchers) = match_external(matchers, &self.external) else { return Vec::new() };
        let change = LabelChange::new(&self.external, remove);
        let hit = |s: &&Series| {
            matchers.iter().all(|m| m.matches(s.labels.get(&m.name).unwrap_or_default()))
        };
        let cut = |s: &Series| {
            let inside = |c: &&SeriesChunk| range.overlaps_closed(c.min_time, c.max_time);
            let replica = change.replica(&s.labels);
            let chunks =
                s.chunks.iter().filter(inside).cloned().map(|c| c.with_replica(replica)).collect();
            Series { labels: change.apply(&s.labels), chunks }
        };
        let mut all: Vec<Series> =
            self.series.iter().filter(hit).map(cut).filter(|s| !s.chunks.is_empty()).collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn info(&self) -> Result<StoreInfo> {
        Ok(self.info.clone())
    }

    async fn series(&self, request: SeriesRequest) -> Result<FrameStream> {
        let decided = match_external(&request.matchers, &self.external);
        if decided.is_some_and(|left| left.is_empty()) {
            return Err(Error::new(
                Kind::Invalid,
                "no matchers specified (excluding external labels)",
            ));
        }
        let supported = self.info.supports_without_replica_labels;
        let remove = if supported { &request.without_replica_labels[..] } else { &[] };
        let mut series = self.select(&request.matchers, request.range, remove);
        if let Some(shard) = request.shard.as_ref().filter(|_| self.info.supports_sharding) {
            series.retain(|s| shard.holds(&s.labels));
        }
        if request.limit > 0 {
            series.truncate(usize::try_from(request.limit).unwrap_or(usize::MAX));
        }
        if request.skip_chunks {
            series.iter_mut().for_each(|s| s.chunks.clear());
        }
        let frames: Vec<_> = series.chunks(2).map(|s| Ok(Frame::Series(s.to_vec()))).collect();
        Ok(stream::iter(frames).boxed())
    }

    async fn label_names(&self, request: LabelNamesRequest) -> Result<Metadata> {
        let series = self.select(&request.matchers, request.range, &request.without_replica_labels);
        let names = series
            .iter()
            .flat_map(|s| s.labels.iter().map(|(name, _)| name.to_vec()).collect::<Vec<_>>());
        Ok(metadata(names, request.limit))
    }

    async fn label_values(&self, request: LabelValuesRequest) -> Result<Metadata> {
        if request.label.is_empty() {
            return Err(Error::new(Kind::Invalid, "label name parameter cannot be empty"));
        }
        let series = self.select(&request.matchers, request.range, &request.without_replica_labels);
        let values = series.iter().filter_map(|s| s.labels.get(&request.label).map(<[u8]>::to_vec));
        Ok(metadata(values, request.limit))
    }
}

fn metadata(texts: impl Iterator<Item = Vec<u8>>, limit: u64) -> Metadata {
    let mut values: Vec<String> = texts.map(|t| String::from_utf8_lossy(&t).into_owned()).collect();
    values.sort_unstable();
    values.dedup();
    if limit > 0 {
        values.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Metadata { values, warnings: Vec::new() }
}

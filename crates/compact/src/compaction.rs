//! Makes one block of several: reads them by ranges, merges series by series, writes by parts.

use std::collections::BTreeSet;
use std::sync::Arc;

use block::{BlockLocation, Bucket};
use futures::TryStreamExt;
use merge::Vertical;
use model::{BlockId, Labels};
use serde_json::{Map, Value};
use tsdb::meta::{BlockDesc, BlockMeta, Compaction, Downsample, SOURCE_COMPACTOR, Thanos};

use crate::commit::{Committed, commit, is_committed};
use crate::identity::{Identity, OutputFormat};
use crate::merged::Inputs;
use crate::output::{TsdbOutput, Written, segment_names};
use crate::{Error, Result};

/// Blocks to merge and how.
pub(crate) struct Job<'a> {
    /// Of one group and one resolution.
    pub(crate) blocks: &'a [Arc<BlockMeta>],
    /// External labels of the output: those of the group.
    pub(crate) labels: &'a Labels,
    pub(crate) how: Vertical,
}

/// What became of a job.
pub(crate) struct Done {
    /// `None` when the inputs hold no samples: then they are only to be deleted.
    pub(crate) output: Option<Arc<BlockMeta>>,
    pub(crate) overlapping: bool,
}

impl Job<'_> {
    pub(crate) async fn run(&self, bucket: &Bucket) -> Result<Done> {
        let id = self.output_id();
        let location = BlockLocation::tsdb(id);
        let overlapping = self.overlapping();
        if let Some(meta) = is_committed(bucket, &location).await? {
            tracing::info!(block = %id, "the output is there already");
            return Ok(Done { output: Some(Arc::new(meta)), overlapping });
        }
        let inputs = Inputs::new(bucket, self.blocks, self.how);
        let mut output = TsdbOutput::create(bucket, id, inputs.symbols().await?)?;
        let mut series = inputs.series().await?;
        while let Some((labels, chunks)) = series.try_next().await? {
            output.push(&labels, &chunks).await?;
        }
        let written = output.finish().await?;
        if written.stats.num_samples == 0 {
            block::upload::delete_block(bucket, &location).await?;
            return Ok(Done { output: None, overlapping });
        }
        let meta = self.meta(id, &written);
        check(&meta, self.blocks)?;
        if commit(bucket, &written.location, &meta).await? == Committed::AlreadyThere {
            tracing::info!(block = %id, "another compactor wrote the same block");
        }
        Ok(Done { output: Some(Arc::new(meta)), overlapping })
    }

    fn output_id(&self) -> BlockId {
        let parents: Vec<_> = self.blocks.iter().map(|b| b.ulid).collect();
        let settings = match self.how {
            Vertical::Chain => "dedup=",
            Vertical::Penalty => "dedup=penalty",
        };
        Identity {
            parents: &parents,
            group_labels: self.labels,
            resolution: self.blocks[0].resolution(),
            format: OutputFormat::Tsdb,
            settings,
        }
        .block_id()
    }

    fn overlapping(&self) -> bool {
        let mut sorted: Vec<_> = self.blocks.iter().map(|b| b.range()).collect();
        sorted.sort_by_key(|r| r.start);
        sorted.windows(2).any(|pair| pair[0].overlaps(pair[1]))
    }

    fn meta(&self, id: BlockId, written: &Written) -> BlockMeta {
        let mut parents: Vec<_> = self.blocks.iter().map(|b| descriptor(b)).collect();
        parents.sort_by_key(|p| (p.min_time, p.ulid));
        let sources: BTreeSet<BlockId> = self.blocks.iter().flat_map(|b| b.sources().to_vec()).collect();
        let level = self.blocks.iter().map(|b| b.compaction.level).max().unwrap_or(0) + 1;
        let thanos = Thanos {
            version: 1,
            labels: text_labels(self.labels),
            downsample: Downsample { resolution: self.blocks[0].resolution().millis() },
            source: SOURCE_COMPACTOR.into(),
            segment_files: segment_names(&written.files),
            files: written.files.clone(),
            index_stats: Some(written.index_stats),
            extensions: common_extensions(self.blocks),
            ..Thanos::default()
        };
        BlockMeta {
            ulid: id,
            min_time: self.blocks.iter().map(|b| b.min_time).min().unwrap_or(0),
            max_time: self.blocks.iter().map(|b| b.max_time).max().unwrap_or(0),
            stats: written.stats.clone(),
            compaction: Compaction { level, sources: sources.into_iter().collect(), parents, ..Compaction::default() },
            version: 1,
            thanos: Some(thanos),
            format: None,
            unknown: Map::new(),
        }
    }
}

fn descriptor(block: &BlockMeta) -> BlockDesc {
    BlockDesc { ulid: block.ulid, min_time: block.min_time, max_time: block.max_time }
}

pub(crate) fn text_labels(labels: &Labels) -> std::collections::BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    labels.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// Extensions that every input has, as the first has them.
fn common_extensions(blocks: &[Arc<BlockMeta>]) -> Option<Value> {
    let of = |b: &Arc<BlockMeta>| match b.thanos.as_ref()?.extensions.clone()? {
        Value::Object(map) => Some(map),
        _ => None,
    };
    let mut common = of(blocks.first()?)?;
    for block in &blocks[1..] {
        let other = of(block).unwrap_or_default();
        common.retain(|key, _| other.contains_key(key));
    }
    (!common.is_empty()).then_some(Value::Object(common))
}

/// What must hold of an output before it may replace its inputs.
fn check(meta: &BlockMeta, inputs: &[Arc<BlockMeta>]) -> Result<()> {
    let samples: u64 = inputs.iter().map(|b| b.stats.num_samples).sum();
    let known = inputs.iter().all(|b| b.stats.num_samples > 0);
    if known && meta.stats.num_samples > samples {
        let reason = format!("{} samples came out of {samples}", meta.stats.num_samples);
        return Err(Error::Refused { id: meta.ulid, reason });
    }
    Ok(())
}

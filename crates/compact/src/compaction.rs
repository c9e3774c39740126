//! Makes one block from several: reads them by ranges, merges series by series, uploads in parts.

use std::collections::BTreeSet;
use std::sync::Arc;

use block::invariants::Made;
use block::sync::SyncedBlock;
use block::{BlockLocation, Bucket, HeaderCache};
use futures::{StreamExt, TryStreamExt};
use merge::{Dedup, SeriesChunk};
use model::{BlockId, Labels};
use serde_json::{Map, Value};
use tsdb::meta::{BlockDesc, BlockMeta, Compaction, Downsample, SOURCE_COMPACTOR, Thanos};

use crate::commit::{Committed, commit};
use crate::error::Case;
use crate::identity::{Identity, OutputFormat, Parent};
use crate::merged::{InputBlock, InputBlocks, in_order};
use crate::output::{TsdbOutput, Written, segment_names};
use crate::place::{MAX_REDO, OutputPlace, Row, is_going, read_back};
use crate::{Error, Result};

/// Blocks to merge and how.
pub(crate) struct CompactionJob<'a> {
    /// Blocks of one group and one resolution.
    pub(crate) blocks: &'a [SyncedBlock],
    /// External labels of the output: those of the group.
    pub(crate) labels: &'a Labels,
    pub(crate) how: Dedup,
    /// Also merge blocks that contradict each other.
    pub(crate) merge_conflicting: bool,
    /// Of the bytes of the output.
    pub(crate) encoder_version: u32,
}

/// What became of a job.
pub(crate) struct Done {
    /// `None` when the inputs hold no samples; then they only have to be deleted.
    pub(crate) output: Option<Arc<BlockMeta>>,
    pub(crate) overlapping: bool,
    /// Whether an earlier run, or another compactor, had written the output.
    pub(crate) was_there: bool,
}

impl CompactionJob<'_> {
    /// Writes the output and reads it back, so that the inputs may be marked for deletion.
    ///
    /// # Errors
    /// The bucket fails, an input is damaged, or the blocks are not of one server; then nothing is
    /// committed.
    pub(crate) async fn run(&self, bucket: &Bucket) -> Result<Done> {
        let overlapping = self.overlapping();
        let inputs = InputBlock::open_all(bucket, self.blocks).await?;
        let parents: Vec<Parent> = inputs.iter().map(InputBlock::parent).collect();
        let location = |redo| BlockLocation::tsdb(self.output_id(&parents, redo));
        let is_ours = |found: &BlockMeta| self.is_output(found);
        let id = match (Row { location: &location, is_ours: &is_ours }).find(bucket).await? {
            OutputPlace::Taken(meta) => {
                return Ok(Done { output: Some(Arc::new(*meta)), overlapping, was_there: true });
            }
            OutputPlace::Free { redo } => self.output_id(&parents, redo),
        };
        let write = |headers| self.write(bucket, &inputs, id, headers);
        let written = in_order(inputs.len(), write).await?;
        if written.stats.num_samples == 0 {
            block::upload::delete_block(bucket, &written.location).await?;
            return Ok(Done { output: None, overlapping, was_there: false });
        }
        let meta = self.meta(id, &written);
        self.check_inputs_stay(bucket).await?;
        let inputs: Vec<&BlockMeta> = self.metas().map(|meta| &**meta).collect();
        let made =
            Made { location: &written.location, meta: &meta, labels: self.labels, inputs: &inputs };
        let committed = commit(bucket, &made).await?;
        read_back(bucket, &written.location, &meta).await?;
        let was_there = committed == Committed::AlreadyThere;
        Ok(Done { output: Some(Arc::new(meta)), overlapping, was_there })
    }

    /// Whether such an output of these inputs has the id, however many useless ones there are.
    pub(crate) fn gives_id(&self, parents: &[Parent], id: BlockId) -> bool {
        (0..MAX_REDO).any(|redo| self.output_id(parents, redo) == id)
    }

    /// Whether merging the inputs gives what is in a block, byte for byte. Nothing is written.
    ///
    /// # Errors
    /// The bucket fails, a block is damaged, or the inputs are not of one server.
    pub(crate) async fn merges_to(
        &self,
        bucket: &Bucket,
        inputs: &[InputBlock],
        output: &SyncedBlock,
    ) -> Result<bool> {
        // what was deleted of it later was deleted on purpose
        let whole = SyncedBlock { tombstones: None, ..output.clone() };
        let output = InputBlock::open(bucket, &whole).await?;
        let compare = |headers| self.compare(bucket, inputs, &output, headers);
        in_order(inputs.len() + 1, compare).await
    }

    async fn compare(
        &self,
        bucket: &Bucket,
        inputs: &[InputBlock],
        output: &InputBlock,
        headers: HeaderCache,
    ) -> Result<bool> {
        let stored = InputBlocks::new(bucket, std::slice::from_ref(output), self.how, &headers);
        let mut stored = stored.series().await?;
        let mut merged = self.merging(bucket, inputs, &headers).series().await?;
        while let Some((labels, chunks)) = merged.try_next().await? {
            // as they are written
            if chunks.is_empty() {
                continue;
            }
            let is_same = stored.try_next().await?.is_some_and(|(found, held)| {
                found == labels
                    && held.len() == chunks.len()
                    && held.iter().zip(&chunks).all(|(a, b)| equal(a, b))
            });
            if !is_same {
                return Ok(false);
            }
        }
        Ok(stored.try_next().await?.is_none())
    }

    fn merging(
        &self,
        bucket: &Bucket,
        inputs: &[InputBlock],
        headers: &HeaderCache,
    ) -> InputBlocks {
        let inputs = InputBlocks::new(bucket, inputs, self.how, headers);
        if self.must_agree() { inputs.refusing_conflicts() } else { inputs }
    }

    async fn write(
        &self,
        bucket: &Bucket,
        inputs: &[InputBlock],
        id: BlockId,
        headers: HeaderCache,
    ) -> Result<Written> {
        let mut inputs = self.merging(bucket, inputs, &headers);
        let mut output = TsdbOutput::create(bucket, id, inputs.symbols().await?)?;
        let mut series = inputs.series().await?;
        while let Some((labels, chunks)) = series.try_next().await? {
            output.push(&labels, &chunks).await?;
        }
        output.finish().await
    }

    /// Whether the blocks should be of one server: replicas, which differ in a label that was
    /// removed, need not agree.
    fn must_agree(&self) -> bool {
        let is_raw = self.blocks.iter().all(|b| b.resolution() == model::Resolution::Raw);
        let one_stream = self.blocks.iter().all(|b| b.meta.external_labels() == *self.labels);
        is_raw && one_stream && !self.merge_conflicting
    }

    /// An input that was marked meanwhile is meant to be gone: no new block with its samples may be
    /// made now.
    async fn check_inputs_stay(&self, bucket: &Bucket) -> Result<()> {
        /// How many marks are looked for at a time.
        const PARALLEL: usize = 16;
        let gone = |block: &SyncedBlock| {
            let (location, id) = (block.location.clone(), block.id());
            async move {
                let stays =
                    bucket.exists(&location.meta()).await? && !is_going(bucket, &location).await?;
                if stays { Ok(()) } else { Err(Error(Case::InputGone { id })) }
            }
        };
        let looks = self.blocks.iter().map(gone).collect::<Vec<_>>();
        futures::stream::iter(looks).buffer_unordered(PARALLEL).try_collect().await
    }

    fn output_id(&self, parents: &[Parent], redo: u32) -> BlockId {
        let settings = match self.how {
            Dedup::Chain => "dedup=",
            Dedup::Penalty => "dedup=penalty",
        };
        Identity {
            encoder_version: self.encoder_version,
            parents,
            group_labels: self.labels,
            resolution: self.blocks[0].resolution(),
            format: OutputFormat::Tsdb,
            settings,
            redo,
        }
        .block_id()
    }

    /// Whether a block with an id of ours was made of the same blocks.
    fn is_output(&self, found: &BlockMeta) -> bool {
        let ids: BTreeSet<BlockId> = found.compaction.parents.iter().map(|p| p.ulid).collect();
        ids == self.blocks.iter().map(SyncedBlock::id).collect::<BTreeSet<_>>()
    }

    fn metas(&self) -> impl Iterator<Item = &Arc<BlockMeta>> {
        self.blocks.iter().map(|b| &b.meta)
    }

    fn overlapping(&self) -> bool {
        let mut sorted: Vec<_> = self.metas().map(|b| b.range()).collect();
        sorted.sort_by_key(|r| r.start);
        sorted.windows(2).any(|pair| pair[0].overlaps(pair[1]))
    }

    fn meta(&self, id: BlockId, written: &Written) -> BlockMeta {
        let mut parents: Vec<_> = self.metas().map(|b| descriptor(b)).collect();
        parents.sort_by_key(|p| (p.min_time, p.ulid));
        let sources: BTreeSet<BlockId> =
            self.metas().flat_map(|b| b.sources().iter().copied()).collect();
        let level = self.metas().map(|b| b.compaction.level).max().unwrap_or(0).saturating_add(1);
        let thanos = Thanos {
            version: 1,
            labels: self.labels.to_text(),
            downsample: Downsample { resolution: self.blocks[0].resolution().millis() },
            source: SOURCE_COMPACTOR.into(),
            segment_files: segment_names(&written.files),
            files: written.files.clone(),
            index_stats: Some(written.index_stats),
            extensions: common_extensions(self.blocks),
            ..Thanos::default()
        };
        let mut meta = BlockMeta {
            ulid: id,
            min_time: self.metas().map(|b| b.min_time).min().unwrap_or(0),
            max_time: self.metas().map(|b| b.max_time).max().unwrap_or(0),
            stats: written.stats.clone(),
            compaction: Compaction {
                level,
                sources: sources.into_iter().collect(),
                parents,
                ..Compaction::default()
            },
            version: 1,
            thanos: Some(thanos),
            format: None,
            unknown: Map::new(),
        };
        meta.sign();
        meta
    }
}

/// Whether two chunks are stored as the same.
fn equal(a: &SeriesChunk, b: &SeriesChunk) -> bool {
    (a.min_time, a.max_time) == (b.min_time, b.max_time) && a.stored_form() == b.stored_form()
}

fn descriptor(block: &BlockMeta) -> BlockDesc {
    BlockDesc { ulid: block.ulid, min_time: block.min_time, max_time: block.max_time }
}

/// The extensions that every input has, with the values of the first.
fn common_extensions(blocks: &[SyncedBlock]) -> Option<Value> {
    let of = |b: &SyncedBlock| match b.meta.thanos.as_ref()?.extensions.clone()? {
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

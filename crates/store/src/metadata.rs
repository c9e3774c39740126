//! Names and values of labels.

use std::collections::{BTreeMap, BTreeSet};

use block::SeriesQuery;
use block::reader::ReaderSettings;
use futures::{StreamExt, TryStreamExt, stream};
use model::{Labels, Reservation, Resolution, TimeRange};
use storeapi::{
    Error, Frame, LabelNamesRequest, LabelValuesRequest, Metadata, Result, Spans, text_weight,
};

use crate::block_error::BlockError;
use crate::choice::WantedData;
use crate::context::RequestContext;
use crate::served::{PickedBlock, ServedBlocks};
use crate::source::{open_parquet, open_tsdb, tsdb_reader};
use crate::warnings::Warnings;

/// Blocks asked at a time.
const PARALLEL_BLOCKS: usize = 32;

type FoundNames = std::result::Result<Vec<String>, BlockError>;

/// What a block answered, charged until it is part of the union.
type BlockAnswer = std::result::Result<HeldNames, (BlockError, PickedBlock)>;

struct HeldNames {
    names: Vec<String>,
    _held: Reservation,
}

impl HeldNames {
    fn new(
        names: Vec<String>,
        context: &RequestContext,
    ) -> std::result::Result<HeldNames, BlockError> {
        let mut held = context.shared.budget.reserve("labels of a block");
        let weight = names.iter().map(|name| text_weight(name)).sum();
        held.grow(weight).map_err(Error::from)?;
        Ok(HeldNames { names, _held: held })
    }
}

/// Labels are the same at every resolution: the finest has all series, and the others stand in
/// where it no longer exists.
pub(crate) fn everything(range: TimeRange) -> WantedData {
    WantedData { range, coarsest: Resolution::Raw, fallback: Spans::all() }
}

/// The names of labels, external ones too, of matching series.
pub(crate) async fn label_names(
    served: &ServedBlocks,
    request: LabelNamesRequest,
    context: &RequestContext,
) -> Result<Metadata> {
    let picks = served.pick(&request.matchers, &everything(request.range));
    let removed = &request.without_replica_labels;
    let one = |pick: PickedBlock| async move {
        let mut names = names_of(&pick, context).await.map_err(|e| (e, pick.clone()))?;
        if !names.is_empty() {
            names.extend(pick.block.labels.iter().map(|(name, _)| text(name)));
        }
        names.retain(|name| !removed.contains(name));
        HeldNames::new(names, context).map_err(|e| (e, pick))
    };
    let mut answers = stream::iter(picks).map(one).buffer_unordered(PARALLEL_BLOCKS);
    let mut union = Union::new(context);
    while let Some(answer) = answers.next().await {
        union.add(answer)?;
    }
    Ok(union.finish(request.limit))
}

/// The values of a label of matching series.
pub(crate) async fn label_values(
    served: &ServedBlocks,
    request: LabelValuesRequest,
    context: &RequestContext,
) -> Result<Metadata> {
    if request.without_replica_labels.contains(&request.label) {
        return Ok(Metadata::default());
    }
    let mut groups: BTreeMap<Labels, Vec<PickedBlock>> = BTreeMap::new();
    let mut inside = Vec::new();
    for pick in served.pick(&request.matchers, &everything(request.range)) {
        // an external label hides what blocks hold under its name
        if pick.block.labels.get(&request.label).is_some() {
            groups.entry(pick.block.labels.clone()).or_default().push(pick);
        } else {
            inside.push(pick);
        }
    }
    let label = &request.label;
    let mut union = Union::new(context);
    let values = |pick: PickedBlock| async move {
        let values = values_of(&pick, label, context).await;
        values.and_then(|values| HeldNames::new(values, context)).map_err(|e| (e, pick))
    };
    let mut inside = stream::iter(inside).map(values).buffer_unordered(PARALLEL_BLOCKS);
    while let Some(answer) = inside.next().await {
        union.add(answer)?;
    }
    let external = |(labels, picks)| external_value(label, labels, picks, context);
    let mut external = stream::iter(groups).map(external).buffer_unordered(PARALLEL_BLOCKS);
    while let Some(answers) = external.next().await {
        answers.into_iter().try_for_each(|answer| union.add(answer))?;
    }
    Ok(union.finish(request.limit))
}

/// The value of an external label, if one of the blocks that have it has a matching series.
async fn external_value(
    label: &str,
    labels: Labels,
    picks: Vec<PickedBlock>,
    context: &RequestContext,
) -> Vec<BlockAnswer> {
    let value = text(labels.get(label).unwrap_or_default());
    let mut answers = Vec::new();
    // one series anywhere is enough, and the newest blocks are most likely to be cached
    for pick in picks.into_iter().rev() {
        match any_series(&pick, context).await {
            Ok(false) => {}
            Ok(true) => {
                answers.push(HeldNames::new(vec![value], context).map_err(|e| (e, pick)));
                break;
            }
            Err(e) => answers.push(Err((e, pick))),
        }
    }
    answers
}

async fn names_of(pick: &PickedBlock, context: &RequestContext) -> FoundNames {
    if pick.block.location.is_parquet() {
        return Ok(open_parquet(&pick.block, context).await?.label_names(&pick.matchers).await?);
    }
    let reader = tsdb_reader(&pick.block, context, ReaderSettings::default());
    open_tsdb(&reader, context).await?;
    Ok(reader.label_names(&pick.matchers).await?.iter().map(|name| text(name)).collect())
}

async fn values_of(pick: &PickedBlock, label: &str, context: &RequestContext) -> FoundNames {
    if pick.block.location.is_parquet() {
        return Ok(open_parquet(&pick.block, context)
            .await?
            .label_values(label, &pick.matchers)
            .await?);
    }
    let reader = tsdb_reader(&pick.block, context, ReaderSettings::default());
    open_tsdb(&reader, context).await?;
    Ok(reader.label_values(label, &pick.matchers).await?.iter().map(|value| text(value)).collect())
}

/// Whether the block has a matching series.
async fn any_series(
    pick: &PickedBlock,
    context: &RequestContext,
) -> std::result::Result<bool, BlockError> {
    /// One match is enough; it is likely among the first few.
    const FEW: usize = 64;
    if pick.matchers.is_empty() {
        return Ok(true);
    }
    let matchers = pick.matchers.to_vec();
    if pick.block.location.is_parquet() {
        let parquet = open_parquet(&pick.block, context).await?;
        let request = parquet_block::WindowQuery {
            matchers,
            range: pick.range,
            aggregates: Vec::new(),
            times: false,
            skip_chunks: true,
        };
        let mut batches = parquet.entries(&request, FEW);
        while let Some(batch) = batches.try_next().await? {
            if !batch.is_empty() {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let settings = ReaderSettings { batch_series: FEW, prefetch: 1, ..ReaderSettings::default() };
    let reader = tsdb_reader(&pick.block, context, settings);
    open_tsdb(&reader, context).await?;
    let mut entries =
        reader.entries(SeriesQuery { matchers, range: pick.range, skip_chunks: true });
    while let Some(batch) = entries.try_next().await? {
        if !batch.entries.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What blocks answered so far, charged to the budget; a failure is a warning or ends the request.
struct Union<'a> {
    context: &'a RequestContext,
    all: BTreeSet<String>,
    notes: Warnings,
    held: Reservation,
}

impl Union<'_> {
    fn new(context: &RequestContext) -> Union<'_> {
        let held = context.shared.budget.reserve("labels of an answer");
        Union { context, all: BTreeSet::new(), notes: Warnings::new(context.strategy), held }
    }

    fn add(&mut self, answer: BlockAnswer) -> Result<()> {
        match answer {
            Ok(found) => {
                for name in found.names {
                    if !self.all.contains(&name) {
                        self.held.grow(text_weight(&name))?;
                        self.all.insert(name);
                    }
                }
                Ok(())
            }
            Err((BlockError::Request(error), _)) => self.notes.fail(error),
            Err((error, pick)) => self.notes.fail(self.context.block_failed(&pick.block, &error)),
        }
    }

    /// Sorted, at most `limit` (0 = all).
    fn finish(mut self, limit: u64) -> Metadata {
        let mut values = Vec::from_iter(self.all);
        if limit > 0 {
            values.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let warnings = self.notes.take().into_iter().chain(self.notes.take_rest());
        Metadata { values, warnings: texts(warnings) }
    }
}

/// The texts of warnings.
pub(crate) fn texts(frames: impl IntoIterator<Item = Frame>) -> Vec<String> {
    let text = |frame| match frame {
        Frame::Warning(text) => Some(text),
        _ => None,
    };
    frames.into_iter().filter_map(text).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

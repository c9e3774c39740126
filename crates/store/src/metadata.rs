//! Names and values of labels.

use std::collections::{BTreeMap, BTreeSet};

use block::SeriesQuery;
use block::reader::ReaderSettings;
use futures::{StreamExt, TryStreamExt, stream};
use model::{Labels, Resolution, TimeRange};
use storeapi::{Frame, LabelNamesRequest, LabelValuesRequest, Metadata, Result, Spans};

use crate::block_error::BlockError;
use crate::catalog::{Catalog, PickedBlock};
use crate::choice::WantedData;
use crate::context::RequestContext;
use crate::source::{open_parquet, open_tsdb, tsdb_reader};
use crate::warnings::Warnings;

/// Blocks asked at a time.
const PARALLEL_BLOCKS: usize = 32;

type FoundNames = std::result::Result<Vec<String>, BlockError>;

/// Labels are the same at every resolution: the finest has all series, and the others stand in
/// where it no longer exists.
pub(crate) fn everything(range: TimeRange) -> WantedData {
    WantedData { range, coarsest: Resolution::Raw, fallback: Spans::all() }
}

/// The names of labels, external ones too, of matching series.
pub(crate) async fn label_names(
    catalog: &Catalog,
    request: LabelNamesRequest,
    context: &RequestContext,
) -> Result<Metadata> {
    let picks = catalog.pick(&request.matchers, &everything(request.range));
    let removed = &request.without_replica_labels;
    let one = |pick: PickedBlock| async move {
        let mut names = names_of(&pick, context).await.map_err(|e| (e, pick.clone()))?;
        if !names.is_empty() {
            names.extend(pick.block.labels.iter().map(|(name, _)| text(name)));
        }
        names.retain(|name| !removed.contains(name));
        Ok(names)
    };
    let answers =
        stream::iter(picks).map(one).buffer_unordered(PARALLEL_BLOCKS).collect::<Vec<_>>().await;
    union(answers, context, request.limit)
}

/// The values of a label of matching series.
pub(crate) async fn label_values(
    catalog: &Catalog,
    request: LabelValuesRequest,
    context: &RequestContext,
) -> Result<Metadata> {
    if request.without_replica_labels.contains(&request.label) {
        return Ok(Metadata::default());
    }
    let mut groups: BTreeMap<Labels, Vec<PickedBlock>> = BTreeMap::new();
    let mut inside = Vec::new();
    for pick in catalog.pick(&request.matchers, &everything(request.range)) {
        // an external label hides what blocks hold under its name
        if pick.block.labels.get(&request.label).is_some() {
            groups.entry(pick.block.labels.clone()).or_default().push(pick);
        } else {
            inside.push(pick);
        }
    }
    let label = &request.label;
    let values = |pick: PickedBlock| async move {
        values_of(&pick, label, context).await.map_err(|e| (e, pick))
    };
    let external = |(labels, picks): (Labels, Vec<PickedBlock>)| async move {
        let value = text(labels.get(label).unwrap_or_default());
        let mut answers = Vec::new();
        // one series anywhere is enough, and the newest blocks are most likely to be cached
        for pick in picks.into_iter().rev() {
            match any_series(&pick, context).await {
                Ok(false) => {}
                Ok(true) => {
                    answers.push(Ok(vec![value]));
                    break;
                }
                Err(e) => answers.push(Err((e, pick))),
            }
        }
        answers
    };
    let inside = stream::iter(inside)
        .map(values)
        .buffer_unordered(PARALLEL_BLOCKS)
        .collect::<Vec<_>>()
        .await;
    let external = stream::iter(groups)
        .map(external)
        .buffer_unordered(PARALLEL_BLOCKS)
        .collect::<Vec<_>>()
        .await;
    let answers = inside.into_iter().chain(external.into_iter().flatten()).collect();
    union(answers, context, request.limit)
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

/// Sorted, without duplicates; a failure is a warning or ends the request.
fn union(
    answers: Vec<std::result::Result<Vec<String>, (BlockError, PickedBlock)>>,
    context: &RequestContext,
    limit: u64,
) -> Result<Metadata> {
    let mut notes = Warnings::new(context.strategy);
    let mut all = BTreeSet::new();
    for answer in answers {
        match answer {
            Ok(found) => all.extend(found),
            Err((BlockError::Request(error), _)) => notes.fail(error)?,
            Err((error, pick)) => notes.fail(context.block_failed(&pick.block, &error))?,
        }
    }
    let mut values = Vec::from_iter(all);
    if limit > 0 {
        values.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(Metadata { values, warnings: texts(notes.take().into_iter().chain(notes.take_rest())) })
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

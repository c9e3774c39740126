//! Names and values of labels.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use futures::TryStreamExt;
use model::{Matcher, TimeRange};
use tsdb::index::IndexHeader;

use super::{BlockReader, EntryBatch, SeriesQuery, without_deleted};
use crate::{Error, Result};

/// The bytes that fetching a series entry costs, approximately.
const SERIES_COST: u64 = 128;

/// Postings of values fetched at a time, in bytes.
const POSTINGS_BATCH: u64 = 8 << 20;

impl BlockReader {
    /// Sorted names of the labels of matching series.
    pub async fn label_names(&self, matchers: &[Matcher]) -> Result<Vec<Vec<u8>>> {
        let header = self.header().await?;
        if matchers.is_empty() {
            return Ok(header.label_names().map(<[u8]>::to_vec).collect());
        }
        let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
        self.for_matching(matchers, |batch| {
            for (name, _) in batch.entries.iter().flat_map(|e| e.labels.iter()) {
                if !names.contains(name) {
                    names.insert(name.to_vec());
                }
            }
        })
        .await?;
        Ok(names.into_iter().collect())
    }

    /// Sorted values of a label of matching series.
    pub async fn label_values(&self, name: &str, matchers: &[Matcher]) -> Result<Vec<Vec<u8>>> {
        let header = self.header().await?;
        let name = name.as_bytes();
        if matchers.is_empty() {
            return Ok(header.label_values(name).map(|(value, _)| value.to_vec()).collect());
        }
        let postings: u64 =
            header.label_values(name).map(|(_, range)| range.end - range.start).sum();
        if postings == 0 {
            return Ok(Vec::new());
        }
        let (ids, residual) = self.find(&header, matchers).await?;
        if residual.is_empty() && postings < ids.len() as u64 * SERIES_COST {
            return self.values_by_postings(&header, name, &ids).await;
        }
        let mut values: BTreeSet<Vec<u8>> = BTreeSet::new();
        self.for_matching(matchers, |batch| {
            for value in batch.entries.iter().filter_map(|e| e.labels.get(name)) {
                if !values.contains(value) {
                    values.insert(value.to_vec());
                }
            }
        })
        .await?;
        Ok(values.into_iter().collect())
    }

    /// The values that have one of the series `ids`.
    async fn values_by_postings(
        &self,
        header: &Arc<IndexHeader>,
        name: &[u8],
        ids: &[u32],
    ) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        let mut batch: Vec<(Vec<u8>, Range<u64>)> = Vec::new();
        let mut bytes = 0;
        let mut all = header.label_values(name).peekable();
        while let Some((value, range)) = all.next() {
            bytes += range.end - range.start;
            batch.push((value.to_vec(), range));
            if bytes < POSTINGS_BATCH && all.peek().is_some() {
                continue;
            }
            bytes = 0;
            let (values, ranges): (Vec<_>, Vec<_>) = std::mem::take(&mut batch).into_iter().unzip();
            for (value, mut list) in values.into_iter().zip(self.fetch_postings(&ranges).await?) {
                tsdb::postings::intersect(&mut list, ids);
                if !list.is_empty() {
                    found.push(value);
                }
            }
        }
        Ok(found)
    }

    /// Reads labels only. A broken entry is an error here: otherwise the answer would lack names
    /// without any sign of it.
    async fn for_matching(
        &self,
        matchers: &[Matcher],
        mut each: impl FnMut(&EntryBatch),
    ) -> Result<()> {
        let query =
            SeriesQuery { matchers: matchers.to_vec(), range: TimeRange::ALL, skip_chunks: true };
        let mut batches = self.stored_entries(query).map_ok(without_deleted);
        while let Some(batch) = batches.try_next().await? {
            if let Some(error) = batch.errors.first() {
                return Err::<(), Error>(error.clone());
            }
            each(&batch);
        }
        Ok(())
    }
}

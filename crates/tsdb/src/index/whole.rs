//! An index that is in memory as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use model::Matcher;

use super::{HeaderLoader, IndexHeader, SeriesEntry, SeriesParser, parse_postings};
use crate::error::Error;

/// A whole index file, for small blocks and tests.
#[derive(Clone, Debug)]
pub struct Index {
    bytes: Bytes,
    header: Arc<IndexHeader>,
}

/// Reads series of an index; fastest in their order.
#[derive(Debug)]
pub struct SeriesReader {
    bytes: Bytes,
    parser: SeriesParser,
}

impl SeriesReader {
    pub fn series(&mut self, id: u32) -> Result<SeriesEntry, Error> {
        let at = self.parser.header().series_offset(id);
        self.parser.parse(id, from(&self.bytes, at))
    }
}

impl Index {
    pub fn open(bytes: Bytes) -> Result<Index, Error> {
        let mut loader = HeaderLoader::new(bytes.len() as u64)?;
        loop {
            let need = loader.need();
            if need.is_empty() {
                break;
            }
            let fetched: Vec<Bytes> =
                need.iter().map(|r| bytes.slice(r.start as usize..r.end as usize)).collect();
            loader.feed(&fetched)?;
        }
        Ok(Index { header: Arc::new(loader.finish()?), bytes })
    }

    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The ids of the series that satisfy all matchers, in the order of the block, which is that of
    /// their labels.
    pub fn postings(&self, matchers: &[Matcher]) -> Result<Vec<u32>, Error> {
        let plan = self.header.plan(matchers)?;
        let lists =
            plan.ranges().iter().map(|r| parse_postings(from(&self.bytes, r.start), r.start));
        let mut ids = plan.evaluate(lists.collect::<Result<_, _>>()?);
        if !plan.residual().is_empty() {
            let mut kept = Vec::with_capacity(ids.len());
            let mut reader = self.series_reader();
            for id in ids {
                let labels = reader.series(id)?.labels;
                if plan
                    .residual()
                    .iter()
                    .all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
                {
                    kept.push(id);
                }
            }
            ids = kept;
        }
        Ok(ids)
    }

    pub fn series_reader(&self) -> SeriesReader {
        SeriesReader {
            bytes: self.bytes.clone(),
            parser: SeriesParser::new(Arc::clone(&self.header)),
        }
    }

    /// One series; several are read faster by one [reader](Index::series_reader).
    pub fn series(&self, id: u32) -> Result<SeriesEntry, Error> {
        self.series_reader().series(id)
    }

    /// All series in order.
    pub fn all_series(&self) -> Result<impl Iterator<Item = Result<SeriesEntry, Error>>, Error> {
        let mut reader = self.series_reader();
        Ok(self.postings(&[])?.into_iter().map(move |id| reader.series(id)))
    }

    /// Sorted names of the labels of matching series.
    pub fn label_names(&self, matchers: &[Matcher]) -> Result<Vec<Vec<u8>>, Error> {
        if matchers.is_empty() {
            return Ok(self.header.label_names().map(<[u8]>::to_vec).collect());
        }
        let (mut names, mut reader) = (BTreeSet::new(), self.series_reader());
        for id in self.postings(matchers)? {
            names.extend(reader.series(id)?.labels.iter().map(|(name, _)| name.to_vec()));
        }
        Ok(names.into_iter().collect())
    }

    /// Sorted values of a label of matching series.
    pub fn label_values(&self, name: &str, matchers: &[Matcher]) -> Result<Vec<Vec<u8>>, Error> {
        if matchers.is_empty() {
            return Ok(self
                .header
                .label_values(name.as_bytes())
                .map(|(value, _)| value.to_vec())
                .collect());
        }
        let (mut values, mut reader) = (BTreeSet::new(), self.series_reader());
        for id in self.postings(matchers)? {
            values.extend(reader.series(id)?.labels.get(name).map(<[u8]>::to_vec));
        }
        Ok(values.into_iter().collect())
    }
}

/// From an offset, which may come from the file, to the end.
fn from(bytes: &Bytes, offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default()
}

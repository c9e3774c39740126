//! The files of a shard, and which of its series match.

use std::cell::Cell;
use std::ops::Range;

use arrow::array::ArrayRef;
use block::{MemoryTurn, MemoryTurns};
use model::Matcher;

use super::{SeriesEntry, WindowPlace};
use crate::error::{Case, Error};
use crate::file::{BlockFile, RowRanges};
use crate::labels::{SeriesRow, StringColumn, each_rest_label, read_labels, read_rows};
use crate::schema::{self, FormatVersion};
use crate::schema::{FIRST_ROW, HISTOGRAM_FIRST_ROW, HISTOGRAM_ROWS, MAX_T, MIN_T, ROWS};
use crate::v2::schema::{BUCKET_FIRST_ROW, BUCKET_ROWS, SCALE, SUM_BY_RANGE};

/// Columns of positions; a file of version 1 lacks some.
const POSITIONS: [&str; 10] = [
    FIRST_ROW,
    ROWS,
    MIN_T,
    MAX_T,
    HISTOGRAM_FIRST_ROW,
    HISTOGRAM_ROWS,
    BUCKET_FIRST_ROW,
    BUCKET_ROWS,
    SCALE,
    SUM_BY_RANGE,
];

/// What an entry takes in memory beside its labels while it is read, and usual labels.
const ENTRY_BYTES: u64 = 640;

/// The most bytes that one read takes of a sound block.
const MAX_READ: u64 = 1 << 30;

/// No series has more windows: those of 5 minutes in ten years.
const MAX_WINDOWS: i64 = 1 << 20;

pub(super) struct ShardFiles {
    pub(super) number: usize,
    pub(super) version: FormatVersion,
    pub(super) series: BlockFile,
    pub(super) samples: BlockFile,
    pub(super) histograms: Option<BlockFile>,
    /// Of format 2, if there are histograms.
    pub(super) buckets: Option<BlockFile>,
}

/// What reads are charged to, if to anything.
#[derive(Clone, Default)]
pub(super) struct Memory(pub(super) Option<MemoryTurns>);

impl Memory {
    /// The memory for a read of this file, which may have to wait for others.
    pub(super) async fn take(
        &self,
        file: &BlockFile,
        bytes: u64,
    ) -> Result<Option<MemoryTurn>, Error> {
        if bytes > MAX_READ {
            let reason = format!("by its footer, reading some of it takes {bytes} bytes");
            return Err(file.damaged(reason));
        }
        let Some(memory) = &self.0 else { return Ok(None) };
        let refused = |source| Error(Case::Memory { file: file.path().to_string(), source });
        memory.take("reading a block", bytes).await.map(Some).map_err(refused)
    }
}

impl ShardFiles {
    /// The rows of the series that satisfy all matchers.
    pub(super) async fn matching(
        &self,
        matchers: &[Matcher],
        memory: &Memory,
    ) -> Result<RowRanges, Error> {
        let mut rows: RowRanges = std::iter::once(0..self.series.rows()).collect();
        let mut matchers: Vec<&Matcher> = matchers.iter().collect();
        // What narrows most comes first, so that only few pages of the other columns are read.
        matchers.sort_by_key(|m| {
            (m.name != model::METRIC_NAME, m.set_matches().is_none(), m.matches_empty())
        });
        for same_label in matchers.chunk_by(|a, b| a.name == b.name) {
            if rows.iter().all(Range::is_empty) {
                return Ok(Vec::new());
            }
            rows = self.narrow(rows, same_label, memory).await?;
        }
        Ok(rows)
    }

    async fn narrow(
        &self,
        rows: RowRanges,
        matchers: &[&Matcher],
        memory: &Memory,
    ) -> Result<RowRanges, Error> {
        let name = &matchers[0].name;
        let empty = matchers.iter().all(|m| m.matches_empty());
        let column = format!("{}{name}", schema::LABEL_PREFIX);
        let own = self.series.schema().field_with_name(&column).is_ok();
        let rest = self.series.schema().field_with_name(schema::REST).is_ok();
        if !own && !rest {
            return Ok(if empty { rows } else { Vec::new() });
        }
        let columns = [if own { &column } else { schema::REST }];
        let found = count(&rows) * size_of::<Range<usize>>() as u64;
        let cost = self.series.cost(&columns, &rows).saturating_add(found);
        let _turn = memory.take(&self.series, cost).await?;
        let batch = self.series.read(&columns, &rows).await?;
        let kept = self.satisfying(batch.column(0), matchers, own)?;
        let kept = rows.into_iter().flatten().zip(kept).filter(|(_, k)| *k);
        Ok(ranges(kept.map(|(row, _)| row)))
    }

    /// Which rows of a column satisfy all matchers, which are of one label; the column is `own`ed
    /// by it, or has the labels without one.
    fn satisfying(
        &self,
        column: &ArrayRef,
        matchers: &[&Matcher],
        own: bool,
    ) -> Result<Vec<bool>, Error> {
        let damaged = |e| self.series.undecodable(e);
        let name = &matchers[0].name;
        let empty = matchers.iter().all(|m| m.matches_empty());
        let too_long = Cell::new(None);
        let keep = |value: &str| {
            matchers.iter().all(|matcher| {
                matcher.try_matches(value.as_bytes()).unwrap_or_else(|e| {
                    too_long.set(Some(e));
                    false
                })
            })
        };
        let kept = if own {
            StringColumn::new(column).map_err(damaged)?.filter(empty, keep)
        } else {
            let mut kept = vec![empty; column.len()];
            let set = |row: usize, n: &str, v: &str| {
                if n == name {
                    kept[row] = keep(v);
                }
            };
            each_rest_label(column, set).map_err(damaged)?;
            kept
        };
        match too_long.into_inner() {
            None => Ok(kept),
            Some(source) => {
                let file = self.series.path().to_string();
                Err(Error(Case::Value { file, source }))
            }
        }
    }

    /// The series of some rows.
    pub(super) async fn entries(
        &self,
        rows: &[Range<usize>],
        memory: &Memory,
    ) -> Result<Vec<SeriesEntry>, Error> {
        let columns: Vec<&str> = self.label_columns().chain(POSITIONS).collect();
        let cost = self.series.cost(&columns, rows).saturating_add(count(rows) * ENTRY_BYTES);
        let _turn = memory.take(&self.series, cost).await?;
        let batch = self.series.read(&columns, rows).await?;
        let damaged = |e| self.series.undecodable(e);
        let positions = read_rows(&batch).map_err(damaged)?;
        if let Some(reason) = positions.iter().find_map(implausible) {
            return Err(self.series.damaged(reason));
        }
        let labels = read_labels(&batch).map_err(damaged)?;
        let rows = rows.iter().cloned().flatten();
        let places = rows.zip(positions).map(|(row, position)| WindowPlace {
            shard: self.number,
            row,
            position,
        });
        let entry = |(labels, place)| SeriesEntry { labels, place };
        Ok(labels.into_iter().zip(places).map(entry).collect())
    }

    fn label_columns(&self) -> impl Iterator<Item = &str> {
        let fields = self.series.schema().fields().iter().map(|f| f.name().as_str());
        fields.filter(|n| {
            n.starts_with(schema::LABEL_PREFIX) || [schema::REST, schema::PACKED].contains(n)
        })
    }
}

/// Why a series cannot be what it says; memory would be taken for it.
fn implausible(position: &SeriesRow) -> Option<String> {
    let SeriesRow { rows, histogram_rows, .. } = *position;
    let most = rows.max(histogram_rows);
    (most > MAX_WINDOWS).then(|| format!("a series claims {most} windows"))
}

pub(super) fn count(rows: &[Range<usize>]) -> u64 {
    rows.iter().map(|range| range.len() as u64).sum()
}

/// Sorted rows as ranges.
fn ranges(rows: impl Iterator<Item = usize>) -> RowRanges {
    let mut out = RowRanges::new();
    for row in rows {
        match out.last_mut() {
            Some(last) if last.end == row => last.end = row + 1,
            _ => out.push(row..row + 1),
        }
    }
    out
}

//! From the chunks of a series to its samples: decode, choose the aggregate, stitch counters, deduplicate replicas.

use merge::{ChunkContent, Column, Floats, Series, SeriesChunk, ValueOf, overlap_split, read_run};
use model::{Sample, SampleValue, TimeRange};
use tsdb::chunk::{Encoding, decode_floats};

use crate::{Dedup, QueryError};

/// How the samples of a selector are read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The function over the selector, for the choice of aggregate and for messages.
    pub(crate) function: String,
    pub(crate) range: TimeRange,
    pub(crate) dedup: Dedup,
}

/// The aggregate of downsampled chunks that stands for samples under a function, as Thanos chooses it.
fn value_of(function: &str) -> ValueOf {
    match function {
        "rate" | "increase" | "irate" | "resets" | "xrate" | "xincrease" => ValueOf::Counter,
        f if f == "min" || f.starts_with("min_") => ValueOf::Min,
        f if f == "max" || f.starts_with("max_") => ValueOf::Max,
        f if f == "count" || f.starts_with("count_") => ValueOf::Count,
        // Not `sum` itself: that adds up averages.
        f if f.starts_with("sum_") => ValueOf::Sum,
        _ => ValueOf::Average,
    }
}

/// Reads one series after the other into the same buffers.
#[derive(Debug)]
pub(crate) struct Reader {
    reading: Reading,
    value: ValueOf,
    /// Replicas of counters are aligned where one takes over from the other.
    counter: bool,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

impl Reader {
    pub(crate) fn new(reading: Reading) -> Reader {
        let value = value_of(&reading.function);
        let counter = matches!(reading.function.as_str(), "rate" | "increase" | "irate" | "resets");
        Reader { reading, value, counter, times: Vec::new(), values: Vec::new() }
    }

    /// Leaves the samples of the series inside the range in `times` and `values`, stale markers included.
    pub(crate) fn read(&mut self, series: Series) -> Result<(), QueryError> {
        self.times.clear();
        self.values.clear();
        let mut chunks = series.chunks;
        chunks.retain(|c| self.reading.range.overlaps_closed(c.min_time, c.max_time));
        let failed = |e: &dyn std::fmt::Display| QueryError::Execution(format!("series {}: {e}", series.labels));
        if is_plain(&chunks) && !self.stitches_raw() {
            for chunk in &chunks {
                if let ChunkContent::Raw(raw) = &chunk.content {
                    decode_floats(raw.encoding, &raw.data, &mut self.times, &mut self.values)
                        .map_err(|e| failed(&e))?;
                }
            }
            self.trim();
        } else {
            match self.read_replicas(chunks).map_err(|e| failed(&e))? {
                Column::Floats(floats) => (self.times, self.values) = (floats.ts, floats.values),
                Column::Mixed(samples) => {
                    for sample in samples {
                        let SampleValue::Float(value) = sample.value else {
                            return Err(self.unsupported());
                        };
                        self.times.push(sample.t);
                        self.values.push(value);
                    }
                }
            }
        }
        if self.times.windows(2).any(|w| w[0] >= w[1]) {
            return Err(failed(&"its samples are out of order"));
        }
        Ok(())
    }

    fn unsupported(&self) -> QueryError {
        let by = match self.reading.function.as_str() {
            "" => "selectors".to_owned(),
            function => format!("{function}()"),
        };
        QueryError::Execution(format!("native histograms are not supported yet by {by}"))
    }

    /// Merging replicas evens out the resets of counters, so none is left to count, in Thanos as here.
    fn stitches_raw(&self) -> bool {
        self.reading.dedup != Dedup::Off && self.reading.function == "resets"
    }

    fn read_replicas(&self, chunks: Vec<SeriesChunk>) -> Result<Column, merge::Error> {
        if self.reading.dedup == Dedup::Off {
            let is_raw = |c: &SeriesChunk| matches!(c.content, ChunkContent::Raw(_));
            // Raw counters are left as they are; only `ValueOf::Counter` would change them.
            let value = if chunks.iter().all(is_raw) { ValueOf::Average } else { self.value };
            let mut column = read_run(&chunks, value)?;
            column.trim(self.reading.range);
            return Ok(column);
        }
        let mut replicas = Vec::new();
        for run in overlap_split(chunks) {
            let mut column = read_run(&run, self.value)?;
            column.trim(self.reading.range);
            replicas.push(column);
        }
        if replicas.len() == 1 {
            return Ok(replicas.swap_remove(0));
        }
        if replicas.iter().all(|r| matches!(r, Column::Floats(_))) {
            let floats: Vec<Floats> = replicas.into_iter().map(floats_of).collect();
            return Ok(Column::Floats(match self.reading.dedup {
                Dedup::Penalty => merge::penalty(floats, self.counter),
                Dedup::Chain | Dedup::Off => merge::chain(floats),
            }));
        }
        let samples: Vec<Vec<Sample>> = replicas.into_iter().map(Column::into_samples).collect();
        Ok(Column::Mixed(match self.reading.dedup {
            Dedup::Penalty => merge::penalty(samples, self.counter),
            Dedup::Chain | Dedup::Off => merge::chain(samples),
        }))
    }

    fn trim(&mut self) {
        let range = self.reading.range;
        let end = self.times.partition_point(|t| *t <= range.last());
        self.times.truncate(end);
        self.values.truncate(end);
        let start = self.times.partition_point(|t| *t < range.start);
        if start > 0 {
            self.times.drain(..start);
            self.values.drain(..start);
        }
    }

    /// Removes stale markers, which range functions do not see.
    pub(crate) fn drop_stale(&mut self) {
        if !self.values.iter().any(|v| model::is_stale_nan(*v)) {
            return;
        }
        let mut kept = 0;
        for i in 0..self.values.len() {
            if !model::is_stale_nan(self.values[i]) {
                self.times[kept] = self.times[i];
                self.values[kept] = self.values[i];
                kept += 1;
            }
        }
        self.times.truncate(kept);
        self.values.truncate(kept);
    }
}

fn floats_of(column: Column) -> Floats {
    match column {
        Column::Floats(floats) => floats,
        Column::Mixed(_) => Floats::default(),
    }
}

/// Raw float chunks one after the other: the shape of nearly all series.
fn is_plain(chunks: &[SeriesChunk]) -> bool {
    let raw = |c: &SeriesChunk| match &c.content {
        ChunkContent::Raw(raw) => matches!(raw.encoding, Encoding::Xor | Encoding::Xor2),
        ChunkContent::Aggregates(_) => false,
    };
    chunks.iter().all(raw) && chunks.windows(2).all(|w| w[0].max_time < w[1].min_time)
}

//! Reads the chunks of one run into one column.

use std::sync::Arc;

use model::{Resolution, Sample, SampleValue};
use tsdb::chunk::{Aggregate, decode_floats, decode_shared_histograms, reset_hint};

use crate::column::{Column, Floats, SampleColumn};
use crate::counter::{ChunkKind, CounterStitch, HistogramStitch};
use crate::error::{Case, Error};
use crate::replicas::GoesOn;
use crate::series::{ChunkBytes, ChunkContent, SeriesChunk};

/// Which value of a downsampled chunk stands for its samples. Raw chunks give their samples
/// whatever is asked for, except that [`ValueOf::Counter`] stitches them to downsampled ones beside
/// them, and [`ValueOf::Count`] counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueOf {
    /// How many samples there are: one per raw sample, whether float or histogram; stale markers
    /// stay.
    Count,
    Sum,
    Min,
    Max,
    /// For `rate`, `irate`, `increase`, `resets`: raw samples as they are; where there are
    /// downsampled chunks, one rising column, see [`CounterStitch`].
    Counter,
    /// Sum divided by count: for everything that names no aggregate.
    Average,
}

impl ValueOf {
    fn aggregate(self) -> (Aggregate, &'static str) {
        match self {
            ValueOf::Count => (Aggregate::Count, "count"),
            ValueOf::Sum | ValueOf::Average => (Aggregate::Sum, "sum"),
            ValueOf::Min => (Aggregate::Min, "min"),
            ValueOf::Max => (Aggregate::Max, "max"),
            ValueOf::Counter => (Aggregate::Counter, "counter"),
        }
    }
}

/// About how many samples a chunk has.
const SAMPLES_OF_A_CHUNK: usize = 128;

/// Decodes a run of chunks, sorted and usually without overlap
/// ([`overlap_split`](crate::overlap_split)), into one column. Where chunks reach into each other,
/// because they overlap or because a span does not cover all samples, the column has the times of
/// all, and for equal times the sample of the first chunk; of downsampled ones, every window once.
/// For a downsampled counter, and for chunks of other resolutions than those before, the part that
/// reaches back before the end of what came before is skipped.
pub fn read_run(chunks: &[SeriesChunk], value: ValueOf) -> Result<Column, Error> {
    read_run_while(chunks, value, &|_| true)
}

/// As [`read_run`]; some samples are missing once `goes_on` does not say so.
pub(crate) fn read_run_while(
    chunks: &[SeriesChunk],
    value: ValueOf,
    goes_on: GoesOn<'_>,
) -> Result<Column, Error> {
    let is_raw = |chunk: &SeriesChunk| matches!(chunk.content, ChunkContent::Raw(_));
    if value == ValueOf::Counter && !chunks.iter().all(is_raw) {
        return read_counter(chunks);
    }
    let mut column = Column::default();
    let mut alike = true;
    for chunk in chunks {
        let last = column.last_time();
        let before = column.len();
        // where they overlap, what is there is written once more
        let overlap = if last.is_some_and(|last| last >= chunk.min_time) { before } else { 0 };
        if !goes_on(SAMPLES_OF_A_CHUNK + overlap) {
            break;
        }
        read_chunk(chunk, value, &mut column)?;
        alike &= chunk.resolution() == chunks[0].resolution();
        match last {
            Some(last) if alike => weave(&mut column, before, last, chunk.resolution()),
            Some(last) => skip_overlap(&mut column, before, last),
            None => {}
        }
    }
    Ok(column)
}

/// Appends the samples of one chunk to `column`, without regard to what is there.
pub fn read_chunk(chunk: &SeriesChunk, value: ValueOf, column: &mut Column) -> Result<(), Error> {
    match (&chunk.content, value) {
        (ChunkContent::Raw(raw), ValueOf::Count) => append_ones(raw, column),
        (ChunkContent::Raw(raw), _) => append(raw, column),
        (ChunkContent::Aggregates(_), ValueOf::Average) => append_average(chunk, column),
        (ChunkContent::Aggregates(_), _) => append(wanted(chunk, value)?, column),
    }
}

fn wanted(chunk: &SeriesChunk, value: ValueOf) -> Result<&ChunkBytes, Error> {
    let (aggregate, name) = value.aggregate();
    chunk.aggregate(aggregate).ok_or(Error(Case::MissingAggregate { aggregate: name }))
}

fn append(chunk: &ChunkBytes, column: &mut Column) -> Result<(), Error> {
    if chunk.encoding.is_histogram() {
        let (mut ts, mut histograms) = (Vec::new(), Vec::new());
        decode_shared_histograms(
            chunk.encoding,
            &chunk.data,
            &mut ts,
            &mut histograms,
            &mut Vec::new(),
            |_, _| true,
        )?;
        let histograms = ts.into_iter().zip(histograms);
        column
            .mixed()
            .extend(histograms.map(|(t, h)| Sample { t, value: SampleValue::Histogram(h) }));
        return Ok(());
    }
    match column {
        Column::Floats(floats) => {
            decode_floats(chunk.encoding, &chunk.data, &mut floats.ts, &mut floats.values)?
        }
        Column::Mixed(samples) => {
            let mut floats = Floats::default();
            decode_floats(chunk.encoding, &chunk.data, &mut floats.ts, &mut floats.values)?;
            samples.extend(Column::Floats(floats).into_samples());
        }
    }
    Ok(())
}

/// One for each raw sample, so that counts of windows can be added to them.
fn append_ones(chunk: &ChunkBytes, column: &mut Column) -> Result<(), Error> {
    let mut samples = Column::default();
    append(chunk, &mut samples)?;
    let one = |value: f64| if model::is_stale_nan(value) { value } else { 1.0 };
    let mut ones = Floats::default();
    match samples {
        Column::Floats(floats) => {
            floats.ts.iter().zip(floats.values).for_each(|(t, v)| ones.push(*t, one(v)))
        }
        Column::Mixed(samples) => samples.iter().for_each(|sample| match &sample.value {
            SampleValue::Float(value) => ones.push(sample.t, one(*value)),
            SampleValue::Histogram(histogram) => ones.push(sample.t, one(histogram.sum)),
        }),
    }
    match column {
        Column::Floats(floats) => {
            floats.ts.append(&mut ones.ts);
            floats.values.append(&mut ones.values);
        }
        Column::Mixed(samples) => samples.extend(Column::Floats(ones).into_samples()),
    }
    Ok(())
}

fn append_average(chunk: &SeriesChunk, column: &mut Column) -> Result<(), Error> {
    let (mut counts, mut sums) = (Column::default(), Column::default());
    append(wanted(chunk, ValueOf::Count)?, &mut counts)?;
    append(wanted(chunk, ValueOf::Sum)?, &mut sums)?;
    let Column::Floats(counts) = counts else { return Err(Error(Case::CountSumDiffer)) };
    match sums {
        Column::Floats(mut sums) => {
            if sums.ts != counts.ts {
                return Err(Error(Case::CountSumDiffer));
            }
            sums.values.iter_mut().zip(&counts.values).for_each(|(sum, count)| *sum /= count);
            match column {
                Column::Floats(floats) => {
                    floats.ts.append(&mut sums.ts);
                    floats.values.append(&mut sums.values);
                }
                Column::Mixed(samples) => samples.extend(Column::Floats(sums).into_samples()),
            }
        }
        Column::Mixed(mut sums) => {
            if !sums.iter().map(|s| s.t).eq(counts.ts.iter().copied()) {
                return Err(Error(Case::CountSumDiffer));
            }
            for (sample, count) in sums.iter_mut().zip(&counts.values) {
                if let SampleValue::Histogram(sum) = &mut sample.value {
                    Arc::make_mut(sum).div(*count);
                }
            }
            column.mixed().append(&mut sums);
        }
    }
    Ok(())
}

/// Removes the samples from index `from` on that are not after `last`.
fn skip_overlap(column: &mut Column, from: usize, last: i64) {
    match column {
        Column::Floats(floats) => {
            let new =
                floats.ts[from..].iter().position(|t| *t > last).unwrap_or(floats.ts.len() - from);
            if new > 0 {
                floats.ts.drain(from..from + new);
                floats.values.drain(from..from + new);
            }
        }
        Column::Mixed(samples) => {
            let new =
                samples[from..].iter().position(|s| s.t > last).unwrap_or(samples.len() - from);
            samples.drain(from..from + new);
        }
    }
}

/// Moves the samples from index `from` on to their places; usually they are all after `last`, the
/// one before them.
fn weave(column: &mut Column, from: usize, last: i64, resolution: Resolution) {
    match column {
        Column::Floats(floats) => {
            if floats.ts[from..].first().is_some_and(|t| *t <= last) {
                weave_column(floats, from, resolution);
            }
        }
        Column::Mixed(samples) => {
            if samples[from..].first().is_some_and(|s| s.t <= last) {
                weave_column(samples, from, resolution);
            }
        }
    }
}

fn weave_column<C: SampleColumn>(column: &mut C, from: usize, resolution: Resolution) {
    let old = std::mem::take(column);
    // a batch's last window ends with its last sample, and another batch may continue to the
    // window's end
    let window = |i: usize| old.time(i).div_euclid(resolution.millis().max(1));
    let (mut i, mut j) = (0, from);
    // the one appended before, to recognise neighbours
    let mut before = None;
    while i < from || j < old.len() {
        let is_there = |j: usize| {
            (i > 0 && window(i - 1) == window(j)) || (i < from && window(i) == window(j))
        };
        if j < old.len() && is_there(j) {
            j += 1;
            continue;
        }
        let second = i >= from || (j < old.len() && old.time(j) < old.time(i));
        let at = if second { &mut j } else { &mut i };
        let taken = *at;
        *at += 1;
        column.push_from(&old, taken, before.is_some_and(|b: usize| b + 1 == taken));
        before = Some(taken);
    }
}

fn read_counter(chunks: &[SeriesChunk]) -> Result<Column, Error> {
    let (mut stitch, mut histograms) = (CounterStitch::new(), HistogramStitch::default());
    let (mut column, mut scratch) = (Column::default(), Floats::default());
    for chunk in chunks {
        let bytes = match &chunk.content {
            ChunkContent::Raw(raw) => raw,
            ChunkContent::Aggregates(_) => wanted(chunk, ValueOf::Counter)?,
        };
        if bytes.encoding.is_histogram() {
            let header = reset_hint(bytes.encoding, &bytes.data)?;
            let mut part = Column::default();
            append(bytes, &mut part)?;
            let mut part = part.into_samples();
            if histograms.stitch(&mut part, ChunkKind { header, resolution: chunk.resolution() }) {
                column.mixed().pop_if(|last| matches!(last.value, SampleValue::Histogram(_)));
            }
            // floats may reach further
            let last = column.last_time().unwrap_or(i64::MIN);
            column.mixed().extend(part.into_iter().filter(|sample| sample.t > last));
            column.last_time().into_iter().for_each(|last| stitch.pass(last));
            continue;
        }
        scratch.clear();
        decode_floats(bytes.encoding, &bytes.data, &mut scratch.ts, &mut scratch.values)?;
        match &mut column {
            Column::Floats(floats) => stitch.push_chunk(&scratch.ts, &scratch.values, floats),
            Column::Mixed(samples) => {
                let mut floats = Floats::default();
                stitch.push_chunk(&scratch.ts, &scratch.values, &mut floats);
                samples.extend(Column::Floats(floats).into_samples());
            }
        }
    }
    Ok(column)
}

#[cfg(test)]
mod tests;

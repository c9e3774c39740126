//! Native histogram windows: count, sum and counter per window; no minimum, no maximum, no raw border samples.

use std::ops::Range;

use bytes::Bytes;
use model::FloatHistogram;
use model::histogram::{HistogramError, ResetHint};
use tsdb::chunk::{Aggregate, Encoding, FloatHistogramEncoder, Pushed, decode_floats, decode_histograms};

use super::aggregate::encode_xor;
use super::{ASSUMED_RAW_INTERVAL_MS, batch_count, for_each_window, window_end};
use crate::error::Error;
use crate::series::{ChunkBytes, ChunkContent, SeriesChunk};

/// The windows of a histogram series in order of time, column by column, cut into batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramWindows {
    /// The last millisecond of the window, or the last sample of the batch.
    pub t: Vec<i64>,
    /// Samples, not observations.
    pub count: Vec<u32>,
    /// The sum of the samples; always a gauge.
    pub sum: Vec<FloatHistogram>,
    /// The running total since the batch began, resets added; of gauges, the last sample.
    pub counter: Vec<FloatHistogram>,
    /// The row of each batch's first window.
    pub batches: Vec<usize>,
}

impl HistogramWindows {
    pub fn len(&self) -> usize {
        self.t.len()
    }

    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    pub fn clear(&mut self) {
        let HistogramWindows { t, count, sum, counter, batches } = self;
        t.clear();
        count.clear();
        batches.clear();
        [sum, counter].into_iter().for_each(Vec::clear);
    }

    /// The rows of batch `b`.
    pub fn batch_rows(&self, b: usize) -> Range<usize> {
        self.batches[b]..self.batches.get(b + 1).copied().unwrap_or(self.len())
    }

    pub(super) fn batch_start(&self, b: usize) -> i64 {
        self.t[self.batches[b]]
    }

    /// Appends the AggrChunk of batch `b` to `chunks`; several, where a histogram cannot follow the one before it in a
    /// chunk. Thanos drops what went before then, which loses windows of 1h counters: a 5m counter starts anew in each
    /// batch, and nothing tells a histogram's last raw value.
    pub(super) fn encode_batch(
        &self,
        b: usize,
        wanted: &[Aggregate],
        chunks: &mut Vec<SeriesChunk>,
    ) -> Result<(), Error> {
        let Range { mut start, end } = self.batch_rows(b);
        // Gauges and known resets say so themselves.
        let mut header = ResetHint::NotReset;
        while start < end {
            let mut counter = encode_histograms(self, start..end, &self.counter, header)?;
            let sum = encode_histograms(self, start..start + counter.taken, &self.sum, ResetHint::Gauge)?;
            let rows = start..start + sum.taken;
            if sum.taken < counter.taken {
                counter = encode_histograms(self, rows.clone(), &self.counter, header)?;
            }
            header = counter.next_header;
            let counts = self.count[rows.clone()].iter().map(|c| f64::from(*c));
            let ts = self.t[rows.clone()].iter().copied();
            let mut parts = [const { None }; 5];
            parts[Aggregate::Count as usize] = Some(encode_xor(ts.zip(counts)));
            parts[Aggregate::Sum as usize] = Some(sum.bytes);
            parts[Aggregate::Counter as usize] = Some(counter.bytes);
            for aggregate in Aggregate::ALL.into_iter().filter(|a| !wanted.contains(a)) {
                parts[aggregate as usize] = None;
            }
            chunks.push(SeriesChunk::new(
                self.t[rows.start],
                self.t[rows.end - 1],
                ChunkContent::Aggregates(Box::new(parts)),
            ));
            start = rows.end;
        }
        Ok(())
    }

    /// Appends a batch that comes as an AggrChunk.
    pub(super) fn push_chunk(&mut self, chunk: &SeriesChunk) -> Result<(), Error> {
        let part = |aggregate| {
            let missing = || Error::Downsample("a downsampled histogram chunk lacks count, sum or counter".into());
            chunk.aggregate(aggregate).ok_or_else(missing)
        };
        let (mut ts, mut counts) = (Vec::new(), Vec::new());
        let count = part(Aggregate::Count)?;
        decode_floats(count.encoding, &count.data, &mut ts, &mut counts)?;
        let mut decoded = Vec::with_capacity(2);
        for aggregate in [Aggregate::Sum, Aggregate::Counter] {
            let (mut times, mut histograms) = (Vec::new(), Vec::new());
            let bytes = part(aggregate)?;
            decode_histograms(bytes.encoding, &bytes.data, &mut times, &mut histograms)?;
            if times != ts {
                return Err(Error::Downsample(
                    "a downsampled histogram chunk has aggregates at different times".into(),
                ));
            }
            decoded.push(histograms);
        }
        if ts.is_empty() {
            return Ok(());
        }
        self.batches.push(self.len());
        self.t.append(&mut ts);
        self.count.extend(counts.iter().map(|c| *c as u32));
        self.counter.extend(decoded.pop().into_iter().flatten());
        self.sum.extend(decoded.pop().into_iter().flatten());
        Ok(())
    }
}

pub(super) fn is_histogram_chunk(chunk: &SeriesChunk) -> bool {
    chunk.aggregate(Aggregate::Counter).is_some_and(|c| c.encoding.is_histogram())
}

struct EncodedHistograms {
    bytes: ChunkBytes,
    /// How many rows went into the chunk: at least one.
    taken: usize,
    /// What is known of a reset between them and the row after them.
    next_header: ResetHint,
}

/// One chunk of as many of `rows` as fit into one.
fn encode_histograms(
    windows: &HistogramWindows,
    rows: Range<usize>,
    column: &[FloatHistogram],
    header: ResetHint,
) -> Result<EncodedHistograms, Error> {
    let mut encoder = FloatHistogramEncoder::new(header);
    let (mut taken, mut next_header) = (0, ResetHint::NotReset);
    for row in rows {
        match encoder.push(windows.t[row], &column[row])? {
            Pushed::NewChunk(_) if taken == 0 => {
                return Err(Error::Downsample("a histogram that fits into no chunk".into()));
            }
            Pushed::NewChunk(next) => {
                next_header = next;
                break;
            }
            Pushed::Appended => taken += 1,
        }
    }
    let bytes = ChunkBytes { encoding: Encoding::FloatHistogram, data: Bytes::from(encoder.finish()) };
    Ok(EncodedHistograms { bytes, taken, next_header })
}

/// Raw histograms that are downsampled together: their buckets are of one kind, and if custom, have equal bounds.
#[derive(Debug, Default)]
pub(super) struct HistogramRun {
    ts: Vec<i64>,
    histograms: Vec<FloatHistogram>,
}

impl HistogramRun {
    /// Takes the samples of one chunk, without stale markers and what goes back in time. A change of the kind of
    /// buckets ends the run before it.
    pub(super) fn extend(
        &mut self,
        ts: Vec<i64>,
        histograms: Vec<FloatHistogram>,
        resolution_ms: i64,
        out: &mut HistogramWindows,
    ) -> Result<(), Error> {
        let mut last_t = i64::MIN;
        for (t, histogram) in ts.into_iter().zip(histograms) {
            if t < last_t || histogram.is_stale() {
                continue;
            }
            last_t = t;
            let other_kind = self.histograms.last().is_some_and(|last| {
                last.uses_custom_buckets() != histogram.uses_custom_buckets()
                    || (last.uses_custom_buckets() && last.custom_values != histogram.custom_values)
            });
            if other_kind {
                self.flush(resolution_ms, out)?;
            }
            self.ts.push(t);
            self.histograms.push(histogram);
        }
        Ok(())
    }

    /// Appends the windows of the run and begins a new one.
    pub(super) fn flush(&mut self, resolution_ms: i64, out: &mut HistogramWindows) -> Result<(), Error> {
        let (Some(&first), Some(&last)) = (self.ts.first(), self.ts.last()) else { return Ok(()) };
        let batches = batch_count((first, last), ASSUMED_RAW_INTERVAL_MS, resolution_ms, self.ts.len());
        let batch_size = self.ts.len() / batches + 1;
        let mut samples = std::mem::take(&mut self.ts).into_iter().zip(std::mem::take(&mut self.histograms)).peekable();
        let (mut ts, mut batch) = (Vec::new(), Vec::new());
        while samples.peek().is_some() {
            ts.clear();
            batch.clear();
            let (mut taken, mut window) = (0, i64::MIN);
            // A batch that ends inside a window takes the rest of it along.
            while let Some((t, histogram)) = samples.next_if(|(t, _)| taken < batch_size || *t <= window) {
                if taken < batch_size {
                    window = window_end(t, resolution_ms);
                }
                taken += 1;
                if !histogram.sum.is_nan() {
                    ts.push(t);
                    batch.push(histogram);
                }
            }
            if batch.is_empty() {
                continue;
            }
            let gauge = batch[0].hint == ResetHint::Gauge;
            let (t, counter) = total(&ts, &batch, resolution_ms).map_err(failed)?;
            out.batches.push(out.t.len());
            out.t.extend(t);
            out.counter.extend(with_hints(counter, gauge));
            out.sum.extend(sums(&ts, &batch, resolution_ms).map_err(failed)?);
            for_each_window(&ts, resolution_ms, |_, rows| out.count.push(rows.len() as u32));
        }
        Ok(())
    }
}

/// Joins the given batches of windows of `resolutions.0` ms into batches of windows of `resolutions.1` ms.
pub(super) fn coarser(
    input: &HistogramWindows,
    batches: Range<usize>,
    resolutions: (i64, i64),
    out: &mut HistogramWindows,
) -> Result<(), Error> {
    let rows = |batches: Range<usize>| input.batch_rows(batches.start).start..input.batch_rows(batches.end - 1).end;
    let all = rows(batches.clone());
    let span = (input.t[all.start], input.t[all.end - 1]);
    let target = batch_count(span, resolutions.0, resolutions.1, all.len());
    let batch_size = (batches.len() / target).max(1);
    for first in batches.clone().step_by(batch_size) {
        let rows = rows(first..(first + batch_size).min(batches.end));
        let ts = &input.t[rows.clone()];
        let gauge = input.counter[rows.start].hint == ResetHint::Gauge;
        let (t, counter) = total(ts, &input.counter[rows.clone()], resolutions.1).map_err(failed)?;
        out.batches.push(out.t.len());
        out.t.extend(t);
        out.counter.extend(with_hints(counter, gauge));
        out.sum.extend(sums(ts, &input.sum[rows.clone()], resolutions.1).map_err(failed)?);
        let counts = &input.count[rows];
        for_each_window(ts, resolutions.1, |_, rows| out.count.push(counts[rows].iter().sum()));
    }
    Ok(())
}

fn failed(error: HistogramError) -> Error {
    Error::Downsample(format!("adding up native histograms: {error}"))
}

/// Times and running totals at the end of every window.
fn total(
    ts: &[i64],
    histograms: &[FloatHistogram],
    resolution_ms: i64,
) -> Result<(Vec<i64>, Vec<FloatHistogram>), HistogramError> {
    let schema = min_schema(histograms);
    let (mut times, mut totals) = (Vec::new(), Vec::new());
    let mut result = Ok(());
    let mut state: Option<(FloatHistogram, FloatHistogram)> = None;
    for_each_window(ts, resolution_ms, |t, rows| {
        for histogram in &histograms[rows] {
            if result.is_ok() {
                result = add_to_total(&mut state, histogram, schema);
            }
        }
        if let Some((total, _)) = &state {
            times.push(t);
            totals.push(total.clone());
        }
    });
    result.map(|()| (times, totals))
}

/// `state` is the total and the sample before.
fn add_to_total(
    state: &mut Option<(FloatHistogram, FloatHistogram)>,
    histogram: &FloatHistogram,
    schema: i32,
) -> Result<(), HistogramError> {
    let reduced = histogram.copy_to_schema(schema);
    let Some((total, previous)) = state else {
        *state = Some((reduced.clone(), reduced));
        return Ok(());
    };
    // A reset shows in the original schema: a finer one comes with resets only.
    if histogram.hint != ResetHint::Gauge && histogram.detect_reset(previous) {
        total.add(&reduced)?;
    } else {
        let mut delta = reduced.clone();
        delta.sub(previous)?;
        total.add(&delta)?;
    }
    *previous = reduced;
    Ok(())
}

fn sums(ts: &[i64], histograms: &[FloatHistogram], resolution_ms: i64) -> Result<Vec<FloatHistogram>, HistogramError> {
    let schema = min_schema(histograms);
    let mut sums = Vec::new();
    let mut result = Ok(());
    for_each_window(ts, resolution_ms, |_, rows| {
        let mut window = histograms[rows].iter();
        let Some(first) = window.next() else { return };
        let mut sum = first.copy_to_schema(schema);
        for histogram in window {
            sum.hint = ResetHint::Gauge;
            if let Err(e) = sum.add(&histogram.copy_to_schema(schema)) {
                result = Err(e);
            }
        }
        // A gauge, or appending a smaller sum to the chunk would count as a reset.
        sum.hint = ResetHint::Gauge;
        sums.push(sum);
    });
    result.map(|()| sums)
}

fn min_schema(histograms: &[FloatHistogram]) -> i32 {
    histograms.iter().map(|h| h.schema).min().unwrap_or(0)
}

/// The hints that decoding the batch's counter chunk gives: of the first one in a chunk nothing is known.
fn with_hints(mut counters: Vec<FloatHistogram>, gauge: bool) -> Vec<FloatHistogram> {
    for (i, counter) in counters.iter_mut().enumerate() {
        counter.hint = match i {
            _ if gauge => ResetHint::Gauge,
            0 => ResetHint::Unknown,
            _ => ResetHint::NotReset,
        };
    }
    counters
}

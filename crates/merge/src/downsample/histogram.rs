//! Native histogram windows: count, sum and counter per window; no minimum, no maximum, no raw
//! border samples.

use std::ops::Range;

use bytes::Bytes;
use model::FloatHistogram;
use model::histogram::{HistogramError, ResetHint};
use tsdb::chunk::{
    Aggregate, Encoding, FloatHistogramEncoder, Pushed, decode_floats, decode_histograms,
    reset_hint,
};

use super::aggregate::encode_xor;
use super::{
    ASSUMED_RAW_INTERVAL_MS, ChunkSelection, Extent, WindowTimes, batch_count, for_each_window,
    times_of_rows, window_end,
};
use crate::counter::{Border, EndedChunk, lift_over, plus};
use crate::error::{Case, Error};
use crate::series::{ChunkBytes, ChunkContent, SeriesChunk};

/// The windows of a histogram series in order of time, column by column, cut into batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramWindows {
    /// The last millisecond of the window, or the last sample of the batch.
    pub t: Vec<i64>,
    /// When the first and the last sample that the window counts were taken;
    /// [`NO_TIME`](crate::NO_TIME) where that is not known.
    pub first_t: Vec<i64>,
    pub last_t: Vec<i64>,
    /// Samples, not observations.
    pub count: Vec<u32>,
    /// The sum of the samples; always a gauge.
    pub sum: Vec<FloatHistogram>,
    /// The running total since the batch began; for gauges, the last sample.
    pub counter: Vec<FloatHistogram>,
    /// The row of each batch's first window. A batch ends at a reset, so that its total is the
    /// counter's value; the hint of the first window after the reset says so.
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
        let HistogramWindows { t, first_t, last_t, count, sum, counter, batches } = self;
        [t, first_t, last_t].into_iter().for_each(Vec::clear);
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

    /// Appends the AggrChunk of batch `b` to `chunks`; several, where a histogram cannot follow the
    /// one before it in a chunk. Thanos then drops what came before, which loses windows of 1h
    /// counters: a 5m counter restarts in each batch, and a histogram's last raw value is not
    /// stored.
    pub(super) fn encode_batch(
        &self,
        b: usize,
        wanted: ChunkSelection<'_>,
        chunks: &mut Vec<SeriesChunk>,
    ) -> Result<(), Error> {
        let Range { mut start, end } = self.batch_rows(b);
        // The hints of gauges and known resets say so.
        let mut header = ResetHint::NotReset;
        while start < end {
            let mut counter = encode_histograms(self, start..end, &self.counter, header)?;
            let sum =
                encode_histograms(self, start..start + counter.taken, &self.sum, ResetHint::Gauge)?;
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
            for aggregate in Aggregate::ALL.into_iter().filter(|a| !wanted.aggregates.contains(a)) {
                parts[aggregate as usize] = None;
            }
            let chunk = SeriesChunk::new(
                self.t[rows.start],
                self.t[rows.end - 1],
                ChunkContent::Aggregates(Box::new(parts)),
            );
            start = rows.end;
            let times =
                wanted.times.then(|| times_of_rows(&self.first_t, &self.last_t, rows)).flatten();
            chunks.push(chunk.with_times(times));
        }
        Ok(())
    }

    /// Appends a batch that comes as an AggrChunk of windows of `resolution_ms`.
    pub(super) fn push_chunk(
        &mut self,
        chunk: &SeriesChunk,
        resolution_ms: i64,
    ) -> Result<(), Error> {
        let part = |aggregate| {
            let missing = || {
                Error(Case::Downsample(
                    "a downsampled histogram chunk lacks count, sum or counter".into(),
                ))
            };
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
                return Err(Error(Case::Downsample(
                    "a downsampled histogram chunk has aggregates at different times".into(),
                )));
            }
            decoded.push(histograms);
        }
        let counter = part(Aggregate::Counter)?;
        let is_after_reset = reset_hint(counter.encoding, &counter.data)? == ResetHint::Reset;
        if let Some(first) =
            decoded.last_mut().and_then(|counters| counters.first_mut()).filter(|_| is_after_reset)
        {
            first.hint = ResetHint::Reset;
        }
        if ts.is_empty() {
            return Ok(());
        }
        let mut times = WindowTimes::of(chunk, &ts, resolution_ms)?;
        self.batches.push(self.len());
        self.first_t.append(&mut times.first_t);
        self.last_t.append(&mut times.last_t);
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

fn memory_of(histogram: &FloatHistogram) -> usize {
    let FloatHistogram { positive_spans, negative_spans, custom_values, .. } = histogram;
    let buckets = histogram.positive_buckets.len() + histogram.negative_buckets.len();
    let spans = positive_spans.len() + negative_spans.len();
    size_of::<FloatHistogram>() + (buckets + spans + custom_values.len()) * size_of::<f64>()
}

struct EncodedHistograms {
    bytes: ChunkBytes,
    /// How many rows went into the chunk: at least one.
    taken: usize,
    /// What is known about a reset between them and the row after them.
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
                return Err(Error(Case::Downsample("a histogram that fits into no chunk".into())));
            }
            Pushed::NewChunk(next) => {
                next_header = next;
                break;
            }
            Pushed::Appended => taken += 1,
        }
    }
    let bytes =
        ChunkBytes { encoding: Encoding::FloatHistogram, data: Bytes::from(encoder.finish()) };
    Ok(EncodedHistograms { bytes, taken, next_header })
}

/// Raw histograms that are downsampled together: their buckets are of one kind, and if custom, have
/// equal bounds.
#[derive(Debug, Default)]
pub(super) struct HistogramRun {
    ts: Vec<i64>,
    histograms: Vec<FloatHistogram>,
    bytes: usize,
}

impl HistogramRun {
    /// What its samples take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the samples of one chunk, without stale markers and those that go back in time. A
    /// change of the kind of buckets ends the run before it.
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
            self.bytes += memory_of(&histogram);
            self.histograms.push(histogram);
        }
        Ok(())
    }

    /// Appends the windows of the run and begins a new one.
    pub(super) fn flush(
        &mut self,
        resolution_ms: i64,
        out: &mut HistogramWindows,
    ) -> Result<(), Error> {
        let (Some(&first), Some(&last)) = (self.ts.first(), self.ts.last()) else { return Ok(()) };
        let input = Extent { first, last, step_ms: ASSUMED_RAW_INTERVAL_MS, count: self.ts.len() };
        let batches = batch_count(input, resolution_ms);
        let batch_size = self.ts.len() / batches + 1;
        self.bytes = 0;
        let mut samples = std::mem::take(&mut self.ts)
            .into_iter()
            .zip(std::mem::take(&mut self.histograms))
            .peekable();
        let (mut ts, mut batch) = (Vec::new(), Vec::new());
        let mut before = None;
        while samples.peek().is_some() {
            ts.clear();
            batch.clear();
            let (mut taken, mut window) = (0, i64::MIN);
            // A batch that ends inside a window includes the rest of it.
            while let Some((t, histogram)) =
                samples.next_if(|(t, _)| taken < batch_size || *t <= window)
            {
                if taken < batch_size {
                    window = window_end(t, resolution_ms);
                }
                taken += 1;
                if !histogram.sum.is_nan() {
                    ts.push(t);
                    batch.push(histogram);
                }
            }
            downsample_batch(
                HistogramStretch { ts: &ts, histograms: &batch, resolution_ms },
                before.as_ref(),
                out,
            )?;
            before = batch.pop().or(before);
        }
        Ok(())
    }
}

/// Histograms in order of time that are downsampled together.
#[derive(Clone, Copy)]
struct HistogramStretch<'a> {
    ts: &'a [i64],
    histograms: &'a [FloatHistogram],
    resolution_ms: i64,
}

impl<'a> HistogramStretch<'a> {
    fn rows(self, rows: Range<usize>) -> HistogramStretch<'a> {
        HistogramStretch { ts: &self.ts[rows.clone()], histograms: &self.histograms[rows], ..self }
    }
}

/// Appends a batch of raw histograms as one or, where the counter was reset in between, several.
/// `before` is the histogram before them.
fn downsample_batch(
    batch: HistogramStretch<'_>,
    before: Option<&FloatHistogram>,
    out: &mut HistogramWindows,
) -> Result<(), Error> {
    let Some(first) = batch.histograms.first() else { return Ok(()) };
    if first.hint == ResetHint::Gauge {
        return append_batch(batch, ResetHint::Gauge, out);
    }
    let is_reset = |now: &FloatHistogram, before: &FloatHistogram| {
        now.hint != ResetHint::Gauge && now.detect_reset(before)
    };
    let mut hint = ResetHint::Unknown;
    if before.is_some_and(|before| is_reset(first, before)) {
        hint = ResetHint::Reset;
    }
    let mut start = 0;
    for at in 1..=batch.histograms.len() {
        let ends = at == batch.histograms.len()
            || is_reset(&batch.histograms[at], &batch.histograms[at - 1]);
        if ends {
            append_batch(batch.rows(start..at), hint, out)?;
            (start, hint) = (at, ResetHint::Reset);
        }
    }
    Ok(())
}

/// Appends the windows of histograms among which the counter was not reset; `hint` says what was
/// before them, or that they are gauges.
fn append_batch(
    batch: HistogramStretch<'_>,
    hint: ResetHint,
    out: &mut HistogramWindows,
) -> Result<(), Error> {
    append_totals(batch, hint, out)?;
    out.sum.extend(sums(batch).map_err(failed)?);
    for_each_window(batch.ts, batch.resolution_ms, |_, rows| {
        out.first_t.push(batch.ts[rows.start]);
        out.last_t.push(batch.ts[rows.end - 1]);
        out.count.push(rows.len() as u32);
    });
    Ok(())
}

/// Begins a batch with the times and counters of its windows.
fn append_totals(
    batch: HistogramStretch<'_>,
    hint: ResetHint,
    out: &mut HistogramWindows,
) -> Result<(), Error> {
    let (t, counter) = total(batch).map_err(failed)?;
    out.batches.push(out.t.len());
    out.t.extend(t);
    out.counter.extend(with_hints(counter, hint));
    Ok(())
}

/// Joins the given batches of windows of `input_ms` into batches of windows of `output_ms`.
pub(super) fn coarser(
    input: &HistogramWindows,
    batches: Range<usize>,
    input_ms: i64,
    output_ms: i64,
    out: &mut HistogramWindows,
) -> Result<(), Error> {
    let rows = |batches: Range<usize>| {
        input.batch_rows(batches.start).start..input.batch_rows(batches.end - 1).end
    };
    let all = rows(batches.clone());
    let (first, last) = (input.t[all.start], input.t[all.end - 1]);
    let extent = Extent { first, last, step_ms: input_ms, count: all.len() };
    let target = batch_count(extent, output_ms);
    // a batch after a reset counts together with the one before it, from which it was cut
    let is_cut =
        |b: usize| b > batches.start && input.counter[input.batches[b]].hint == ResetHint::Reset;
    let mut begins: Vec<usize> = batches.clone().filter(|b| !is_cut(*b)).collect();
    begins = begins.iter().copied().step_by((begins.len() / target).max(1)).collect();
    let ends = begins.iter().skip(1).copied().chain([batches.end]);
    let mut counters = CounterStitcher::default();
    for (begin, end) in begins.iter().copied().zip(ends) {
        counters.begin();
        (begin..end).for_each(|b| counters.push(&input.counter[input.batch_rows(b)]));
        let whole = rows(begin..end);
        for part in counters.parts() {
            let rows = whole.start + part.rows.start..whole.start + part.rows.end;
            let ts = &input.t[rows.clone()];
            let stretch =
                |histograms| HistogramStretch { ts, histograms, resolution_ms: output_ms };
            append_totals(stretch(&counters.values[part.rows]), part.hint, out)?;
            out.sum.extend(sums(stretch(&input.sum[rows.clone()])).map_err(failed)?);
            let counts = &input.count[rows.clone()];
            let (first_t, last_t) = (&input.first_t[rows.clone()], &input.last_t[rows]);
            for_each_window(ts, output_ms, |_, rows| {
                out.first_t.push(first_t[rows.start]);
                out.last_t.push(last_t[rows.end - 1]);
                out.count.push(counts[rows].iter().sum());
            });
        }
    }
    Ok(())
}

/// Joins the counters of batches, as far as there is no reset between them.
#[derive(Default)]
struct CounterStitcher {
    /// The end of the batch before.
    ended: Option<EndedChunk>,
    lift: Option<FloatHistogram>,
    values: Vec<FloatHistogram>,
    /// Where a part begins, and what was before it.
    begins: Vec<(usize, ResetHint)>,
}

/// Windows of one output batch.
struct OutputBatch {
    rows: Range<usize>,
    hint: ResetHint,
}

impl CounterStitcher {
    /// Begins another output batch.
    fn begin(&mut self) {
        self.lift = None;
        self.values.clear();
        self.begins.clear();
    }

    fn push(&mut self, batch: &[FloatHistogram]) {
        let [first, ..] = batch else { return };
        let gauge = first.hint == ResetHint::Gauge;
        let border = match &self.ended {
            Some(ended) if !gauge => ended.border(first.hint, first, batch.get(1)),
            _ if first.hint == ResetHint::Reset => Border::Reset,
            _ => Border::None,
        };
        let hint = match border {
            _ if gauge => ResetHint::Gauge,
            Border::Reset => ResetHint::Reset,
            _ => ResetHint::Unknown,
        };
        if self.values.is_empty() || hint == ResetHint::Reset {
            self.begins.push((self.values.len(), hint));
            self.lift = None;
        } else if let (Border::Step(growth), Some(last)) = (border, self.values.last()) {
            self.lift = lift_over(last, &growth, first);
        }
        let lifted = |h: &FloatHistogram| {
            self.lift.as_ref().and_then(|lift| plus(h, lift)).unwrap_or_else(|| h.clone())
        };
        self.values.extend(batch.iter().map(lifted));
        self.ended = (!gauge).then(|| EndedChunk::of(batch)).flatten();
    }

    fn parts(&self) -> Vec<OutputBatch> {
        let ends = self.begins.iter().skip(1).map(|begin| begin.0).chain([self.values.len()]);
        self.begins
            .iter()
            .zip(ends)
            .map(|((begin, hint), end)| OutputBatch { rows: *begin..end, hint: *hint })
            .collect()
    }
}

fn failed(error: HistogramError) -> Error {
    Error(Case::Histograms(error))
}

/// Times and running totals at the end of every window.
fn total(batch: HistogramStretch<'_>) -> Result<(Vec<i64>, Vec<FloatHistogram>), HistogramError> {
    let schema = min_schema(batch.histograms);
    let (mut times, mut totals) = (Vec::new(), Vec::new());
    let mut result = Ok(());
    let mut state: Option<Running> = None;
    for_each_window(batch.ts, batch.resolution_ms, |t, rows| {
        for histogram in &batch.histograms[rows] {
            if result.is_ok() {
                result = add_to_total(&mut state, histogram.copy_to_schema(schema));
            }
        }
        if let Some(Running { total, .. }) = &state {
            times.push(t);
            totals.push(total.clone());
        }
    });
    result.map(|()| (times, totals))
}

struct Running {
    total: FloatHistogram,
    previous: FloatHistogram,
}

fn add_to_total(
    state: &mut Option<Running>,
    histogram: FloatHistogram,
) -> Result<(), HistogramError> {
    let Some(Running { total, previous }) = state else {
        *state = Some(Running { total: histogram.clone(), previous: histogram });
        return Ok(());
    };
    let mut growth = histogram.clone();
    growth.sub(previous)?;
    total.add(&growth)?;
    *previous = histogram;
    Ok(())
}

fn sums(batch: HistogramStretch<'_>) -> Result<Vec<FloatHistogram>, HistogramError> {
    let schema = min_schema(batch.histograms);
    let mut sums = Vec::new();
    let mut result = Ok(());
    for_each_window(batch.ts, batch.resolution_ms, |_, rows| {
        let mut window = batch.histograms[rows].iter();
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

/// Sets the hints of a batch's counters: unless they are gauges, `first` is what is known about a
/// reset before them.
fn with_hints(mut counters: Vec<FloatHistogram>, first: ResetHint) -> Vec<FloatHistogram> {
    for (i, counter) in counters.iter_mut().enumerate() {
        counter.hint = match i {
            _ if first == ResetHint::Gauge => ResetHint::Gauge,
            0 => first,
            _ => ResetHint::NotReset,
        };
    }
    counters
}

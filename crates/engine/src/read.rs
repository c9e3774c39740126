//! From the chunks of a series to its samples: decode, choose the aggregate, stitch counters,
//! deduplicate replicas.

use std::sync::Arc;

use datafusion_execution::memory_pool::MemoryReservation;
use merge::{
    ChunkBytes, ChunkContent, Column, Dedup, Floats, ReplicaReading, SampleTime, SeriesChunk,
    ValueOf, read_replicas, sample_times,
};
use model::histogram::ResetHint;
use model::{FloatHistogram, Labels, Resolution, Sample, SampleValue, TimeRange};
use promql::kernels::coarse::{CoarseTimes, Stretch};
use promql::kernels::interrupt::Interrupt;
use promql::kernels::window::{HistogramSamples, Samples, Steps};
use tsdb::chunk::{Encoding, decode_floats, decode_shared_histograms, num_samples};

use self::edges::WindowEdges;
use crate::context::QueryContext;
use crate::downsampled::{Short, Treatment};
use crate::error::{Error, Kind, query_error};
use crate::source::UnreadableChunk;

mod edges;

/// How the samples of a selector are read.
#[derive(Clone, Debug)]
pub(crate) struct SelectorReading {
    /// The function over the selector, for messages.
    pub(crate) function: String,
    pub(crate) treatment: Treatment,
    pub(crate) range: TimeRange,
    pub(crate) dedup: Option<Dedup>,
    /// Only count and sum of histograms are wanted.
    pub(crate) totals_only: bool,
    /// Short windows are filled where data is coarser than this, in milliseconds.
    pub(crate) fill_above_ms: i64,
    /// The coarsest resolution that was asked for.
    pub(crate) max_resolution_ms: i64,
    /// The coarsest one that the user allows, of which less may have been asked for.
    pub(crate) allowed_ms: i64,
    /// How long a sample is current, in milliseconds.
    pub(crate) lookback_ms: i64,
    /// How long windows over the samples are; those of instant selectors are the lookback.
    pub(crate) range_ms: i64,
    /// Only the first and last samples of windows are looked at, and whether a counter was reset
    /// between them.
    pub(crate) edges_only: bool,
    /// Where the stretches that Prometheus buffers step by step end, and how long they are; `None`
    /// where it buffers everything.
    pub(crate) buffered: Option<(Steps, i64)>,
    /// Hears of chunks that cannot be read; set when the plan is built. Without it they are errors.
    pub(crate) query: Option<Arc<QueryContext>>,
}

/// The downsampled part of the series just read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coarse<'a> {
    pub(crate) reading: &'a SelectorReading,
    pub(crate) stretches: &'a [Stretch],
    /// How many samples each float stands for; empty where that is not asked for.
    pub(crate) weights: &'a [f64],
    spans: &'a SampleSpans,
}

impl<'a> Coarse<'a> {
    /// The times of the floats.
    pub(crate) fn float_times(self, t: &'a [i64]) -> CoarseTimes<'a> {
        self.times(t, &self.spans.floats)
    }

    /// The times of the histograms.
    pub(crate) fn histogram_times(self, t: &'a [i64]) -> CoarseTimes<'a> {
        self.times(t, &self.spans.histograms)
    }

    fn times(self, t: &'a [i64], spans: &'a [Option<TimeRange>]) -> CoarseTimes<'a> {
        let lookback = self.reading.lookback_ms;
        let reach = lookback.max(self.reading.range_ms);
        CoarseTimes { t, stretches: self.stretches, spans, lookback, reach }
    }

    /// The coarsest resolution that was served though it was not asked for.
    pub(crate) fn unasked(self) -> Option<i64> {
        let coarsest = self.stretches.iter().map(|s| s.resolution).max()?;
        (coarsest > self.reading.max_resolution_ms).then_some(coarsest)
    }
}

/// From the first to the last of the samples that each stands for, where that is known; empty where
/// it is of none.
#[derive(Clone, Debug, Default)]
struct SampleSpans {
    floats: Vec<Option<TimeRange>>,
    histograms: Vec<Option<TimeRange>>,
}

/// Reads one series after the other into the same buffers.
#[derive(Debug)]
pub(crate) struct SampleReader {
    reading: SelectorReading,
    stretches: Vec<Stretch>,
    /// How many samples each of the floats stands for, where that is asked for.
    weights: Vec<f64>,
    spans: SampleSpans,
    floats: Floats,
    histograms: HistogramColumn,
    /// Histograms of the series before, whose memory is used again where nobody else holds them.
    spare: Vec<Arc<FloatHistogram>>,
    /// Which histograms are looked at, if not all.
    edges: Option<WindowEdges>,
    /// What the buffers, and what functions put beside samples, are charged to.
    memory: MemoryReservation,
}

/// Bytes that a sample takes with what functions put beside it, ...
const SAMPLE_BYTES: usize = 32;
/// ... that a histogram takes without its buckets, ...
const HISTOGRAM_BYTES: usize = 256;
/// ... and those for a byte of a chunk of histograms, where a bucket may take a bit.
const BUCKET_BYTES: usize = 64;

/// Bytes that the samples of a chunk take at most once they are decoded.
fn decoded_bytes(chunk: &ChunkBytes) -> usize {
    // a sample takes a bit at least
    let most = chunk.data.len().saturating_mul(8);
    let samples = num_samples(chunk.encoding, &chunk.data).unwrap_or(0).min(most);
    match chunk.encoding.is_histogram() {
        false => samples * SAMPLE_BYTES,
        true => samples * (SAMPLE_BYTES + HISTOGRAM_BYTES) + chunk.data.len() * BUCKET_BYTES,
    }
}

fn broken(labels: &Labels, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Execution, format!("series {labels}"), cause)
}

/// Why a series could not be read, and its chunks.
struct Unread {
    error: Error,
    chunks: Vec<SeriesChunk>,
}

/// The samples of one series, each kind in order of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesSamples<'a> {
    pub(crate) floats: Samples<'a>,
    pub(crate) histograms: HistogramSamples<'a>,
}

impl SeriesSamples<'_> {
    pub(crate) fn len(self) -> usize {
        self.floats.t.len() + self.histograms.t.len()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Histograms of one series, as [`Floats`].
#[derive(Debug, Default)]
pub(crate) struct HistogramColumn {
    pub(crate) ts: Vec<i64>,
    pub(crate) values: Vec<Arc<FloatHistogram>>,
}

impl HistogramColumn {
    pub(crate) fn samples(&self) -> HistogramSamples<'_> {
        HistogramSamples { t: &self.ts, h: &self.values }
    }

    pub(crate) fn clear(&mut self) {
        self.ts.clear();
        self.values.clear();
    }

    pub(crate) fn push(&mut self, t: i64, value: Arc<FloatHistogram>) {
        self.ts.push(t);
        self.values.push(value);
    }
}

impl SampleReader {
    /// What is read is charged to `memory`.
    pub(crate) fn new(reading: SelectorReading, memory: MemoryReservation) -> SampleReader {
        let (floats, histograms) = (Floats::default(), HistogramColumn::default());
        let moving =
            reading.buffered.filter(|(steps, _)| reading.edges_only && steps.fixed.is_none());
        let edges = moving.map(|(steps, length)| WindowEdges::new(&steps, length));
        SampleReader {
            reading,
            stretches: Vec::new(),
            weights: Vec::new(),
            spans: SampleSpans::default(),
            floats,
            histograms,
            spare: Vec::new(),
            edges,
            memory,
        }
    }

    pub(crate) fn samples(&self) -> SeriesSamples<'_> {
        let floats = Samples { t: &self.floats.ts, v: &self.floats.values };
        SeriesSamples { floats, histograms: self.histograms.samples() }
    }

    /// Reads the samples of the series inside the range, stale markers included; those read so far
    /// where the interrupt says so. A chunk that cannot be read is left out where the query takes
    /// that.
    ///
    /// # Errors
    /// Also where the samples do not fit into the query's memory.
    pub(crate) fn read(
        &mut self,
        labels: &Labels,
        chunks: Vec<SeriesChunk>,
        interrupt: &Interrupt<'_>,
    ) -> Result<(), Error> {
        self.charge(&chunks)?;
        match self.read_all(labels, chunks, interrupt) {
            Ok(()) => Ok(()),
            Err(unread) => self.read_readable(labels, unread, interrupt),
        }
    }

    /// Charges the samples of a series before they are decoded.
    fn charge(&mut self, chunks: &[SeriesChunk]) -> Result<(), Error> {
        let bytes = |chunk: &SeriesChunk| match &chunk.content {
            ChunkContent::Raw(raw) => decoded_bytes(raw),
            ChunkContent::Aggregates(all) => all.iter().flatten().map(decoded_bytes).sum(),
        };
        let lacking = chunks.iter().map(bytes).sum::<usize>().saturating_sub(self.memory.size());
        if lacking == 0 { Ok(()) } else { self.memory.try_grow(lacking).map_err(query_error) }
    }

    fn read_readable(
        &mut self,
        labels: &Labels,
        Unread { error, chunks }: Unread,
        interrupt: &Interrupt<'_>,
    ) -> Result<(), Error> {
        let Some(query) = self.reading.query.clone() else { return Err(error) };
        let mut readable = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let origin = chunk.origin.clone();
            match self.read_all(labels, vec![chunk.clone()], interrupt) {
                Ok(()) => readable.push(chunk),
                Err(Unread { error, .. }) => query.leave_out(UnreadableChunk { origin, error })?,
            }
        }
        // what can be read one by one may still contradict each other
        self.read_all(labels, readable, interrupt).map_err(|unread| unread.error)
    }

    fn read_all(
        &mut self,
        labels: &Labels,
        mut chunks: Vec<SeriesChunk>,
        interrupt: &Interrupt<'_>,
    ) -> Result<(), Unread> {
        self.floats.clear();
        self.keep_spare();
        self.histograms.clear();
        self.weights.clear();
        self.spans.floats.clear();
        self.spans.histograms.clear();
        if let Some(edges) = &mut self.edges {
            edges.restart();
        }
        self.look_for_coarse_data(&chunks);
        let range = self.range();
        chunks.retain(|c| range.overlaps_closed(c.min_time, c.max_time));
        let read = match is_plain(&chunks) {
            true => self.read_plain(&chunks, interrupt).map_err(|e| broken(labels, e)),
            false => self.read_coarse(&chunks, interrupt).map_err(|e| broken(labels, e)),
        };
        if let Err(error) = read.and_then(|()| self.check_order(labels, interrupt)) {
            return Err(Unread { error, chunks });
        }
        if self.reading.totals_only {
            self.drop_buckets();
        }
        Ok(())
    }

    fn read_plain(
        &mut self,
        chunks: &[SeriesChunk],
        interrupt: &Interrupt<'_>,
    ) -> Result<(), tsdb::Error> {
        let floats = chunks.iter().filter_map(|chunk| match &chunk.content {
            ChunkContent::Raw(raw) if !raw.encoding.is_histogram() => Some(decoded_bytes(raw)),
            _ => None,
        });
        // as many as are charged: what grows by doubling takes more
        let floats = floats.sum::<usize>() / SAMPLE_BYTES;
        self.floats.ts.reserve_exact(floats);
        self.floats.values.reserve_exact(floats);
        for chunk in chunks {
            if let ChunkContent::Raw(raw) = &chunk.content {
                let samples = num_samples(raw.encoding, &raw.data).unwrap_or(0);
                if interrupt.after(8 * (raw.data.len() + samples)) {
                    return Ok(());
                }
                self.decode(raw)?;
            }
        }
        self.trim();
        Ok(())
    }

    fn check_order(&self, labels: &Labels, interrupt: &Interrupt<'_>) -> Result<(), Error> {
        /// Looked at between two questions whether to go on.
        const AT_ONCE: usize = 1 << 16;
        let out_of_order = |ts: &[i64]| {
            (0..ts.len()).step_by(AT_ONCE).any(|from| {
                let some = &ts[from..ts.len().min(from + AT_ONCE + 1)];
                !interrupt.after(some.len()) && some.windows(2).any(|w| w[0] >= w[1])
            })
        };
        if out_of_order(&self.floats.ts) || out_of_order(&self.histograms.ts) {
            let text = format!("series {labels}: its samples are out of order");
            return Err(Error::new(Kind::Execution, text));
        }
        Ok(())
    }

    /// The downsampled data of the series just read, if it has any whose windows may have to be
    /// filled.
    pub(crate) fn coarse(&self) -> Option<Coarse<'_>> {
        let coarse = Coarse {
            reading: &self.reading,
            stretches: &self.stretches,
            weights: &self.weights,
            spans: &self.spans,
        };
        (!self.stretches.is_empty()).then_some(coarse)
    }

    fn look_for_coarse_data(&mut self, chunks: &[SeriesChunk]) {
        self.stretches.clear();
        if self.reading.treatment.short == Short::Fixed {
            return;
        }
        // a stretch ends where chunks of another resolution lie between
        let mut before = 0;
        for chunk in chunks {
            let resolution = chunk.resolution_within(self.reading.max_resolution_ms).millis();
            let goes_on = std::mem::replace(&mut before, resolution) == resolution;
            if resolution <= self.reading.fill_above_ms || resolution == 0 {
                continue;
            }
            match self.stretches.last_mut().filter(|_| goes_on) {
                Some(last) => last.last = last.last.max(chunk.max_time),
                None => {
                    // a counter begins with a raw sample before the end of its first window
                    let first = chunk.min_time.div_euclid(resolution).saturating_mul(resolution);
                    self.stretches.push(Stretch { first, last: chunk.max_time, resolution });
                }
            }
        }
    }

    /// The samples that the windows may hold, and those around them that may fill them.
    fn range(&self) -> TimeRange {
        let coarsest = self.stretches.iter().map(|s| s.resolution).max().unwrap_or(0);
        Resolution::coarsest_within(coarsest).with_neighbours(self.reading.range)
    }

    fn decode(&mut self, raw: &ChunkBytes) -> Result<(), tsdb::Error> {
        if !raw.encoding.is_histogram() {
            return decode_floats(
                raw.encoding,
                &raw.data,
                &mut self.floats.ts,
                &mut self.floats.values,
            );
        }
        let HistogramColumn { ts, values } = &mut self.histograms;
        let Some(edges) = self.edges.as_mut().filter(|_| self.stretches.is_empty()) else {
            return decode_shared_histograms(
                raw.encoding,
                &raw.data,
                ts,
                values,
                &mut self.spare,
                |_, _| true,
            );
        };
        let begin = values.len();
        let is_read = |t, next| edges.contain(t, next);
        decode_shared_histograms(raw.encoding, &raw.data, ts, values, &mut self.spare, is_read)?;
        if !values[begin..].iter().any(|h| h.is_stale()) {
            return Ok(());
        }
        // Where a window ends with a marker, the histogram before is looked at instead. Markers are
        // rare.
        ts.truncate(begin);
        values.truncate(begin);
        decode_shared_histograms(raw.encoding, &raw.data, ts, values, &mut self.spare, |_, _| true)
    }

    /// Keeps the histograms of the series before to be overwritten; those not looked at occur more
    /// than once.
    fn keep_spare(&mut self) {
        self.histograms.values.dedup_by(|next, kept| Arc::ptr_eq(next, kept));
        self.spare.append(&mut self.histograms.values);
    }

    /// Reads chunks of which some may be downsampled, or of several replicas.
    fn read_coarse(
        &mut self,
        chunks: &[SeriesChunk],
        interrupt: &Interrupt<'_>,
    ) -> Result<(), merge::Error> {
        let goes_on = |samples: usize| !interrupt.after(8 * samples);
        let (range, dedup) = (self.range(), self.reading.dedup);
        let reading = |value| ReplicaReading { value, range, dedup };
        if self.reading.treatment.short == Short::Mean && !self.stretches.is_empty() {
            let counts = read_replicas(chunks, reading(ValueOf::Count), &goes_on)?;
            if let Column::Floats(counts) = counts {
                self.weights = counts.values;
            }
        }
        let reading = reading(self.reading.treatment.value);
        let column = read_replicas(chunks, reading, &goes_on)?;
        // the chunks of nearly all series have none
        let has_times = chunks.iter().any(|c| c.times.is_some());
        match column {
            column if has_times => {
                let times = sample_times(chunks, &column, reading, &goes_on)?;
                self.take_timed(column, times);
            }
            Column::Floats(floats) => self.floats = floats,
            Column::Mixed(samples) => samples.into_iter().for_each(|s| self.push(s)),
        }
        Ok(())
    }

    fn push(&mut self, Sample { t, value }: Sample) {
        match value {
            SampleValue::Float(value) => self.floats.push(t, value),
            SampleValue::Histogram(histogram) => self.histograms.push(t, histogram),
        }
    }

    /// Takes samples to the times at which they were taken. Those of windows had the time of the
    /// window's end, and those of a counter's window have the value of its last sample.
    fn take_timed(&mut self, column: Column, times: Vec<Option<SampleTime>>) {
        let mut walk = TimedWalk::new(self.reading.treatment.value == ValueOf::Counter);
        match column {
            Column::Floats(floats) => self.take_timed_floats(floats, &times, walk),
            Column::Mixed(samples) => {
                let weights = std::mem::take(&mut self.weights);
                for (i, (Sample { t, value }, time)) in samples.into_iter().zip(times).enumerate() {
                    let Some(placed) = walk.place(t, time) else { continue };
                    let spans = match value {
                        SampleValue::Float(_) => &mut self.spans.floats,
                        SampleValue::Histogram(_) => &mut self.spans.histograms,
                    };
                    spans.push(placed.span);
                    self.push(Sample { t: placed.t, value });
                    self.weights.extend(weights.get(i));
                }
            }
        }
    }

    fn take_timed_floats(
        &mut self,
        mut floats: Floats,
        times: &[Option<SampleTime>],
        mut walk: TimedWalk,
    ) {
        self.spans.floats.reserve(floats.len());
        let mut kept = 0;
        for i in 0..floats.len() {
            let time = times.get(i).copied().flatten();
            let Some(placed) = walk.place(floats.ts[i], time) else { continue };
            self.spans.floats.push(placed.span);
            (floats.ts[kept], floats.values[kept]) = (placed.t, floats.values[i]);
            if let Some(weight) = self.weights.get(i).copied() {
                self.weights[kept] = weight;
            }
            kept += 1;
        }
        floats.ts.truncate(kept);
        floats.values.truncate(kept);
        self.weights.truncate(kept);
        self.floats = floats;
    }

    /// Leaves only the totals of histograms. Resets of a counter cannot be seen afterwards, so they
    /// become hints; except for the first sample after a gap between windows, because Prometheus
    /// skips those gaps.
    fn drop_buckets(&mut self) {
        let mut before: Option<Arc<FloatHistogram>> = None;
        let after_gaps = self.samples_after_gaps();
        for (i, value) in self.histograms.values.iter_mut().enumerate() {
            if after_gaps.binary_search(&i).is_ok() {
                before = None;
            }
            let FloatHistogram { schema, mut hint, count, sum, .. } = **value;
            if let (ResetHint::Unknown, Some(before), false) = (hint, &before, value.is_stale()) {
                hint =
                    if value.detect_reset(before) { ResetHint::Reset } else { ResetHint::NotReset };
            }
            let totals =
                Arc::new(FloatHistogram { schema, hint, count, sum, ..FloatHistogram::default() });
            let whole = std::mem::replace(value, totals);
            if !whole.is_stale() {
                before = Some(whole);
            }
        }
    }

    /// The histograms that begin a stretch which starts after everything that was buffered for the
    /// stretch before it.
    fn samples_after_gaps(&self) -> Vec<usize> {
        let buffered =
            self.reading.buffered.filter(|(s, length)| s.fixed.is_none() && s.step > *length);
        let Some((steps, length)) = buffered else { return Vec::new() };
        let from = |ts: &[i64], t: i64| ts.partition_point(|x| *x < t);
        let (floats, histograms) = (&self.floats.ts, &self.histograms.ts);
        let begins = (1..steps.count).filter_map(|k| {
            let led_to = |ts: &Vec<i64>| ts.get(from(ts, steps.end(k - 1))).copied();
            let reached = led_to(floats).into_iter().chain(led_to(histograms)).min()?;
            let begin = steps.end(k).saturating_sub(length);
            (begin > reached).then(|| from(histograms, begin))
        });
        begins.collect()
    }

    fn trim(&mut self) {
        let range = self.range();
        trim(range, &mut self.floats.ts, &mut self.floats.values);
        trim(range, &mut self.histograms.ts, &mut self.histograms.values);
    }

    /// Removes stale markers, which range functions do not see.
    pub(crate) fn drop_stale(&mut self) {
        let SampleSpans { floats, histograms } = &mut self.spans;
        if self.floats.values.iter().any(|v| model::is_stale_nan(*v)) {
            let is_stale = |v: &f64| model::is_stale_nan(*v);
            drop_where(is_stale, &mut self.floats.values, &mut self.floats.ts, floats);
        }
        if self.histograms.values.iter().any(|h| h.is_stale()) {
            let HistogramColumn { ts, values } = &mut self.histograms;
            drop_where(|h| h.is_stale(), values, ts, histograms);
        }
    }
}

/// Goes through the samples of a column that are to be taken to their times.
struct TimedWalk {
    is_counter: bool,
    /// The time of the sample before.
    before: Option<i64>,
}

/// Where a sample belongs.
struct PlacedSample {
    t: i64,
    span: Option<TimeRange>,
}

impl TimedWalk {
    fn new(is_counter: bool) -> TimedWalk {
        TimedWalk { is_counter, before: None }
    }

    /// The place of the next sample, which is at `t`; `None` where it is there already.
    fn place(&mut self, t: i64, time: Option<SampleTime>) -> Option<PlacedSample> {
        // the only sample of a counter's window, with which its batch begins
        if self.is_counter && time.is_some_and(|time| Some(time.t) == self.before) {
            return None;
        }
        // what other replicas have in the window may be later
        let time = time.filter(|time| self.before.is_none_or(|before| time.t > before));
        let t = time.map_or(t, |time| time.t);
        self.before = Some(t);
        Some(PlacedSample { t, span: time.map(|time| time.span) })
    }
}

/// Keeps only the samples inside a range.
fn trim<T>(range: TimeRange, ts: &mut Vec<i64>, values: &mut Vec<T>) {
    if ts.last().is_some_and(|t| *t > range.last()) {
        let end = ts.partition_point(|t| *t <= range.last());
        ts.truncate(end);
        values.truncate(end);
    }
    if ts.first().is_some_and(|t| *t < range.start) {
        let start = ts.partition_point(|t| *t < range.start);
        ts.drain(..start);
        values.drain(..start);
    }
}

/// Removes the samples whose value is one of those; `spans` may be empty.
fn drop_where<T>(
    is_one: impl Fn(&T) -> bool,
    values: &mut Vec<T>,
    ts: &mut Vec<i64>,
    spans: &mut Vec<Option<TimeRange>>,
) {
    let mut kept = 0;
    for i in 0..values.len() {
        if !is_one(&values[i]) {
            ts.swap(kept, i);
            values.swap(kept, i);
            if !spans.is_empty() {
                spans.swap(kept, i);
            }
            kept += 1;
        }
    }
    ts.truncate(kept);
    values.truncate(kept);
    spans.truncate(kept);
}

/// Whether chunks are raw and do not overlap, as those of nearly all series.
fn is_plain(chunks: &[SeriesChunk]) -> bool {
    let raw = |c: &SeriesChunk| match &c.content {
        ChunkContent::Raw(raw) => {
            matches!(raw.encoding, Encoding::Xor | Encoding::Xor2) || raw.encoding.is_histogram()
        }
        ChunkContent::Aggregates(_) => false,
    };
    chunks.iter().all(raw) && chunks.windows(2).all(|w| w[0].max_time < w[1].min_time)
}

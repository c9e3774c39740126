//! Writing of encodings 2 and 3, with Prometheus' rules for when a chunk must end and when it must
//! be recoded.

use std::borrow::Cow;

use model::FloatHistogram;
use model::histogram::{BucketSpan, Histogram, ResetHint, bucket_count, bucket_indices, spans_of};

use super::Encoding;
use super::bits::BitWriter;
use super::counts::{Count, CountField};
use super::histogram::{HEADER_LEN, HistogramHeader, decode, flags_of};
use super::layout::ChunkLayout;
use super::varbit;
use super::xor::XorWriter;
use crate::error::{Case, Error};

/// What became of a pushed histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Appended,
    /// It does not belong in this chunk and was not appended: push it into a new encoder with this
    /// header.
    NewChunk(ResetHint),
}

/// A histogram to be written, with absolute bucket counts.
struct GivenHistogram<'a, C: Clone> {
    t: i64,
    hint: ResetHint,
    layout: Cow<'a, ChunkLayout>,
    count: C,
    zero_count: C,
    sum: f64,
    positive: Cow<'a, [C]>,
    negative: Cow<'a, [C]>,
}

impl<C: Clone> GivenHistogram<'_, C> {
    fn is_stale(&self) -> bool {
        model::is_stale_nan(self.sum)
    }
}

struct ChunkWriter<C: Count> {
    encoding: Encoding,
    header: ResetHint,
    samples: u16,
    out: BitWriter,
    /// `None` until the first sample.
    state: Option<CodedState<C>>,
}

/// What the next sample is coded against.
struct CodedState<C: Count> {
    layout: ChunkLayout,
    t: i64,
    delta: i64,
    count: C::Write,
    zero_count: C::Write,
    sum: XorWriter,
    buckets: Vec<C::Write>,
    /// The last histogram that was not stale.
    last: LastCounts<C>,
}

struct LastCounts<C> {
    count: C,
    zero_count: C,
    positive: Vec<C>,
    negative: Vec<C>,
}

impl<C: Count> ChunkWriter<C> {
    fn new(encoding: Encoding, header: ResetHint) -> ChunkWriter<C> {
        ChunkWriter {
            encoding,
            header,
            samples: 0,
            out: BitWriter::from_bytes(vec![0; HEADER_LEN]),
            state: None,
        }
    }

    fn push(&mut self, input: GivenHistogram<'_, C>) -> Result<Pushed, Error> {
        let named = |spans: &[BucketSpan], counts: &[C]| bucket_count(spans) == counts.len();
        let layout = &input.layout;
        if !named(&layout.positive_spans, &input.positive)
            || !named(&layout.negative_spans, &input.negative)
        {
            return Err(Error(Case::Invalid {
                what: WHAT,
                reason: "spans and buckets of a histogram differ".into(),
            }));
        }
        assert!(self.samples < u16::MAX, "a histogram chunk holds at most 65535 samples");
        let Some(state) = &self.state else {
            if matches!(input.hint, ResetHint::Gauge | ResetHint::Reset) {
                self.header = input.hint;
            }
            self.append(&input);
            return Ok(Pushed::Appended);
        };
        let gauge = input.hint == ResetHint::Gauge;
        let fit = if gauge {
            state.fit_gauge(self.header, &input)
        } else {
            state.fit_counter(self.header, &input)
        };
        match fit {
            Fit::NewChunk(header) => return Ok(Pushed::NewChunk(header)),
            Fit::AsIs => self.append(&input),
            Fit::Layouts { positive, negative } => self.append_merged(input, positive, negative)?,
        }
        Ok(Pushed::Appended)
    }

    /// Appends a histogram whose buckets differ from the chunk's: it gets the chunk's empty
    /// buckets, and the chunk is recoded if the histogram has new ones.
    fn append_merged(
        &mut self,
        mut input: GivenHistogram<'_, C>,
        positive: Overlap,
        negative: Overlap,
    ) -> Result<(), Error> {
        let old = &self.state.as_ref().expect("a chunk with samples has a state").layout;
        let recode = positive.new_buckets || negative.new_buckets;
        let layout = if recode {
            let gauge = input.hint == ResetHint::Gauge;
            let lacking = (positive.lacks_buckets, negative.lacks_buckets);
            // for a gauge, both sides are normalized as soon as one lacks a bucket
            let normalize =
                if gauge { (lacking.0 || lacking.1, lacking.0 || lacking.1) } else { lacking };
            let merged = |old: &[BucketSpan], new: &[BucketSpan], normalize: bool| {
                if normalize { union(old, new) } else { new.to_vec() }
            };
            ChunkLayout {
                positive_spans: merged(
                    &old.positive_spans,
                    &input.layout.positive_spans,
                    normalize.0,
                ),
                negative_spans: merged(
                    &old.negative_spans,
                    &input.layout.negative_spans,
                    normalize.1,
                ),
                ..old.clone()
            }
        } else {
            old.clone()
        };
        input.positive =
            spread(&input.layout.positive_spans, &input.positive, &layout.positive_spans).into();
        input.negative =
            spread(&input.layout.negative_spans, &input.negative, &layout.negative_spans).into();
        if recode {
            self.recode(&layout)?;
        }
        input.layout = Cow::Owned(layout);
        self.append(&input);
        Ok(())
    }

    /// Rewrites the chunk so far with a layout that has more buckets.
    fn recode(&mut self, layout: &ChunkLayout) -> Result<(), Error> {
        let recoded = ChunkWriter::new(self.encoding, self.header);
        let data = std::mem::replace(self, recoded).finish();
        decode::<C>(HistogramHeader::parse(self.encoding, &data)?, &data, |sample| {
            self.append(&GivenHistogram {
                t: sample.t,
                hint: sample.hint,
                layout: Cow::Borrowed(layout),
                count: sample.count,
                zero_count: sample.zero_count,
                sum: sample.sum,
                positive: spread(
                    &sample.layout.positive_spans,
                    sample.positive,
                    &layout.positive_spans,
                )
                .into(),
                negative: spread(
                    &sample.layout.negative_spans,
                    sample.negative,
                    &layout.negative_spans,
                )
                .into(),
            });
        })
    }

    /// Writes a histogram that has the layout of the chunk.
    fn append(&mut self, input: &GivenHistogram<'_, C>) {
        match &mut self.state {
            None => self.state = Some(CodedState::put_first(&mut self.out, input)),
            Some(state) => state.put_next(&mut self.out, input),
        }
        self.samples += 1;
    }

    fn finish(self) -> Vec<u8> {
        let mut data = self.out.finish();
        data[..2].copy_from_slice(&self.samples.to_be_bytes());
        data[2] = flags_of(self.header);
        data
    }
}

const WHAT: &str = "histogram chunk";

impl<C: Count> CodedState<C> {
    fn put_first(out: &mut BitWriter, input: &GivenHistogram<'_, C>) -> CodedState<C> {
        let stale = input.is_stale();
        let layout = if stale { ChunkLayout::default() } else { input.layout.clone().into_owned() };
        let (count, zero_count) =
            if stale { Default::default() } else { (input.count, input.zero_count) };
        let (positive, negative) = if stale {
            Default::default()
        } else {
            (input.positive.to_vec(), input.negative.to_vec())
        };
        layout.put(out);
        varbit::put_int(out, input.t);
        let counts = (
            C::put_first(out, CountField::Total, count),
            C::put_first(out, CountField::Total, zero_count),
        );
        out.put(input.sum.to_bits(), 64);
        let mut buckets = Vec::with_capacity(positive.len() + negative.len());
        for stored in stored(&positive).chain(stored(&negative)) {
            buckets.push(C::put_first(out, CountField::Bucket, stored));
        }
        CodedState {
            layout,
            t: input.t,
            delta: 0,
            count: counts.0,
            zero_count: counts.1,
            sum: XorWriter::new(input.sum),
            buckets,
            last: LastCounts { count, zero_count, positive, negative },
        }
    }

    fn put_next(&mut self, out: &mut BitWriter, input: &GivenHistogram<'_, C>) {
        let delta = input.t.wrapping_sub(self.t);
        varbit::put_int(out, delta.wrapping_sub(self.delta));
        (self.t, self.delta) = (input.t, delta);
        if input.is_stale() {
            C::put_stale(out, &mut self.count);
            C::put_stale(out, &mut self.zero_count);
            self.sum.put(out, input.sum);
            return;
        }
        C::put_next(out, &mut self.count, input.count);
        C::put_next(out, &mut self.zero_count, input.zero_count);
        self.sum.put(out, input.sum);
        for (state, stored) in
            self.buckets.iter_mut().zip(stored(&input.positive).chain(stored(&input.negative)))
        {
            C::put_next(out, state, stored);
        }
        let last = &mut self.last;
        (last.count, last.zero_count) = (input.count, input.zero_count);
        last.positive.copy_from_slice(&input.positive);
        last.negative.copy_from_slice(&input.negative);
    }

    fn fit_counter(&self, header: ResetHint, input: &GivenHistogram<'_, C>) -> Fit {
        use ResetHint::*;
        if header == Gauge {
            return Fit::NewChunk(C::AFTER_GAUGE);
        }
        if input.hint == Reset {
            return Fit::NewChunk(Reset);
        }
        if input.is_stale() {
            return Fit::AsIs;
        }
        if model::is_stale_nan(self.sum.value()) {
            return Fit::NewChunk(Unknown);
        }
        if input.count < self.last.count {
            return Fit::NewChunk(Reset);
        }
        if self.scale_differs(&input.layout) {
            return Fit::NewChunk(Unknown);
        }
        if self.layout.custom_values != input.layout.custom_values
            || input.zero_count < self.last.zero_count
        {
            return Fit::NewChunk(Reset);
        }
        let (positive, negative) = self.overlaps(input);
        if positive.reset || negative.reset {
            return Fit::NewChunk(Reset);
        }
        Fit::of(positive, negative)
    }

    fn fit_gauge(&self, header: ResetHint, input: &GivenHistogram<'_, C>) -> Fit {
        if header != ResetHint::Gauge {
            return Fit::NewChunk(ResetHint::Gauge);
        }
        if input.is_stale() {
            return Fit::AsIs;
        }
        let differs = self.scale_differs(&input.layout)
            || self.layout.custom_values != input.layout.custom_values;
        if model::is_stale_nan(self.sum.value()) || differs {
            return Fit::NewChunk(ResetHint::Gauge);
        }
        let (positive, negative) = self.overlaps(input);
        Fit::of(positive, negative)
    }

    fn scale_differs(&self, layout: &ChunkLayout) -> bool {
        layout.schema != self.layout.schema || layout.zero_threshold != self.layout.zero_threshold
    }

    fn overlaps(&self, input: &GivenHistogram<'_, C>) -> (Overlap, Overlap) {
        let (old, new) = (&self.layout, &input.layout);
        let positive = overlap(
            Buckets { spans: &old.positive_spans, counts: &self.last.positive },
            Buckets { spans: &new.positive_spans, counts: &input.positive },
        );
        let negative = overlap(
            Buckets { spans: &old.negative_spans, counts: &self.last.negative },
            Buckets { spans: &new.negative_spans, counts: &input.negative },
        );
        (positive, negative)
    }
}

/// What buckets store for these absolute counts.
fn stored<C: Count>(counts: &[C]) -> impl Iterator<Item = C> + '_ {
    counts.iter().scan(C::default(), |before, &count| {
        let stored = C::to_stored(count, *before);
        *before = count;
        Some(stored)
    })
}

/// How a histogram fits into a chunk.
enum Fit {
    AsIs,
    Layouts { positive: Overlap, negative: Overlap },
    NewChunk(ResetHint),
}

impl Fit {
    fn of(positive: Overlap, negative: Overlap) -> Fit {
        if positive.same() && negative.same() {
            Fit::AsIs
        } else {
            Fit::Layouts { positive, negative }
        }
    }
}

/// How the buckets of a histogram compare with those of the chunk, on one side.
#[derive(Clone, Copy, Default)]
struct Overlap {
    /// The histogram has buckets that the chunk does not have.
    new_buckets: bool,
    /// The chunk has buckets that the histogram does not have.
    lacks_buckets: bool,
    /// A bucket went down or a populated one vanished.
    reset: bool,
}

impl Overlap {
    fn same(self) -> bool {
        !self.new_buckets && !self.lacks_buckets
    }
}

/// One side of a histogram, its counts absolute.
struct Buckets<'a, C> {
    spans: &'a [BucketSpan],
    counts: &'a [C],
}

fn overlap<C: Count>(old: Buckets<'_, C>, new: Buckets<'_, C>) -> Overlap {
    let mut found = Overlap::default();
    if old.spans == new.spans {
        found.reset = old.counts.iter().zip(new.counts).any(|(old, new)| old > new);
        return found;
    }
    let mut a = bucket_indices(old.spans).zip(old.counts).peekable();
    let mut b = bucket_indices(new.spans).zip(new.counts).peekable();
    loop {
        match (a.peek(), b.peek()) {
            (Some(&(i, old)), Some(&(j, new))) if i == j => {
                found.reset |= old > new;
                a.next();
                b.next();
            }
            (Some(&(i, old)), next) if next.is_none_or(|&(j, _)| i < j) => {
                found.lacks_buckets = true;
                found.reset |= *old != C::default();
                a.next();
            }
            (_, Some(_)) => {
                found.new_buckets = true;
                b.next();
            }
            _ => return found,
        }
    }
}

/// The spans of all buckets that either has.
fn union(old: &[BucketSpan], new: &[BucketSpan]) -> Vec<BucketSpan> {
    let mut indices: Vec<i32> = bucket_indices(old).chain(bucket_indices(new)).collect();
    indices.sort_unstable();
    indices.dedup();
    spans_of(indices)
}

/// The counts of `from` in the layout `to`, which has all their buckets and maybe more.
fn spread<C: Count>(from: &[BucketSpan], counts: &[C], to: &[BucketSpan]) -> Vec<C> {
    let mut counts = bucket_indices(from).zip(counts).peekable();
    let take =
        |index: i32| counts.next_if(|&(i, _)| i == index).map_or(C::default(), |(_, count)| *count);
    bucket_indices(to).map(take).collect()
}

/// Writes one chunk of integer histograms (encoding 2), byte for byte as Prometheus does.
pub struct HistogramEncoder(ChunkWriter<i64>);

impl Default for HistogramEncoder {
    fn default() -> HistogramEncoder {
        HistogramEncoder::new(ResetHint::Unknown)
    }
}

impl HistogramEncoder {
    /// `header` says what is known about a counter reset between the chunk before and this one; the
    /// first histogram's hint overrides it if it says reset or gauge.
    pub fn new(header: ResetHint) -> HistogramEncoder {
        HistogramEncoder(ChunkWriter::new(Encoding::Histogram, header))
    }

    /// Appends a histogram at `t` milliseconds, or says that it needs a new chunk.
    ///
    /// # Errors
    /// When the histogram's spans and buckets do not agree.
    ///
    /// # Panics
    /// When the chunk already holds `u16::MAX` samples.
    pub fn push(&mut self, t: i64, histogram: &Histogram) -> Result<Pushed, Error> {
        let absolute = |deltas: &[i64]| -> Vec<i64> {
            let mut count = 0i64;
            let add = |delta: &i64| {
                count = count.wrapping_add(*delta);
                count
            };
            deltas.iter().map(add).collect()
        };
        self.0.push(GivenHistogram {
            t,
            hint: histogram.hint,
            layout: Cow::Owned(ChunkLayout {
                schema: histogram.schema,
                zero_threshold: histogram.zero_threshold,
                positive_spans: histogram.positive_spans.clone(),
                negative_spans: histogram.negative_spans.clone(),
                custom_values: histogram.custom_values.clone(),
            }),
            count: histogram.count as i64,
            zero_count: histogram.zero_count as i64,
            sum: histogram.sum,
            positive: absolute(&histogram.positive_buckets).into(),
            negative: absolute(&histogram.negative_buckets).into(),
        })
    }

    /// Samples so far.
    pub fn len(&self) -> usize {
        usize::from(self.0.samples)
    }

    pub fn is_empty(&self) -> bool {
        self.0.samples == 0
    }

    /// Bytes the chunk would have if it were finished now.
    pub fn bytes_len(&self) -> usize {
        self.0.out.len()
    }

    /// The chunk's data.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

/// Writes one chunk of float histograms (encoding 3), byte for byte as Prometheus does.
pub struct FloatHistogramEncoder(ChunkWriter<f64>);

impl Default for FloatHistogramEncoder {
    fn default() -> FloatHistogramEncoder {
        FloatHistogramEncoder::new(ResetHint::Unknown)
    }
}

impl FloatHistogramEncoder {
    /// See [`HistogramEncoder::new`].
    pub fn new(header: ResetHint) -> FloatHistogramEncoder {
        FloatHistogramEncoder(ChunkWriter::new(Encoding::FloatHistogram, header))
    }

    /// See [`HistogramEncoder::push`].
    pub fn push(&mut self, t: i64, histogram: &FloatHistogram) -> Result<Pushed, Error> {
        self.0.push(GivenHistogram {
            t,
            hint: histogram.hint,
            layout: Cow::Owned(ChunkLayout {
                schema: histogram.schema,
                zero_threshold: histogram.zero_threshold,
                positive_spans: histogram.positive_spans.clone(),
                negative_spans: histogram.negative_spans.clone(),
                custom_values: histogram.custom_values.clone(),
            }),
            count: histogram.count,
            zero_count: histogram.zero_count,
            sum: histogram.sum,
            positive: Cow::Borrowed(&histogram.positive_buckets),
            negative: Cow::Borrowed(&histogram.negative_buckets),
        })
    }

    /// Samples so far.
    pub fn len(&self) -> usize {
        usize::from(self.0.samples)
    }

    pub fn is_empty(&self) -> bool {
        self.0.samples == 0
    }

    /// Bytes the chunk would have if it were finished now.
    pub fn bytes_len(&self) -> usize {
        self.0.out.len()
    }

    /// The chunk's data.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

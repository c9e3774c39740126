//! Encodings 2, 3, 5 and 6: native histograms of integer and float counts, without and with start
//! times. Reading.
//!
//! ```text
//! 2, 3:  u16 BE samples                          | reset flags, 2 bits of a byte | layout | samples
//! 5, 6:  reset flags, 2 bits | samples, 14 bits  | start time header, a byte     | layout | samples
//! sample: t | count | zero count | sum | positive buckets | negative buckets
//! flags: 00 unknown | 10 reset | 01 no reset | 11 gauge
//! ```
//! `t` is a varbit_int, first as is, then as delta of deltas. The sum is a float64 first, then XOR.
//! Counts are varbit integers (integer form: totals unsigned at first, buckets as differences to
//! the bucket before; then deltas of deltas) or as the sum (float form). A stale sample (by its
//! sum) has no buckets.

use model::FloatHistogram;
use model::histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, MAX_SCHEMA, ResetHint, bucket_count};

use super::Encoding;
use super::bits::BitReader;
use super::counts::{Count, CountField};
use super::layout::ChunkLayout;
use super::start_time::StartTimes;
use super::varbit;
use super::xor::XorState;
use crate::Error;

const WHAT: &str = "histogram chunk";

/// The three bytes before the layout.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistogramHeader {
    pub(super) samples: usize,
    pub(super) hint: ResetHint,
    start_times: StartTimes,
}

pub(super) const HEADER_LEN: usize = 3;

impl HistogramHeader {
    pub(super) fn parse(encoding: Encoding, data: &[u8]) -> Result<HistogramHeader, Error> {
        let &[b0, b1, b2, ..] = data else { return Err(Error::truncated(WHAT, data.len())) };
        let samples = usize::from(u16::from_be_bytes([b0, b1]));
        Ok(match encoding {
            Encoding::HistogramSt | Encoding::FloatHistogramSt => HistogramHeader {
                samples: samples & 0x3fff,
                hint: hint_of(b0),
                start_times: StartTimes::from_header(b2),
            },
            _ => HistogramHeader { samples, hint: hint_of(b2), start_times: StartTimes::default() },
        })
    }
}

/// The byte of the header whose upper two bits are the reset flags.
pub(super) fn flags_at(encoding: Encoding) -> usize {
    match encoding {
        Encoding::HistogramSt | Encoding::FloatHistogramSt => 0,
        _ => 2,
    }
}

fn hint_of(flags: u8) -> ResetHint {
    match flags >> 6 {
        0b10 => ResetHint::Reset,
        0b01 => ResetHint::NotReset,
        0b11 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

pub(super) fn flags_of(hint: ResetHint) -> u8 {
    let bits = match hint {
        ResetHint::Unknown => 0b00,
        ResetHint::Reset => 0b10,
        ResetHint::NotReset => 0b01,
        ResetHint::Gauge => 0b11,
    };
    bits << 6
}

/// One decoded sample. Buckets are absolute counts and belong to the spans of the layout; a stale
/// sample has none.
pub(super) struct DecodedHistogram<'a, C> {
    pub(super) t: i64,
    /// The time of the sample after it.
    pub(super) next: Option<i64>,
    pub(super) hint: ResetHint,
    pub(super) layout: &'a ChunkLayout,
    pub(super) count: C,
    pub(super) zero_count: C,
    pub(super) sum: f64,
    pub(super) positive: &'a [C],
    pub(super) negative: &'a [C],
}

impl<C> DecodedHistogram<'_, C> {
    pub(super) fn is_stale(&self) -> bool {
        model::is_stale_nan(self.sum)
    }
}

/// Calls `emit` with every sample of the chunk.
pub(super) fn decode<C: Count>(
    header: HistogramHeader,
    data: &[u8],
    mut emit: impl FnMut(DecodedHistogram<'_, C>),
) -> Result<(), Error> {
    if header.samples == 0 {
        return Ok(());
    }
    let mut head = BitReader::new(&data[HEADER_LEN..]);
    let layout = ChunkLayout::read(&mut head, header.samples, data.len())?;
    let mut fields = Fields::<C>::read_first(&mut head, &layout);
    let mut t = fields.t;
    let mut delta = 0i64;
    // a separate one, so that nothing before the loop took its address
    let mut reader = head;
    for index in 0..header.samples {
        if index > 0 && !fields.read_next(&mut reader) {
            return Err(Error::corrupt(WHAT, HEADER_LEN, "more than 64 significant bits"));
        }
        header.start_times.skip(&mut reader, index);
        let mut next = None;
        if index + 1 < header.samples {
            delta = delta.wrapping_add(varbit::read_int(&mut reader));
            next = Some(t.wrapping_add(delta));
        }
        if reader.overrun() {
            return Err(Error::truncated(WHAT, data.len()));
        }
        let hint = match header.hint {
            ResetHint::Gauge => ResetHint::Gauge,
            // what the header says is relative to a chunk that may be missing
            _ if index == 0 => ResetHint::Unknown,
            _ => ResetHint::NotReset,
        };
        let (positive, negative) = fields.absolute.split_at(fields.positive);
        emit(DecodedHistogram {
            t,
            next,
            hint,
            layout: &layout,
            count: C::value(&fields.count),
            zero_count: C::value(&fields.zero_count),
            sum: f64::from_bits(fields.sum.bits),
            positive,
            negative,
        });
        t = next.unwrap_or(t);
    }
    Ok(())
}

/// The fields of the current sample.
struct Fields<C: Count> {
    t: i64,
    count: C::Read,
    zero_count: C::Read,
    sum: XorState,
    /// Both sides, positive first.
    buckets: Vec<C::Read>,
    absolute: Vec<C>,
    positive: usize,
}

impl<C: Count> Fields<C> {
    fn read_first(reader: &mut BitReader<'_>, layout: &ChunkLayout) -> Fields<C> {
        let t = varbit::read_int(reader);
        let count = C::read_first(reader, CountField::Total);
        let zero_count = C::read_first(reader, CountField::Total);
        let sum = XorState { bits: reader.read(64), ..XorState::default() };
        let buckets: Vec<C::Read> =
            (0..layout.buckets()).map(|_| C::read_first(reader, CountField::Bucket)).collect();
        let positive = bucket_count(&layout.positive_spans);
        let mut absolute = Vec::with_capacity(buckets.len());
        let mut before = C::default();
        for (i, bucket) in buckets.iter().enumerate() {
            before =
                C::from_stored(C::value(bucket), if i == positive { C::default() } else { before });
            absolute.push(before);
        }
        Fields { t, count, zero_count, sum, buckets, absolute, positive }
    }

    /// False when a field is malformed.
    #[inline(always)]
    fn read_next(&mut self, reader: &mut BitReader<'_>) -> bool {
        self.try_read_next(reader).is_some()
    }

    #[inline(always)]
    fn try_read_next(&mut self, reader: &mut BitReader<'_>) -> Option<()> {
        C::read_next(reader, &mut self.count)?;
        C::read_next(reader, &mut self.zero_count)?;
        reader.refill();
        if model::is_stale_nan(self.sum.read(reader)?) {
            return Some(());
        }
        let (positive, negative) = self.buckets.split_at_mut(self.positive);
        let (positive_counts, negative_counts) = self.absolute.split_at_mut(self.positive);
        C::read_side(reader, positive, positive_counts)?;
        C::read_side(reader, negative, negative_counts)
    }
}

/// A sample of either form of counts.
pub(super) enum AnySample<'a> {
    Integers(DecodedHistogram<'a, i64>),
    Floats(DecodedHistogram<'a, f64>),
}

/// Appends the samples of a chunk of encoding 2, 3, 5 or 6, which `histogram` makes from its input
/// and those appended so far; appends nothing when it fails.
pub(super) fn decode_floats<H>(
    encoding: Encoding,
    data: &[u8],
    ts: &mut Vec<i64>,
    values: &mut Vec<H>,
    mut histogram: impl FnMut(AnySample<'_>, &[H]) -> H,
) -> Result<(), Error> {
    let header = HistogramHeader::parse(encoding, data)?;
    let (old_ts, old_values) = (ts.len(), values.len());
    let mut push = |sample: AnySample<'_>| {
        ts.push(sample.t());
        values.push(histogram(sample, &values[old_values..]));
    };
    let result = match encoding {
        Encoding::Histogram | Encoding::HistogramSt => {
            decode::<i64>(header, data, |sample| push(AnySample::Integers(sample)))
        }
        _ => decode::<f64>(header, data, |sample| push(AnySample::Floats(sample))),
    };
    if result.is_err() {
        ts.truncate(old_ts);
        values.truncate(old_values);
    }
    result
}

impl AnySample<'_> {
    pub(super) fn t(&self) -> i64 {
        match self {
            AnySample::Integers(sample) => sample.t,
            AnySample::Floats(sample) => sample.t,
        }
    }

    /// The time of the sample after it.
    pub(super) fn next(&self) -> Option<i64> {
        match self {
            AnySample::Integers(sample) => sample.next,
            AnySample::Floats(sample) => sample.next,
        }
    }

    /// Whether it is one of a counter that was not reset before it.
    pub(super) fn goes_on(&self) -> bool {
        let (hint, stale) = match self {
            AnySample::Integers(sample) => (sample.hint, sample.is_stale()),
            AnySample::Floats(sample) => (sample.hint, sample.is_stale()),
        };
        hint == ResetHint::NotReset && !stale
    }

    /// Turns `histogram` into the sample, reusing its memory.
    pub(super) fn fill(&self, histogram: &mut FloatHistogram) {
        match self {
            AnySample::Integers(sample) => {
                fill(histogram, sample, |total| total as u64 as f64, |count| count as f64);
            }
            AnySample::Floats(sample) => fill(histogram, sample, |total| total, |count| count),
        }
    }
}

/// `total` makes floats of the counts of all observations and of those at zero, `float` of the
/// counts of buckets.
#[inline(always)]
fn fill<C: Copy>(
    histogram: &mut FloatHistogram,
    sample: &DecodedHistogram<'_, C>,
    total: impl Fn(C) -> f64,
    float: impl Fn(C) -> f64 + Copy,
) {
    if sample.is_stale() {
        *histogram = FloatHistogram { sum: sample.sum, ..FloatHistogram::default() };
        return;
    }
    let layout = sample.layout;
    (histogram.schema, histogram.hint) = (layout.schema, sample.hint);
    (histogram.zero_threshold, histogram.zero_count) =
        (layout.zero_threshold, total(sample.zero_count));
    (histogram.count, histogram.sum) = (total(sample.count), sample.sum);
    // usually those of the histogram that was there before
    let spans = [
        (&mut histogram.positive_spans, &layout.positive_spans),
        (&mut histogram.negative_spans, &layout.negative_spans),
    ];
    for (to, from) in spans.into_iter().filter(|(to, from)| to != from) {
        to.clone_from(from);
    }
    if histogram.custom_values != layout.custom_values {
        histogram.custom_values.clone_from(&layout.custom_values);
    }
    for (to, from) in [
        (&mut histogram.positive_buckets, sample.positive),
        (&mut histogram.negative_buckets, sample.negative),
    ] {
        to.clear();
        to.extend(from.iter().map(|count| float(*count)));
    }
    if histogram.schema > MAX_SCHEMA && histogram.schema != CUSTOM_BUCKETS_SCHEMA {
        histogram.reduce_resolution(MAX_SCHEMA);
    }
}

/// As [`decode_floats`], only for the integer encodings 2 and 5.
pub(super) fn decode_integers(
    encoding: Encoding,
    data: &[u8],
    ts: &mut Vec<i64>,
    values: &mut Vec<Histogram>,
) -> Result<(), Error> {
    let header = HistogramHeader::parse(encoding, data)?;
    let (old_ts, old_values) = (ts.len(), values.len());
    let result = decode::<i64>(header, data, |sample| {
        ts.push(sample.t);
        values.push(integer_histogram(&sample));
    });
    if result.is_err() {
        ts.truncate(old_ts);
        values.truncate(old_values);
    }
    result
}

fn integer_histogram(sample: &DecodedHistogram<'_, i64>) -> Histogram {
    if sample.is_stale() {
        return Histogram { sum: sample.sum, ..Histogram::default() };
    }
    let deltas = |counts: &[i64]| {
        let before = std::iter::once(0).chain(counts.iter().copied());
        counts.iter().zip(before).map(|(count, before)| count.wrapping_sub(before)).collect()
    };
    let mut histogram = Histogram {
        schema: sample.layout.schema,
        hint: sample.hint,
        zero_threshold: sample.layout.zero_threshold,
        zero_count: sample.zero_count as u64,
        count: sample.count as u64,
        sum: sample.sum,
        positive_spans: sample.layout.positive_spans.clone(),
        negative_spans: sample.layout.negative_spans.clone(),
        positive_buckets: deltas(sample.positive),
        negative_buckets: deltas(sample.negative),
        custom_values: sample.layout.custom_values.clone(),
    };
    histogram.reduce_resolution(MAX_SCHEMA);
    histogram
}

#[cfg(test)]
mod tests;

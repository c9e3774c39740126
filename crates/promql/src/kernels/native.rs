//! Functions and operators of native histograms.

mod operators;

use model::FloatHistogram;
use model::histogram::{HistogramBucket, UnboundedBucket};

use super::kahan;
use super::notes::{Note, Notes};

pub use operators::{ComputedValue, Operand, binary, compare, negate};

/// The last bucket of a walk over a histogram that has none.
const NO_BUCKET: HistogramBucket = HistogramBucket {
    lower: 0.0,
    upper: 0.0,
    lower_inclusive: false,
    upper_inclusive: false,
    count: 0.0,
    index: 0,
};

/// The φ-quantile: exponential interpolation inside exponential buckets, linear inside custom ones
/// and the zero bucket. NaN without observations; ±Inf where φ is outside `[0, 1]`.
///
/// Observations of NaN are in no bucket. They count as larger than any other.
pub fn quantile(q: f64, h: &FloatHistogram, notes: &mut Notes) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if h.count == 0.0 || q.is_nan() {
        return f64::NAN;
    }
    if h.sum.is_nan() || q < 0.5 {
        // NaN is above all buckets, so ranks can only be counted from below
        quantile_at(q * h.count, true, h.ascending(), h, notes)
    } else {
        quantile_at((1.0 - q) * h.count, false, h.descending(), h, notes)
    }
}

/// The value with `rank` observations on the side the buckets come from.
fn quantile_at(
    rank: f64,
    from_below: bool,
    mut buckets: impl Iterator<Item = UnboundedBucket>,
    h: &FloatHistogram,
    notes: &mut Notes,
) -> f64 {
    let (last, count) = walk_to(rank, &mut buckets);
    let mut bucket = last.map_or(NO_BUCKET, |last| h.bounded(last));
    if h.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return bucket.upper;
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return bucket.lower;
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        end_at_zero_beside_one_side(&mut bucket, h);
    }
    // rounding may make the buckets hold more than there is
    let count = at_most(count, h.count);
    if count < rank {
        if h.sum.is_nan() {
            notes.push(Note::QuantileOfNanIsNan);
            return f64::NAN;
        }
        return bucket.upper;
    }
    let into_bucket = if from_below { rank - (count - bucket.count) } else { count - rank };
    if h.sum.is_nan() {
        let mut all = count;
        for rest in buckets {
            all += rest.count;
            // Prometheus continues with the highest bucket once it has looked at all
            bucket = h.bounded(rest);
        }
        if all < h.count {
            notes.push(Note::QuantileSkewedByNan);
        }
    }
    interpolate(&bucket, into_bucket / bucket.count, h.uses_custom_buckets())
}

/// Takes buckets until they hold `rank` observations; returns the last one taken and what all of
/// them hold.
fn walk_to(
    rank: f64,
    buckets: &mut impl Iterator<Item = UnboundedBucket>,
) -> (Option<UnboundedBucket>, f64) {
    let (mut last, mut count) = (None, 0.0);
    for bucket in buckets {
        last = Some(bucket);
        count += bucket.count;
        if bucket.count != 0.0 && count >= rank {
            break;
        }
    }
    (last, count)
}

/// The smaller; a NaN stays.
fn at_most(v: f64, limit: f64) -> f64 {
    if v > limit { limit } else { v }
}

/// Beside positive buckets only, or negative ones only, the zero bucket holds only those of its
/// side.
fn end_at_zero_beside_one_side(zero_bucket: &mut HistogramBucket, h: &FloatHistogram) {
    match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
        (true, false) => zero_bucket.lower = 0.0,
        (false, true) => zero_bucket.upper = 0.0,
        _ => {}
    }
}

/// The value at this fraction of a bucket, on the scale its observations are spread over.
fn interpolate(bucket: &HistogramBucket, fraction: f64, custom: bool) -> f64 {
    let HistogramBucket { lower, upper, .. } = *bucket;
    if custom || (lower <= 0.0 && upper >= 0.0) {
        return lower + (upper - lower) * fraction;
    }
    let (log_lower, log_upper) = (lower.abs().log2(), upper.abs().log2());
    if lower > 0.0 {
        (log_lower + (log_upper - log_lower) * fraction).exp2()
    } else {
        -(log_upper + (log_lower - log_upper) * (1.0 - fraction)).exp2()
    }
}

/// The share of the observations between two bounds, interpolated as [`quantile`] does, except that
/// a custom bucket around zero is assumed to begin there. Observations of NaN are between no
/// bounds.
pub fn fraction(lower: f64, upper: f64, h: &FloatHistogram, notes: &mut Notes) -> f64 {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut below_lower, mut below_upper) = (None, None);
    let (mut rank, mut count) = (0.0, 0.0);
    let mut buckets = h.ascending();
    for bucket in buckets.by_ref() {
        count += bucket.count;
        let bucket = Ranked::new(h.bounded(bucket), rank, h);
        below_lower = below_lower.or_else(|| bucket.rank_of(lower));
        below_upper = below_upper.or_else(|| bucket.rank_of(upper));
        if below_lower.is_some() && below_upper.is_some() {
            break;
        }
        rank += bucket.bucket.count;
    }
    if h.sum.is_nan() {
        count = buckets.fold(count, |count, bucket| count + bucket.count);
        if count < h.count {
            notes.push(Note::FractionExcludesNan);
        }
    } else {
        count = h.count;
    }
    let clamped = |below: Option<f64>| at_most(below.unwrap_or(count), count);
    (clamped(below_upper) - clamped(below_lower)) / h.count
}

/// A bucket, and how many observations are below it.
struct Ranked {
    bucket: HistogramBucket,
    below: f64,
    linear: bool,
}

impl Ranked {
    fn new(mut bucket: HistogramBucket, below: f64, h: &FloatHistogram) -> Ranked {
        let at_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if at_zero {
            end_at_zero_beside_one_side(&mut bucket, h);
        }
        Ranked { bucket, below, linear: at_zero || h.uses_custom_buckets() }
    }

    /// How many observations are below `v`, unless it is above the bucket.
    fn rank_of(&self, v: f64) -> Option<f64> {
        let HistogramBucket { lower, upper, count, .. } = self.bucket;
        if lower >= v {
            return Some(self.below);
        }
        if upper <= v {
            return None;
        }
        if self.linear && lower == f64::NEG_INFINITY {
            return Some(count);
        }
        Some(self.below + count * self.bucket.fraction_below(v, self.linear))
    }
}

pub fn count(h: &FloatHistogram) -> f64 {
    h.count
}

pub fn sum(h: &FloatHistogram) -> f64 {
    h.sum
}

pub fn average(h: &FloatHistogram) -> f64 {
    h.sum / h.count
}

pub fn stddev(h: &FloatHistogram) -> f64 {
    stdvar(h).sqrt()
}

/// The variance, assuming that the observations of a bucket are in its middle: the geometric one of
/// exponential buckets, the arithmetic one of custom ones, zero of those around it.
pub fn stdvar(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut squares, mut lost) = (0.0, 0.0);
    for bucket in h.ascending().filter(|bucket| bucket.count != 0.0) {
        let delta = middle(&h.bounded(bucket), h.uses_custom_buckets()) - mean;
        (squares, lost) = kahan::add(bucket.count * delta * delta, squares, lost);
    }
    (squares + lost) / h.count
}

fn middle(bucket: &HistogramBucket, custom: bool) -> f64 {
    let HistogramBucket { lower, upper, .. } = *bucket;
    if custom {
        return (upper + lower) / 2.0;
    }
    if lower <= 0.0 && upper >= 0.0 {
        return 0.0;
    }
    let middle = (upper * lower).sqrt();
    if upper < 0.0 { -middle } else { middle }
}

#[cfg(test)]
mod tests;

//! Cutting a histogram off at a bound: PromQL's operators `</` and `>/`.

use super::{FloatHistogram, HistogramBucket};

/// Which observations stay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeptSide {
    Below,
    Above,
}

/// What stays of a bucket, and where its observations are assumed to be for the new sum.
#[derive(Clone, Copy)]
struct Kept {
    count: f64,
    at: f64,
}

const NOTHING: Kept = Kept { count: 0.0, at: 0.0 };

/// How observations spread over a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BucketSpread {
    /// Custom buckets.
    Linear,
    /// Exponential ones above and below zero.
    Positive,
    Negative,
}

impl FloatHistogram {
    /// Keeps the observations up to `bound`. The bucket the bound lies in is interpolated; count
    /// and sum are estimated again from the buckets if any of them lost something.
    pub fn trim_upper(&mut self, bound: f64) {
        self.trim(KeptSide::Below, bound);
    }

    /// As [`trim_upper`](Self::trim_upper), keeping the observations above `bound`.
    pub fn trim_lower(&mut self, bound: f64) {
        self.trim(KeptSide::Above, bound);
    }

    fn trim(&mut self, keep: KeptSide, bound: f64) {
        let positive_layout =
            if self.uses_custom_buckets() { BucketSpread::Linear } else { BucketSpread::Positive };
        let negative_layout =
            if self.uses_custom_buckets() { BucketSpread::Linear } else { BucketSpread::Negative };
        let positive: Vec<HistogramBucket> = self.positive_buckets().collect();
        let negative: Vec<HistogramBucket> = self.negative_buckets().collect();
        let mut trimmed = Trimmed::default();
        for (bucket, count) in positive.iter().zip(&mut self.positive_buckets) {
            trimmed.keep(count, trim_bucket(bucket, keep, bound, positive_layout));
        }
        for (bucket, count) in negative.iter().zip(&mut self.negative_buckets) {
            trimmed.keep(count, trim_bucket(bucket, keep, bound, negative_layout));
        }
        if self.zero_count > 0.0 {
            let populated =
                |buckets: &[HistogramBucket]| buckets.iter().any(|bucket| bucket.count != 0.0);
            let (lower, upper) = match (populated(&negative), populated(&positive)) {
                (true, false) => (-self.zero_threshold, 0.0),
                (false, true) => (0.0, self.zero_threshold),
                _ => (-self.zero_threshold, self.zero_threshold),
            };
            let kept = trim_zero_bucket(
                HistogramBucket { lower, upper, ..self.zero_bucket() },
                keep,
                bound,
            );
            trimmed.keep(&mut self.zero_count, kept);
        }
        if trimmed.any {
            (self.count, self.sum) = (trimmed.count, trimmed.sum);
            self.compact(0);
        }
    }
}

/// The totals of what is kept.
#[derive(Default)]
struct Trimmed {
    any: bool,
    count: f64,
    sum: f64,
}

impl Trimmed {
    fn keep(&mut self, count: &mut f64, kept: Kept) {
        if *count == 0.0 {
            return;
        }
        self.count += kept.count;
        self.sum += kept.at * kept.count;
        self.any |= *count != kept.count;
        *count = kept.count;
    }
}

fn trim_bucket(bucket: &HistogramBucket, keep: KeptSide, bound: f64, layout: BucketSpread) -> Kept {
    let (whole, cut) = match keep {
        KeptSide::Below => (bucket.upper <= bound, bucket.lower < bound),
        KeptSide::Above => (bucket.lower >= bound, bucket.upper > bound),
    };
    if whole {
        return Kept { count: bucket.count, at: middle(bucket.lower, bucket.upper, layout) };
    }
    if !cut {
        return NOTHING;
    }
    if bucket.lower == f64::NEG_INFINITY {
        return trim_lowest(bucket, keep, bound);
    }
    if bucket.upper == f64::INFINITY {
        // where its observations lie is unknown, so they are all assumed to be at the bound or
        // beyond it
        return match keep {
            KeptSide::Above if bound >= bucket.lower => Kept { count: bucket.count, at: bound },
            KeptSide::Above | KeptSide::Below => NOTHING,
        };
    }
    let below = bucket.count * bucket.fraction_below(bound, layout == BucketSpread::Linear);
    match keep {
        KeptSide::Below => Kept { count: below, at: middle(bucket.lower, bound, layout) },
        KeptSide::Above => {
            Kept { count: bucket.count - below, at: middle(bound, bucket.upper, layout) }
        }
    }
}

/// A bucket without a lower bound begins at 0 if it ends above; if not, its observations are
/// assumed to be low.
fn trim_lowest(bucket: &HistogramBucket, keep: KeptSide, bound: f64) -> Kept {
    let from_zero = bucket.upper > 0.0 && bucket.upper.is_finite();
    match keep {
        KeptSide::Below if bound > 0.0 && from_zero => {
            Kept { count: bucket.count * bound / bucket.upper, at: bound / 2.0 }
        }
        KeptSide::Below if bucket.upper <= 0.0 => Kept { count: bucket.count, at: bound },
        KeptSide::Above if bound >= 0.0 && from_zero => Kept {
            count: bucket.count * (1.0 - bound / bucket.upper),
            at: (bound + bucket.upper) / 2.0,
        },
        KeptSide::Below | KeptSide::Above => NOTHING,
    }
}

fn trim_zero_bucket(bucket: HistogramBucket, keep: KeptSide, bound: f64) -> Kept {
    let HistogramBucket { lower, upper, count, .. } = bucket;
    let whole = Kept { count, at: (lower + upper) / 2.0 };
    match keep {
        KeptSide::Below if bound <= lower => NOTHING,
        KeptSide::Below if bound >= upper => whole,
        KeptSide::Below => {
            Kept { count: count * ((bound - lower) / (upper - lower)), at: (lower + bound) / 2.0 }
        }
        KeptSide::Above if bound <= lower => whole,
        KeptSide::Above if bound >= upper => NOTHING,
        KeptSide::Above => {
            Kept { count: count * ((upper - bound) / (upper - lower)), at: (bound + upper) / 2.0 }
        }
    }
}

/// The middle of an interval, on the scale its observations are spread over.
fn middle(lower: f64, upper: f64, layout: BucketSpread) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) => match layout {
            BucketSpread::Linear => (lower + upper) / 2.0,
            BucketSpread::Positive => (lower * upper).abs().sqrt(),
            BucketSpread::Negative => -(lower * upper).abs().sqrt(),
        },
    }
}

#[cfg(test)]
mod tests;

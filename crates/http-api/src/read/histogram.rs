//! Makes native histograms from the buckets in JSON.
//!
//! An answer gives a bucket by its bounds, not by schema and index, and only if it holds something.
//! So this looks for the layout in which exactly these bounds are buckets. The result is written in
//! the same way as it was read.

use model::FloatHistogram;
use model::histogram::{
    BucketSpan, CUSTOM_BUCKETS_SCHEMA, HistogramBucket, MAX_SCHEMA, MIN_SCHEMA, spans_of,
};

use super::parts::Number;

#[derive(serde::Deserialize)]
#[serde(expecting = "a histogram")]
pub(super) struct HistogramJson {
    count: Number,
    sum: Number,
    #[serde(default)]
    buckets: Vec<BucketJson>,
}

/// Which ends belong to the bucket (0 the upper, 1 the lower, 2 none, 3 both), lower and upper
/// bound, count.
#[derive(serde::Deserialize)]
#[serde(expecting = "a bucket: which ends it includes, its bounds and its count")]
struct BucketJson(u8, Number, Number, Number);

/// A bucket of an answer.
#[derive(Clone, Copy, Debug)]
struct GivenBucket {
    lower: f64,
    upper: f64,
    lower_inclusive: bool,
    upper_inclusive: bool,
    count: f64,
}

impl GivenBucket {
    fn of(BucketJson(ends, lower, upper, count): &BucketJson) -> Result<GivenBucket, String> {
        let (lower_inclusive, upper_inclusive) = match ends {
            0 => (false, true),
            1 => (true, false),
            2 => (false, false),
            3 => (true, true),
            other => {
                return Err(format!("a bucket includes the ends {other}, expected 0, 1, 2 or 3"));
            }
        };
        Ok(GivenBucket {
            lower: lower.0,
            upper: upper.0,
            lower_inclusive,
            upper_inclusive,
            count: count.0,
        })
    }

    fn is(&self, bucket: &HistogramBucket) -> bool {
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        same(self.lower, bucket.lower)
            && same(self.upper, bucket.upper)
            && same(self.count, bucket.count)
            && (self.lower_inclusive, self.upper_inclusive)
                == (bucket.lower_inclusive, bucket.upper_inclusive)
    }

    fn is_zero_bucket(&self) -> bool {
        self.lower_inclusive
            && self.upper_inclusive
            && self.lower == -self.upper
            && self.upper.is_finite()
    }
}

/// # Errors
/// When the buckets do not fit any layout.
pub(super) fn from_json(json: &HistogramJson) -> Result<FloatHistogram, String> {
    let mut given = json.buckets.iter().map(GivenBucket::of).collect::<Result<Vec<_>, _>>()?;
    given.retain(|bucket| bucket.count != 0.0);
    let fits = |layout: &FloatHistogram| written_as(layout, &given);
    let of_any_schema = |zero: ZeroBucket| {
        schemas().filter_map(|schema| exponential(&given, schema, zero)).find(fits)
    };
    let layout = of_any_schema(ZeroBucket::named(&given))
        .or_else(|| custom(&given).filter(fits))
        .or_else(|| of_any_schema(ZeroBucket::cutting(&given)?))
        .ok_or("the buckets of a histogram are not those of any schema")?;
    Ok(FloatHistogram { count: json.count.0, sum: json.sum.0, ..layout })
}

/// All schemas, first the one assumed for a histogram without buckets.
fn schemas() -> impl Iterator<Item = i32> {
    (0..=MAX_SCHEMA).chain(MIN_SCHEMA..0)
}

#[derive(Clone, Copy, Debug, Default)]
struct ZeroBucket {
    threshold: f64,
    count: f64,
}

impl ZeroBucket {
    fn named(given: &[GivenBucket]) -> ZeroBucket {
        let of = |bucket: &GivenBucket| ZeroBucket { threshold: bucket.upper, count: bucket.count };
        given.iter().find(|bucket| bucket.is_zero_bucket()).map(of).unwrap_or_default()
    }

    /// An empty zero bucket is not written, but cuts off the bucket next to it.
    fn cutting(given: &[GivenBucket]) -> Option<ZeroBucket> {
        let nearest = given.iter().map(|bucket| bucket.lower.abs().min(bucket.upper.abs()));
        let threshold = nearest.fold(f64::INFINITY, f64::min);
        threshold.is_finite().then_some(ZeroBucket { threshold, count: 0.0 })
    }
}

/// Whether an answer would write this histogram with the given buckets.
fn written_as(layout: &FloatHistogram, given: &[GivenBucket]) -> bool {
    let buckets = layout.all_buckets().into_iter().filter(|bucket| bucket.count != 0.0);
    buckets.clone().count() == given.len()
        && buckets.zip(given).all(|(bucket, given)| given.is(&bucket))
}

/// The layout of an exponential schema, where every bound is near to one of its own.
fn exponential(given: &[GivenBucket], schema: i32, zero: ZeroBucket) -> Option<FloatHistogram> {
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for bucket in given.iter().filter(|bucket| !bucket.is_zero_bucket()) {
        let (side, outer) = match bucket.upper > 0.0 {
            true => (&mut positive, bucket.upper),
            false => (&mut negative, -bucket.lower),
        };
        side.push((index_of(outer, schema)?, bucket.count));
    }
    // they are given in order of their bounds, and kept in that of their distance from zero
    negative.reverse();
    let (positive, negative) = (ReadBuckets::of(&positive)?, ReadBuckets::of(&negative)?);
    Some(FloatHistogram {
        schema,
        zero_threshold: zero.threshold,
        zero_count: zero.count,
        positive_spans: positive.spans,
        positive_buckets: positive.counts,
        negative_spans: negative.spans,
        negative_buckets: negative.counts,
        ..FloatHistogram::default()
    })
}

/// The positive or the negative buckets.
struct ReadBuckets {
    spans: Vec<BucketSpan>,
    counts: Vec<f64>,
}

impl ReadBuckets {
    /// The buckets with these indices and counts; `None` unless the indices ascend.
    fn of(buckets: &[(i32, f64)]) -> Option<ReadBuckets> {
        buckets.is_sorted_by(|a, b| a.0 < b.0).then(|| ReadBuckets {
            spans: spans_of(buckets.iter().map(|(index, _)| *index)),
            counts: buckets.iter().map(|(_, count)| *count).collect(),
        })
    }
}

/// The bucket of a schema that ends at this distance from zero, if any does.
fn index_of(bound: f64, schema: i32) -> Option<i32> {
    let per_power = 2f64.powi(schema);
    // what is above the greatest finite bound has no end
    let index = if bound == f64::INFINITY {
        (1024.0 * per_power).floor() + 1.0
    } else {
        bound.log2() * per_power
    };
    let nearest = index.round();
    ((index - nearest).abs() < 1e-6 && nearest.abs() < f64::from(i32::MAX))
        .then_some(nearest as i32)
}

/// The layout whose boundaries are all the given bounds.
fn custom(given: &[GivenBucket]) -> Option<FloatHistogram> {
    let mut bounds: Vec<f64> =
        given.iter().flat_map(|bucket| [bucket.lower, bucket.upper]).collect();
    bounds.retain(|bound| bound.is_finite());
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    let index = |upper: f64| bounds.partition_point(|bound| *bound < upper) as i32;
    let buckets: Vec<(i32, f64)> =
        given.iter().map(|bucket| (index(bucket.upper), bucket.count)).collect();
    let ReadBuckets { spans, counts } = ReadBuckets::of(&buckets)?;
    Some(FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: spans,
        positive_buckets: counts,
        custom_values: bounds,
        ..FloatHistogram::default()
    })
}
